"""docs/pitfalls/bytes.md: COPY TO STDOUT fills the memory of the server."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus

import httpx2
import pytest

from recipes.ndjson_database import Order, sample
from tests.kit import servers
from tests.kit.postgres import Postgres
from tests.kit.servers import Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 60)

APP = "recipes.pitfalls.ndjson_database.copy_into_memory:app"


@pytest.fixture(scope="module")
def server(real_postgres: Postgres) -> Iterator[Server]:
    with uvicorn(APP, env={"DATABASE_URL": real_postgres.url}, warm=True) as running:
        yield running


def test_the_whole_export_is_made_before_its_first_byte_is_sent(server: Server) -> None:
    with raw_get(server.port, "/whole.csv") as answer:
        assert "\r\ncontent-length: 69" in answer.head.lower()
    with raw_get(server.port, "/orders.csv") as answer:
        assert "\r\ntransfer-encoding: chunked" in answer.head.lower()
        sizes = [len(chunk) for chunk in iter(answer.chunk, b"")]
    assert len(sizes) == 1 + 50  # the header, and 2,000 rows each
    assert max(sizes) < 200_000


def rows(text: str) -> list[Order]:
    header, *table = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    for cells in table:
        row: dict[str, object] = dict(zip(header, cells, strict=True))
        # PostgreSQL writes "2026-01-01 09:00:00.25+00", which is ISO 8601 as well.
        row["placed_at"] = datetime.fromisoformat(str(row["placed_at"]))
        found.append(Order.model_validate(row))
    return found


@pytest.mark.parametrize(
    "query", ["limit=4001", "state=paid&limit=3000", "after=99990"]
)
def test_page_by_page_the_rows_are_those_of_the_json(
    server: Server, query: str
) -> None:
    text = httpx2.get(f"{server.url}/orders.csv?{query}").text
    found = rows(text)
    assert found == [sample(order.id) for order in found]
    assert len(found) == {"l": 4001, "s": 3000, "a": 10}[query[0]]


def test_no_orders_are_a_header(server: Server) -> None:
    text = httpx2.get(f"{server.url}/orders.csv?after=2147483647").text
    assert text == "id,placed_at,customer,item,quantity,price,state\n"


def test_a_wrong_filter_is_refused(server: Server) -> None:
    response = httpx2.get(f"{server.url}/orders.csv?state=lost")
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert json.loads(response.text)["detail"]


def test_a_failure_breaks_the_connection_off(
    server: Server, real_postgres: Postgres
) -> None:
    rename = "ALTER TABLE {} RENAME TO {}"
    with raw_get(server.port, "/orders.csv") as answer:
        for _ in range(3):
            answer.chunk()
        real_postgres.run(rename.format("orders", "away"))
        try:
            with pytest.raises(EOFError, match="cut off"):
                answer.rest()
        finally:
            real_postgres.run(rename.format("away", "orders"))
    server.expect("The export broke off.")
