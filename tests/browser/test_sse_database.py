"""docs/recipes/sse_database.md: what it says of a browser, in Chromium."""

import sqlite3
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from playwright.sync_api import Page

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import Server, free_port, serve

pytestmark = pytest.mark.timeout(2 * servers.START + 30)

CLIENT = (ROOT / "docs/clients/sse_database.js").read_text("utf-8")
CLOSED = 2  # EventSource.CLOSED
WRITE = "INSERT INTO changes (order_id, state) VALUES (7, 'paid')"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "changes.sqlite"


def start(file: Path, port: int) -> AbstractContextManager[Server]:
    """Serve the recipe on this very port; the page does not wait two seconds."""
    argv = [
        sys.executable,
        "-u",
        "-m",
        "uvicorn",
        "tests.servers.hasty_sse_database:app",
    ]
    argv += ["--port", str(port), "--timeout-graceful-shutdown", "1"]
    env = {"DATABASE_URL": f"sqlite+aiosqlite:///{file}"}
    return serve(argv, port, env=env, warm=True)


def write(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(WRITE)


def open_client(page: Page, server: Server) -> list[str]:
    """Paste the client of the page into the console, and note what it gets."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{server.url}/openapi.json")
    page.add_script_tag(content=CLIENT)
    return said


def until_it_has(page: Page, how_many: int) -> None:
    page.wait_for_function(f"changes.size === {how_many}")


def received(said: list[str]) -> list[str]:
    """Give the ids of what came, in order; each is said once."""
    lines = [line for line in said if "changes; the newest is" in line]
    return [line.partition('"id":')[2].partition(",")[0] for line in lines]


@pytest.fixture
def port() -> int:
    return free_port()


def test_a_page_misses_no_row_and_gets_none_twice_while_the_server_restarts(
    file: Path, port: int, page: Page, page_errors: list[str]
) -> None:
    with start(file, port) as server:
        said = open_client(page, server)
        until_it_has(page, 1000)
        write(file)
        until_it_has(page, 1001)
    write(file)  # while nobody serves
    with start(file, port):
        until_it_has(page, 1002)
        write(file)
        until_it_has(page, 1003)
        page.evaluate("source.close()")
    assert received(said) == [str(number) for number in range(1, 1004)]
    assert "Lost; connecting again." in said
    page_errors.clear()  # Chromium notes each try while nobody serves.


def test_a_page_that_comes_back_with_a_foreign_id_begins_anew(
    file: Path, port: int, page: Page, page_errors: list[str]
) -> None:
    with start(file, port) as server:
        said = open_client(page, server)
        until_it_has(page, 1000)
    for path in file.parent.glob("changes.sqlite*"):
        path.unlink()
    with start(file, port):
        until_it_has(page, 1000)  # Another table: the first row has the same id.
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM changes WHERE id > 900")
    with start(file, port):
        until_it_has(page, 900)
        page.evaluate("source.close()")
    assert said.count("The server said no.") == 0
    page_errors.clear()


def test_an_export_ends_and_the_browser_is_told_to_stay_away(
    file: Path, port: int, page: Page
) -> None:
    with start(file, port) as server:
        page.goto(f"{server.url}/openapi.json")
        page.evaluate(
            """() => {
                window.counts = [];
                window.rows = 0;
                window.source = new EventSource("/changes");
                source.addEventListener("change", () => { rows += 1; });
                source.addEventListener("done", (event) => counts.push(event.data));
            }"""
        )
        # It does not close: after the end it comes back, and is told 204.
        page.wait_for_function(f"source.readyState === {CLOSED}")
        assert page.evaluate("[rows, counts]") == [1000, ['{"rows": 1000}']]
        assert server.output().count('"GET /changes HTTP/1.1" 200') == 1
        assert server.output().count('"GET /changes HTTP/1.1" 204') == 1
