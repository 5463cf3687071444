"""docs/recipes/ndjson_database.md: its claims on real servers and both databases."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from recipes.ndjson_database import Order, sample
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.postgres import Postgres, programs
from tests.kit.servers import Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

ROUTES = ["/models", "/rows", "/database"]
APP = "recipes.ndjson_database:app"
every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Give the address of an empty database."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("database")
        return f"sqlite+aiosqlite:///{folder}/orders.sqlite"
    running: Postgres = request.getfixturevalue("real_postgres")
    return running.url


@pytest.fixture(scope="module")
def server(url: str) -> Iterator[Server]:
    with uvicorn(APP, env={"DATABASE_URL": url}, warm=True) as running:
        assert "Wrote 100,000 of 100,000 orders" in running.output()
        yield running


def execute(url: str, statement: str) -> str:
    """Run a statement as another program would, and give the first value."""
    if url.startswith("sqlite"):
        # No patience: what is locked fails at once.
        with sqlite3.connect(url.partition("///")[2], timeout=0) as connection:
            row = connection.execute(statement).fetchone()
            return str(row[0]) if row else ""
    port = int(re.findall(r":(\d+)/", url)[0])
    folder = programs()
    assert folder
    server = Postgres(port, 0, folder, url.rpartition("/")[2])
    return server.run(statement)


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


@every_route
def test_both_databases_give_the_same_orders(server: Server, route: str) -> None:
    with raw_get(server.port, f"{route}?limit=5000") as answer:
        *rows, end = lines(answer.rest())
    assert end == {"done": True, "rows": 5000}
    found = [Order.model_validate(row) for row in rows]
    assert found == [sample(number) for number in range(1, 5001)]
    assert [row["price"] for row in rows] == [str(order.price) for order in found]


@every_route
def test_five_clients_that_stop_reading_block_nobody(
    server: Server, route: str
) -> None:
    """Attack: Five clients stop reading: others are served."""
    with ExitStack() as stack:
        stalled = [
            stack.enter_context(raw_get(server.port, f"{route}?limit=100000"))
            for _ in range(5)
        ]
        for other in ROUTES:
            with raw_get(server.port, f"{other}?limit=3000") as answer:
                assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
                assert lines(answer.rest())[-1] == {"done": True, "rows": 3000}
        # They were served no worse: one of them begins to read again.
        assert lines(stalled[0].rest())[-1] == {"done": True, "rows": 100_000}


@every_route
def test_a_writer_is_not_blocked_by_a_client_that_stops_reading(
    server: Server, url: str, route: str
) -> None:
    with raw_get(server.port, f"{route}?limit=100000") as answer:
        first = answer.chunk()
        execute(url, "UPDATE orders SET state = state WHERE id = 99999")
        rest = answer.rest()
    assert lines(first + rest)[-1] == {"done": True, "rows": 100_000}


@every_route
def test_clients_that_leave_at_any_moment_cost_the_next_one_nothing(
    server: Server, route: str
) -> None:
    for number in range(12):
        with raw_get(server.port, f"{route}?limit=100000") as answer:
            for _ in range(number % 4):
                answer.chunk()
            if number % 2:
                answer.abort()
    for _ in range(3):  # more than the pool has connections
        with raw_get(server.port, f"{route}?limit=10") as answer:
            assert lines(answer.rest())[-1] == {"done": True, "rows": 10}
    output = server.output()
    assert "Traceback" not in output
    assert "Task was destroyed" not in output


@every_route
def test_a_database_that_goes_away_in_mid_stream_is_a_last_line(
    server: Server, url: str, route: str
) -> None:
    with raw_get(server.port, f"{route}?limit=100000") as answer:
        first = answer.chunk()
        execute(url, "ALTER TABLE orders RENAME TO away")
        try:
            *rows, end = lines(first + answer.rest())
        finally:
            execute(url, "ALTER TABLE away RENAME TO orders")
    assert end == {"done": False, "rows": len(rows)}
    assert len(rows) < 100_000
    server.expect(f"An export failed after {len(rows)} rows")
    with raw_get(server.port, f"{route}?after={rows[-1]['id']}") as answer:
        assert lines(answer.rest())[-1] == {"done": True, "rows": 100_000 - len(rows)}


def test_postgresql_that_cuts_its_connections_is_a_last_line(
    real_postgres: Postgres,
) -> None:
    url = real_postgres.url
    cut = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"""
    with uvicorn(APP, env={"DATABASE_URL": url}, warm=True) as server:
        with raw_get(server.port, "/models?limit=100000") as answer:
            first = answer.chunk()
            assert int(execute(url, cut)) >= 1
            *rows, end = lines(first + answer.rest())
        assert end == {"done": False, "rows": len(rows)}
        with raw_get(server.port, "/models?limit=10") as answer:
            assert lines(answer.rest())[-1] == {"done": True, "rows": 10}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_four_processes_that_start_at_once_one_makes_the_table(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.sqlite"
    if database == "postgresql":
        running: Postgres = request.getfixturevalue("real_postgres")
        execute(running.url, "CREATE DATABASE another")
        url = running.url.removesuffix("postgres") + "another"

    def start(_: int) -> tuple[str, bytes]:
        with (
            uvicorn(APP, env={"DATABASE_URL": url}, warm=True) as server,
            raw_get(server.port, "/rows?after=99990") as answer,
        ):
            return server.output(), answer.rest()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(start, range(4)))
    made = [output.count("Wrote 100,000 of 100,000") for output, _ in found]
    assert sorted(made) == [0, 0, 0, 1]
    assert {body.splitlines()[-1] for _, body in found} == {b'{"done":true,"rows":10}'}
    assert execute(url, "SELECT count(*) FROM orders") == "100000"


@pytest.mark.parametrize("name", ["ndjson_database.py", "ndjson_database.mjs"])
def test_the_clients_print_the_orders_and_that_these_are_all(
    server: Server, tmp_path: Path, name: str
) -> None:
    done = clients.run(name, server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    *orders, last = done.stdout.splitlines()
    assert last == "These are all the orders."
    assert len(orders) == 5000
    assert re.fullmatch(r"1 2026-01-01T09:00:00.25\S+ Zoë 24.99", orders[0])


@pytest.mark.parametrize("name", ["ndjson_database.py", "ndjson_database.mjs"])
def test_the_clients_say_where_to_go_on_when_the_stream_is_not_complete(
    tmp_path: Path, name: str
) -> None:
    with uvicorn("tests.servers.cut_ndjson_database:app", warm=True) as server:
        done = clients.run(name, server.url, tmp_path)
        assert done.returncode == 1
        assert done.stdout.startswith("1 2026-01-01T09:00:00Z Zoë\u2028 24.99\n")
        message = "The orders are not complete. Ask for the rest with after=1."
        assert message in done.stderr
        assert "The connection broke: " in done.stderr


@pytest.mark.parametrize("name", ["ndjson_database.py", "ndjson_database.mjs"])
def test_the_clients_check_the_status_first(tmp_path: Path, name: str) -> None:
    with uvicorn("recipes.plain_text:app", warm=True) as server:
        done = clients.run(name, server.url, tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "404 Not Found" in done.stderr


def test_broken_as_the_page_says_only_the_models_refuse_a_row(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.sqlite"
    known = 'State = Literal["placed", "paid", "packed", "shipped"]'
    folder = changed(
        tmp_path, "ndjson_database", known, known.replace(', "shipped"', "")
    )
    for cwd, failed in [(servers.ROOT, False), (folder, True)]:
        with uvicorn(APP, cwd=cwd, env={"DATABASE_URL": url}, warm=True) as server:
            with raw_get(server.port, "/models?limit=3") as answer:
                assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
                body = answer.rest()
            if failed:
                assert body == b'{"done":false,"rows":0}\n'
                server.expect("An export failed after 0 rows")
                server.expect("Input should be 'placed', 'paid' or 'packed'")
            else:
                assert lines(body)[-1] == {"done": True, "rows": 3}
            with raw_get(server.port, "/database?limit=5000") as answer:
                *orders, end = lines(answer.rest())
            assert end == {"done": True, "rows": 5000}
            assert "shipped" in {order["state"] for order in orders}


def test_curl_counts_the_lines(server: Server) -> None:
    response = httpx2.get(f"{server.url}/rows?state=paid&limit=3")
    assert response.text.count("\n") == 4


def test_psql_reads_the_same_table(real_postgres: Postgres) -> None:
    with (
        uvicorn(APP, env={"DATABASE_URL": real_postgres.url}, warm=True) as server,
        raw_get(server.port, "/database?limit=1000") as answer,
    ):
        *rows, _ = lines(answer.rest())
    command = real_postgres.psql(
        "-c",
        "COPY (SELECT row_to_json(page) FROM (SELECT"
        " id, placed_at, customer, item, quantity, price::text, state FROM orders"
        " ORDER BY id LIMIT 1000) AS page) TO STDOUT",
    )
    done = subprocess.run(command, capture_output=True, check=True, timeout=20)
    # COPY's own text format doubles every backslash.
    text = done.stdout.replace(b"\\\\", b"\\")
    assert lines(text) == rows


EXACT = ("1234567890123456.78", "9999-12-31T23:59:59.999999Z")


@every_route
def test_digits_and_microseconds_survive_exactly(
    server: Server, url: str, route: str
) -> None:
    price, placed_at = EXACT
    change = f"price = '{price}', placed_at = '{placed_at}'"
    execute(url, f"UPDATE orders SET {change} WHERE id = 100000")  # noqa: S608
    with raw_get(server.port, f"{route}?after=99999") as answer:
        row, _ = lines(answer.rest())
    assert row["price"] == price
    assert Order.model_validate(row).placed_at.isoformat() == placed_at.replace(
        "Z", "+00:00"
    )
