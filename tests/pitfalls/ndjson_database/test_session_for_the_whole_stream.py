"""docs/pitfalls/bytes.md: QueuePool limit of size 2 overflow 0 reached."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit import servers
from tests.kit.servers import raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

WRONG = "recipes.pitfalls.ndjson_database.session_for_the_whole_stream:app"
RIGHT = "recipes.ndjson_database:app"
LIMIT = "QueuePool limit of size 2 overflow 0 reached, connection timed out"


@pytest.mark.parametrize(
    ("app", "path", "served"),
    [
        (WRONG, "/a?limit=100000", False),
        (RIGHT, "/rows", True),
        (RIGHT, "/database", True),
    ],
)
def test_two_clients_that_stop_reading_leave_nothing_for_the_third(
    app: str, path: str, served: bool, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/orders.sqlite"}
    with uvicorn(app, env=env, warm=True) as server, ExitStack() as stack:
        for _ in range(2):
            stalled = stack.enter_context(raw_get(server.port, path))
            stalled.chunk()
        with raw_get(server.port, path) as answer:
            assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
            if served:
                assert answer.chunk()
            else:
                with pytest.raises(EOFError, match="cut off"):
                    answer.chunk()
                server.expect(LIMIT)
