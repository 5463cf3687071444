"""docs/pitfalls/events.md: My feed skips rows of PostgreSQL that are in the table."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.kit import servers
from tests.kit.postgres import Postgres
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 60)

APP = "recipes.pitfalls.sse_database.commit_order:app"


@pytest.fixture(scope="module")
def server(real_postgres: Postgres) -> Iterator[Server]:
    with uvicorn(APP, env={"DATABASE_URL": real_postgres.url}, warm=True) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "sent"), [("/as-they-come", [2]), ("/in-turn", [1, 2])]
)
def test_a_row_whose_transaction_is_overtaken_is_sent_only_if_writers_take_turns(
    server: Server, path: str, sent: list[int]
) -> None:
    for _ in range(2):  # It can be asked again.
        answer = httpx2.get(f"{server.url}{path}")
        assert answer.json() == {"sent": sent, "in_the_table": [1, 2]}
