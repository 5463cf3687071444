"""docs/recipes/sse_progress.md: the page with the bar, in a real browser."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

SAMPLE = ROOT / "docs/clients/sse_progress.csv"
CLOSED = 2  # EventSource.CLOSED


@pytest.fixture
def server() -> Iterator[Server]:
    """Run the recipe, with steps that the test allows."""
    with uvicorn("tests.servers.watched_sse_progress:app") as running:
        yield running


def allow(server: Server, steps: int) -> None:
    """Let jobs take so many steps."""
    with raw_get(server.port, f"/allow?steps={steps}"):
        pass


def begin(server: Server, page: Page, file: Path = SAMPLE) -> None:
    """Choose a file and import it."""
    page.goto(f"{server.url}/")
    page.get_by_label("A CSV file").set_input_files(file)
    page.get_by_role("button", name="Import").click()


def test_the_bar_shows_how_far_the_import_is(server: Server, page: Page) -> None:
    begin(server, page)
    bar, status = page.get_by_role("progressbar"), page.get_by_role("status")
    expect(status).to_have_text("0 rows are checked.")
    for rows in range(1, 10):
        allow(server, 1)
        expect(status).to_have_text(f"{rows} rows are checked.")
        expect(bar).to_have_js_property("value", 10 * rows)
    allow(server, 1)
    expect(status).to_have_text("Completed: 10 rows are in the table.")
    expect(bar).to_have_js_property("value", 100)
    expect(bar).to_have_js_property("max", 100)
    assert page.evaluate("source.readyState") == CLOSED


def test_a_page_that_is_reloaded_and_a_second_one_see_the_same_job(
    server: Server, page: Page
) -> None:
    begin(server, page)
    allow(server, 3)
    status = page.get_by_role("status")
    expect(status).to_have_text("3 rows are checked.")
    page.reload()
    expect(status).to_have_text("3 rows are checked.")
    second = page.context.new_page()
    second.goto(page.url)
    allow(server, 7)
    for each in (page, second):
        done = "Completed: 10 rows are in the table."
        expect(each.get_by_role("status")).to_have_text(done)
    # Opened after the end, it shows the end at once.
    second.reload()
    expect(second.get_by_role("status")).to_have_text(done)


def test_an_import_goes_on_when_the_page_is_closed(server: Server, page: Page) -> None:
    begin(server, page)
    allow(server, 1)
    expect(page.get_by_role("status")).to_have_text("1 rows are checked.")
    address = page.url
    page.goto("about:blank")
    allow(server, 9)
    page.goto(address)
    done = "Completed: 10 rows are in the table."
    expect(page.get_by_role("status")).to_have_text(done)


def test_a_wrong_file_is_told_with_its_line_and_as_text(
    server: Server, page: Page, tmp_path: Path
) -> None:
    """Attack: A file holds HTML: the page shows its error as text."""
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("id,item,quantity,price\n1,tea,<b>x</b>,3\n", "utf-8")
    begin(server, page, wrong)
    expect(page.get_by_role("status")).to_have_text(
        "Failed, and nothing is imported: line 2: quantity: Input should be a valid "
        "integer, unable to parse string as an integer"
    )
    assert page.evaluate("source.readyState") == CLOSED


def test_a_server_that_stops_is_told_and_the_page_does_not_come_back(
    server: Server, page: Page
) -> None:
    begin(server, page)
    allow(server, 1)
    expect(page.get_by_role("status")).to_have_text("1 rows are checked.")
    server.signal(signal.SIGTERM)
    expect(page.get_by_role("status")).to_have_text(
        "Failed, and nothing is imported: The server was stopped; send it again"
    )
    assert server.wait() in (0, -signal.SIGTERM)
    assert page.evaluate("source.readyState") == CLOSED


def test_an_unknown_job_ends_the_page_s_questions(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    page.goto(f"{server.url}/#0123")
    status = page.get_by_role("status")
    expect(status).to_have_text("The server does not know this import.")
    assert page.evaluate("source.readyState") == CLOSED
    assert "404" in page_errors.pop()


def test_a_file_that_is_refused_is_told(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    page.goto(f"{server.url}/")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("status")).to_have_text("Choose a file first.")
    for number in range(4):
        file = f"id,item,quantity,price\n{number + 1},tea,1,3\n"
        assert httpx2.post(f"{server.url}/jobs", content=file.encode()).is_success
    begin(server, page)
    expect(page.get_by_role("status")).to_have_text("Too many imports.")
    assert "503" in page_errors.pop()


# Each is a list of [percent, seconds], and what is left of it in seconds.
STEADY = [[10 * n, n] for n in range(9)]
RATES = [
    ([], None),
    (STEADY[:8], None),  # too early
    (STEADY, 2),
    ([[n, n] for n in range(51)], 50),
    ([*STEADY[:5], *([40 + n, 4 + n] for n in range(1, 5))], None),  # 10 times slower
    ([*([n, n] for n in range(5)), *([4 + 10 * n, 4 + n] for n in range(1, 5))], None),
    ([[5, n] for n in range(9)], None),  # nothing moves
]


@pytest.mark.parametrize(("seen", "left"), RATES)
def test_the_time_left_is_shown_only_when_the_rate_is_steady(
    server: Server, page: Page, seen: list[list[float]], left: float | None
) -> None:
    page.goto(f"{server.url}/")
    found = page.evaluate(
        """(given) => {
            seen = given.map(([percent, at]) => ({ percent, at: 1000 * at }));
            return secondsLeft();
        }""",
        seen,
    )
    assert found == (None if left is None else pytest.approx(left))


def test_the_page_says_how_long_it_will_take(page: Page, tmp_path: Path) -> None:
    # Fifty steps of 0.2 seconds each: after nine of them the rate is known.
    file = tmp_path / "fifty.csv"
    rows = "".join(f"{number},tea,1,3\n" for number in range(1, 51))
    file.write_text(f"id,item,quantity,price\n{rows}", "utf-8")
    with uvicorn("recipes.sse_progress:app") as server:
        begin(server, page, file)
        left = page.locator("#left")
        expect(left).to_contain_text("About ")
        text = left.inner_text()
    assert text.endswith(" s left.")
    assert 1 <= int(text.split()[1]) <= 30
