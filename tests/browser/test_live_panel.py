"""docs/assets/live.js: what the panel on a page shows, live and as a replay."""

import asyncio
import html
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest
import uvicorn
from playwright.sync_api import Browser, Locator, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from recipes import plain_text, sse_basic
from tests.kit.servers import WAIT

pytestmark = pytest.mark.timeout(60)  # seconds; a browser is started

DOCS = Path(__file__).parents[2] / "docs"
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
NO_INDEX = "404 (Not Found)"  # a static site has no live/index.json
REPLAY = (
    "Replay of a recorded run: "
    "start make serve for the live stream, and to edit the request."
)
RECORDED = """--8<-- [start:poem]
$ curl -N http://127.0.0.1:8000/poem
HTTP/1.1 200 OK
content-type: text/plain; charset=utf-8

0.001 s, 9 bytes
  tab\\there
0.002 s, 11 bytes
  C:\\\\temp \\x01\\
0.003 s, 12 bytes
   again\\r
  
0.003 s, 66,000 bytes
  first
… 818 lines, 65,988 bytes
  last \\u2028\\\\
0.004 s, end: 4 chunks, 66,032 bytes
sha256 00
--8<-- [end:poem]

--8<-- [start:feed]
$ curl -N 'http://127.0.0.1:8000/feed?from=1'
HTTP/1.1 200 OK
content-type: text/event-stream

0.001 s, 15 bytes
  id: 1
  data: a
  
0.002 s, end: 1 chunks, 15 bytes
--8<-- [end:feed]

--8<-- [start:clock]
$ curl -N --max-time 1 http://127.0.0.1:8000/clock -H 'Last-Event-ID: 3'
HTTP/1.1 200 OK
content-type: text/event-stream

0.001 s, 8 bytes
  data: 4
0.002 s, 9 bytes
  
  data: 5
0.003 s, stopped: 2 chunks, 17 bytes
--8<-- [end:clock]
"""  # noqa: W293 - a line of two spaces is an empty line of the stream


def recipe(*paths: str, **more: object) -> dict[str, Any]:
    """Describe a recipe as `live/index.json` does."""
    requests = [asked(path) for path in paths]
    plain = {"page": None, "needs": [], "problem": None, "requests": requests}
    return {**plain, **more}


def asked(path: str, **more: object) -> dict[str, Any]:
    """Describe a request as `live/index.json` does."""
    plain: dict[str, Any] = {"method": "GET", "path": path, "headers": {}}
    asked = {"line": "", **plain, "body": None, "seconds": None, **more}
    if not asked["line"]:
        options = (f" -H '{k.title()}: {v}'" for k, v in asked["headers"].items())
        asked["line"] = f"curl 'http://127.0.0.1:8000{path}'{''.join(options)}"
    return asked


class Gate:
    """A stream whose chunks a test makes, one at a time."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.loop: asyncio.AbstractEventLoop  # the server's, once it runs
        self.made = 0
        self.left = threading.Event()
        self.asked: list[Request] = []
        self.bodies: list[bytes] = []

    def make(self, *chunks: str | None) -> None:
        """Let the server send chunks; None ends the stream."""
        for chunk in chunks:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, chunk)

    async def stream(self) -> AsyncIterator[bytes]:
        """Give the chunks; `BREAK` fails as a recipe with a fault would."""
        try:
            while (chunk := await self.queue.get()) is not None:
                if chunk == "BREAK":
                    raise ConnectionError("a fault in the recipe")
                self.made += 1
                yield chunk.encode("utf-8", "surrogateescape")
        finally:
            self.left.set()

    async def answer(self, request: Request) -> StreamingResponse:
        """Answer with the stream, as plain text or as events."""
        self.asked.append(request)
        self.bodies.append(await request.body())
        kind = "event-stream" if request.url.path.endswith("/events") else "plain"
        return StreamingResponse(self.stream(), media_type=f"text/{kind}")


class Site:
    """A site in a sub-folder, with the theme's real style and the real panel."""

    def __init__(self, *, live: bool) -> None:
        self.index: dict[str, Any] = {
            "plain_text": recipe("/async/1", "/sync/1"),
            "sse_basic": recipe("/native", "/by-hand"),
            "gate": recipe("/text"),
        }
        self.transcripts = {"poem": RECORDED, "gate": "$ curl http://127.0.0.1/text\n"}
        self.gate = Gate()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(
            uvicorn.Config(self.app(live=live), log_config=None, loop="asyncio")
        )

    def app(self, *, live: bool) -> Starlette:
        """Build the application; `live` adds the recipes."""
        spec = find_spec("material")
        assert spec is not None
        assert spec.origin is not None
        theme = Path(spec.origin).parent / "templates/assets/stylesheets"
        self.styles = [path.name for path in sorted(theme.glob("*.min.css"))]
        routes = [
            Route("/page", self.page),
            Route("/transcripts/{slug}.txt", self.transcript),
            Mount("/assets", StaticFiles(directory=DOCS / "assets")),
            Mount("/theme", StaticFiles(directory=theme)),
        ]
        if live:
            any_way = ["GET", "POST", "PUT"]
            routes += [
                Route("/live/index.json", self.live_index),
                Route("/live/gate/text", self.gate.answer, methods=any_way),
                Route("/live/gate/events", self.gate.answer, methods=any_way),
                Mount("/live/plain_text", plain_text.app),
                Mount("/live/sse_basic", sse_basic.app),
            ]

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.gate.loop = asyncio.get_running_loop()
            yield

        return Starlette(routes=[Mount("/book", routes=routes)], lifespan=lifespan)

    def live_index(self, _: Request) -> JSONResponse:
        """Say which recipes run."""
        return JSONResponse({"recipes": self.index, "provider": None})

    def page(self, request: Request) -> HTMLResponse:
        """Write a page with one panel for each `panel=<recipe> <path>` in the query."""
        panels = [value.split() for value in request.query_params.getlist("panel")]
        tags = "".join(
            f'<p><live-panel recipe="{html.escape(recipe)}" path="{html.escape(path)}">'
            "<em>This needs JavaScript.</em></live-panel></p>"
            for recipe, path in panels
        )
        styles = "".join(
            f'<link rel="stylesheet" href="{style}">'
            for style in [*(f"theme/{name}" for name in self.styles), "assets/live.css"]
        )
        return HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8><title>A page</title>"
            '<link rel="icon" href="data:,">'
            f"<meta name=viewport content='width=device-width'>{styles}"
            '<script type="module" src="assets/live.js"></script>'
            '<body data-md-color-scheme="default" data-md-color-primary="indigo">'
            f'<article class="md-typeset" style="padding: 1rem">{tags}</article>'
        )

    def transcript(self, request: Request) -> Response:
        """Give a recording."""
        slug = request.path_params["slug"]
        if slug in self.transcripts:
            return PlainTextResponse(self.transcripts[slug])
        path = DOCS / "transcripts" / f"{slug}.txt"
        return FileResponse(path) if path.exists() else PlainTextResponse("none", 404)

    def vanish(self) -> None:
        """End as a killed process does: every connection cut, nobody listening."""
        gone = threading.Event()

        def cut() -> None:
            for server in self.server.servers:
                server.close()
            self.listener.close()
            for connection in list(self.server.server_state.connections):
                transport = connection.transport
                assert isinstance(transport, asyncio.Transport)
                transport.abort()
            gone.set()

        self.gate.loop.call_soon_threadsafe(cut)
        assert gone.wait(WAIT)


@contextmanager
def serving(*, live: bool) -> Iterator[Site]:
    """Serve a site on a free port."""
    site = Site(live=live)
    thread = threading.Thread(target=site.server.run, args=([site.listener],))
    thread.start()
    yield site
    site.server.should_exit = True
    thread.join()


@pytest.fixture
def site(page: Page) -> Iterator[Site]:
    """Serve a site with live recipes; it ends when the page's streams have ended."""
    with serving(live=True) as running:
        yield running
        page.close()


@pytest.fixture
def static_site(page: Page, page_errors: list[str]) -> Iterator[Site]:
    """Serve a site without recipes; the browser notes the index that is missing."""
    with serving(live=False) as running:
        yield running
        page.close()
    page_errors[:] = [error for error in page_errors if NO_INDEX not in error]


def panels(page: Page, site: Site, *requests: str) -> list[Locator]:
    """Open a page with a panel for each request, and wait until each knows its mode."""
    query = "&".join(f"panel={quote(request)}" for request in requests)
    port = site.listener.getsockname()[1]
    page.goto(f"http://127.0.0.1:{port}/book/page?{query}")
    expect(page.locator("live-panel[data-mode]")).to_have_count(len(requests))
    return page.locator("live-panel").all()


def run(panel: Locator) -> None:
    panel.get_by_role("button", name="Run").click()


def fact(panel: Locator, name: str) -> Locator:
    return panel.locator(f'[data-fact="{name}"]')


def text(panel: Locator) -> Locator:
    return panel.locator(".lp-text")


def note(panel: Locator) -> Locator:
    return panel.locator(".lp-note > span")


def status(panel: Locator) -> Locator:
    return panel.get_by_role("status")


def test_a_chunk_is_shown_before_the_server_makes_the_next_one(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    for number, line in enumerate(("one", "two", "three"), start=1):
        site.gate.make(f"{line}\n")
        expect(text(panel)).to_contain_text(f"{line}\n")
        expect(fact(panel, "chunks")).to_have_text(str(number))
        expect(panel.locator(".lp-timeline")).to_have_attribute(
            "data-bars", str(number)
        )
        assert site.gate.made == number
        expect(panel).to_have_attribute("data-state", "running")
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")


def test_the_timeline_has_a_bar_for_each_chunk_as_high_as_the_chunk_is_large(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    for number, size in enumerate((100, 50, 25), start=1):
        site.gate.make("x" * size)
        expect(fact(panel, "chunks")).to_have_text(str(number))
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    path = panel.locator(".lp-bars").get_attribute("d") or ""
    assert re.findall(r"v-(\d+)", path) == ["64", "32", "16"]
    expect(panel.locator(".lp-timeline text").first).to_have_text("100 bytes")
    expect(panel.get_by_role("img")).to_have_accessible_name(
        re.compile(r"Timeline: 3 reads in .*, the largest 100 bytes")
    )


def test_a_live_run_counts_reads_and_calls_them_so(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /text")
    expect(note(panel)).to_have_text(
        "Live from this server. The server sends chunks; your browser may join or "
        "split them. This panel counts its reads."
    )
    run(panel)
    expect(status(panel)).to_have_text("Waiting for the first byte …")
    site.gate.make("one\n", None)
    expect(status(panel)).to_contain_text("Done: 1 read, 4 bytes in")
    expect(panel.locator("dt").first).to_have_text("reads")
    expect(panel).not_to_contain_text("1 chunk")


def test_the_figures_of_a_run_are_shown(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "plain_text /async/1")
    expect(note(panel)).to_contain_text("Live from this server")
    expect(panel).not_to_contain_text("This needs JavaScript.")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    expect(fact(panel, "bytes")).to_have_text("78")
    expect(fact(panel, "first")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    expect(fact(panel, "total")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    expect(fact(panel, "answer")).to_have_text("200 OK · text/plain; charset=utf-8")
    expect(status(panel)).to_contain_text("78 bytes in")


def test_text_is_decoded_by_the_charset_of_the_answer(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "plain_text /bytes/2")
    run(panel)
    expect(text(panel)).to_contain_text("packed: crème brûlée\n")


def test_a_character_cut_in_two_is_shown_whole(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    site.gate.make("caf\udcc3")
    expect(fact(panel, "bytes")).to_have_text("4")
    site.gate.make("\udca9.")
    expect(text(panel)).to_have_text("café.")


def test_events_are_shown_as_rows_and_raw_on_request(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "sse_basic /native")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    rows = panel.locator("tbody tr")
    expect(rows).to_have_count(6)
    expect(fact(panel, "events")).to_have_text("6")
    cells = [row.locator("td").all_inner_texts()[1:] for row in rows.all()]
    assert cells[0] == ["1", "order", '{"id":7,"state":"placed"}']
    assert cells[4:] == [
        ["5", "note", "Leave it at the door.\nRing twice."],
        ["end", "end", "{}"],
    ]
    expect(text(panel)).to_be_hidden()
    panel.get_by_role("button", name="raw").click()
    expect(text(panel)).to_contain_text("id: 5\n\nevent: end\ndata: {}")
    expect(panel.locator(".lp-events")).to_be_hidden()


def test_an_event_that_the_end_cuts_off_is_shown_as_such(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /events")
    run(panel)
    site.gate.make("data: whole\n\n", "event: order\ndata: los", None)
    rows = panel.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("cut offevent: order\ndata: los")
    expect(fact(panel, "events")).to_have_text("1")
    expect(status(panel)).to_contain_text("The last event was cut off")


def test_stop_ends_the_stream_at_the_server(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    site.gate.make("one\n")
    expect(fact(panel, "chunks")).to_have_text("1")
    panel.get_by_role("button", name="Stop").click()
    expect(panel).to_have_attribute("data-state", "stopped")
    expect(status(panel)).to_have_text("Stopped after 1 read.")
    assert site.gate.left.wait(WAIT)


def test_the_keyboard_is_enough_and_begins_with_the_controls(
    page: Page, site: Site
) -> None:
    site.index["gate"] = recipe("/text", "/events")
    (panel,) = panels(page, site, "gate /text")
    page.keyboard.press("Tab")
    expect(panel.get_by_role("button", name="Run")).to_be_focused()
    width = "e => getComputedStyle(e).outlineWidth"
    assert page.locator(":focus-visible").evaluate(width) == "2px"
    page.keyboard.press("Enter")
    site.gate.make("one\n")
    expect(text(panel)).to_have_text("one\n")
    page.keyboard.press("Escape")
    expect(status(panel)).to_have_text("Stopped after 1 read.")
    assert site.gate.left.wait(WAIT)
    stops = []
    for _ in range(5):
        page.keyboard.press("Tab")
        stops.append(page.locator(":focus").get_attribute("class"))
    fields = ["lp-stop", "lp-request", "lp-path", "lp-switch"]
    assert stops == [*fields, "lp-text lp-box"]


CURLS = [
    ("curl -N http://h:8000", "GET", "/", {}, None),
    ("curl 'http://h:8000/a?b=c d&e'", "GET", "/a?b=c d&e", {}, None),
    (
        "curl -X DELETE -i -s -o out.txt http://h:8000/a --max-time 2",
        *("DELETE", "/a", {}, None),
    ),
    (
        'curl -H "Last-Event-ID: 3" -H \'X-Say: "hi": you\' http://h:8000/a',
        *("GET", "/a", {"Last-Event-ID": "3", "X-Say": '"hi": you'}, None),
    ),
    (
        """curl http://h:8000/a --json '{"it": "\\"s"}'""",
        *("POST", "/a", {}, '{"it": "\\"s"}'),
    ),
    (
        'curl -X POST -H "X-Say: \\"hi\\" \\\\ you" http://h:8000/a',
        *("POST", "/a", {"X-Say": '"hi" \\ you'}, None),
    ),
    ("curl -d a=1 http://h:8000/a", "POST", "/a", {}, "a=1"),
    ("curl --data 'a b' http://h:8000/a", "POST", "/a", {}, "a b"),
    (
        "curl --data-binary @f.csv -H 'content-type: text/csv' http://h:8000/a",
        *("POST", "/a", {"content-type": "text/csv"}, None),
    ),
    ("curl -F upload=@a.bin http://h:8000/a", "POST", "/a", {}, None),
    ("curl -T a.bin http://h:8000/a", "PUT", "/a", {}, None),
    ("curl -d '' -X PATCH http://h:8000/it\\'s", "PATCH", "/it's", {}, ""),
]


def test_a_curl_line_is_understood(page: Page, static_site: Site) -> None:
    port = static_site.listener.getsockname()[1]
    page.goto(f"http://127.0.0.1:{port}/book/page")
    understood = page.evaluate(
        "async lines => lines.map((await import('./assets/curl.js')).parseCurl)",
        [line for line, *_ in CURLS],
    )
    for (line, method, path, headers, body), got in zip(CURLS, understood, strict=True):
        file = re.search(r"@(\S+)|-T (\S+)", line)
        seconds = re.search(r"--max-time (\d+)", line)
        assert got == {
            "line": line,
            "method": method,
            "path": path,
            "headers": headers,
            "body": body,
            "file": (file[1] or file[2]) if file else None,
            "seconds": int(seconds[1]) if seconds else None,
        }


def leave_by_removal(page: Page) -> None:
    page.locator("live-panel").evaluate("panel => panel.remove()")


def leave_by_link(page: Page) -> None:
    page.goto("about:blank")


@pytest.mark.parametrize("leave", [leave_by_removal, leave_by_link])
def test_leaving_the_page_ends_the_stream(
    page: Page, site: Site, leave: Callable[[Page], None]
) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    site.gate.make("one\n")
    expect(fact(panel, "chunks")).to_have_text("1")
    leave(page)
    assert site.gate.left.wait(WAIT)


def test_a_server_that_is_gone_before_the_request_is_named(
    page: Page, site: Site, page_errors: list[str]
) -> None:
    (panel,) = panels(page, site, "gate /text")
    site.vanish()
    run(panel)
    expect(panel).to_have_attribute("data-state", "failed")
    expect(status(panel)).to_have_text(
        "The server does not answer. Start it with make serve, then run this again."
    )
    assert {"ERR_CONNECTION_REFUSED" in error for error in page_errors} == {True}
    page_errors.clear()


def test_a_server_that_goes_in_mid_stream_is_named(
    page: Page, site: Site, page_errors: list[str]
) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    for number in (1, 2, 3):
        site.gate.make("a line\n")
        expect(fact(panel, "chunks")).to_have_text(str(number))
    site.vanish()
    expect(status(panel)).to_have_text(
        "The server is gone after 3 reads. Start it again with make serve."
    )
    expect(panel).to_have_attribute("data-state", "failed")
    expect(text(panel)).to_have_text("a line\n" * 3)
    assert page_errors
    page_errors.clear()


def test_a_recipe_that_fails_in_mid_stream_is_told_from_a_lost_server(
    page: Page, site: Site, page_errors: list[str]
) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    site.gate.make("one\n")
    expect(fact(panel, "chunks")).to_have_text("1")
    site.gate.make("BREAK")
    expect(status(panel)).to_contain_text(
        "The connection broke after 1 read, before the end of the answer. "
        "The server is still there"
    )
    assert page_errors
    page_errors.clear()


def test_a_refusal_is_shown_with_its_body(
    page: Page, site: Site, page_errors: list[str]
) -> None:
    (panel,) = panels(page, site, "plain_text /async/9")
    run(panel)
    expect(status(panel)).to_have_text("The server answered 404 Not Found.")
    expect(text(panel)).to_contain_text("There is no order 9")
    assert "404" in page_errors.pop(0)  # the browser's own note


def test_a_static_site_replays_the_recorded_run_and_says_so(
    page: Page, static_site: Site
) -> None:
    (panel,) = panels(page, static_site, "poem /poem")
    expect(note(panel)).to_have_text(REPLAY)
    expect(panel.get_by_label("Path and query")).not_to_be_editable()
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    # What a recording holds are the server's chunks, not a browser's reads.
    expect(panel.locator("dt").first).to_have_text("chunks")
    expect(status(panel)).to_have_text("Done: 4 chunks, 66,032 bytes in 4 ms.")
    expect(fact(panel, "chunks")).to_have_text("4")
    expect(fact(panel, "bytes")).to_have_text("66,032")
    expect(fact(panel, "first")).to_have_text("1 ms")
    expect(fact(panel, "total")).to_have_text("4 ms")
    expect(panel.locator(".lp-timeline")).to_have_attribute("data-bars", "4")
    assert text(panel).text_content() == (
        "tab\there\nC:\\temp \x01 again\r\n\n"
        "first\n… 818 lines, 65,988 bytes left out of the recording\nlast \u2028\\\n"
    )


def test_a_recipe_that_needs_a_model_says_who_answers(page: Page, site: Site) -> None:
    who = {"description": "The scripted provider answers."}
    known = {"answer": recipe("/text", needs=["model"]), "gate": recipe("/text")}
    index = {"recipes": known, "provider": who}
    page.route("**/live/index.json", lambda route: route.fulfill(json=index))
    llm, other = panels(page, site, "answer /text", "gate /text")
    expect(note(llm)).to_contain_text(who["description"])
    expect(note(other)).to_contain_text("Live from this server.")
    expect(note(other)).not_to_contain_text(who["description"])


def test_a_recipe_that_does_not_run_says_why_and_offers_no_run(
    page: Page, site: Site
) -> None:
    problem = "redis is not running: start it with `redis-server`."
    site.index["gate"] = recipe("/text", problem=problem, page="live/gate/")
    (panel,) = panels(page, site, "gate /text")
    expect(note(panel)).to_contain_text(
        "This recipe does not run here. redis is not running: "
        "start it with redis-server."
    )
    expect(panel.locator(".lp-page")).to_be_hidden()
    expect(panel.get_by_role("button")).to_have_count(0)
    expect(panel.get_by_role("textbox")).to_have_count(0)


def test_the_panel_links_to_the_page_of_a_recipe_that_has_one(
    page: Page, site: Site
) -> None:
    site.index["sse_basic"]["page"] = "live/sse_basic/"
    one, other = panels(page, site, "sse_basic /native", "gate /text")
    expect(other.get_by_role("link")).to_have_count(0)
    run(one)
    expect(one).to_have_attribute("data-state", "done")
    link = one.get_by_role("link", name="Open its page (new tab)")
    expect(link).to_have_attribute("rel", "noopener")
    with page.expect_popup() as opened:
        link.click()
    expect(opened.value).to_have_url(re.compile(r"/book/live/sse_basic/$"))
    # What the reader has run is still here.
    expect(one.locator("tbody tr")).to_have_count(6)


def test_the_reader_chooses_among_the_recorded_requests(
    page: Page, static_site: Site
) -> None:
    (panel,) = panels(page, static_site, "poem /poem")
    path = panel.get_by_label("Path and query")
    expect(path).to_have_value("/poem")
    expect(panel.locator(".lp-choice")).to_contain_text("Request 1 of 3")
    choice = panel.get_by_label("Request", exact=True)
    options = choice.locator("option").all_inner_texts()
    assert options == ["GET /poem", "GET /feed?from=1", "GET /clock"]
    choice.select_option("GET /feed?from=1")
    expect(panel.locator(".lp-choice")).to_contain_text("Request 2 of 3")
    expect(path).to_have_value("/feed?from=1")
    run(panel)
    expect(panel.locator("tbody tr")).to_have_text("0.00 s1messagea")


def test_the_recording_of_an_endless_stream_says_that_the_stream_goes_on(
    page: Page, static_site: Site
) -> None:
    (panel,) = panels(page, static_site, "poem /clock")
    expect(panel.locator(".lp-sent")).to_have_text(
        "With Last-Event-ID: 3. It is stopped after 1 s."
    )
    run(panel)
    expect(panel).to_have_attribute("data-state", "stopped")
    expect(status(panel)).to_have_text(
        "The recording stops here, the stream goes on: 2 chunks, 17 bytes in 3 ms."
    )
    # What has not ended is not cut off.
    expect(panel.locator("tbody tr")).to_have_count(1)


def test_a_request_goes_out_as_the_index_gives_it(page: Page, site: Site) -> None:
    line = "curl http://127.0.0.1:8000/events -X PUT -H 'Last-Event-ID: 3' --json 7"
    headers = {"content-type": "application/json", "last-event-id": "3"}
    sent = asked("/events", method="PUT", headers=headers, body="7", line=line)
    site.index["gate"]["requests"] = [sent]
    (panel,) = panels(page, site, "gate /events")
    expect(panel.locator(".lp-method")).to_have_text("PUT")
    expect(panel.locator(".lp-sent")).to_have_text("With Last-Event-ID: 3.")
    run(panel)
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    request = site.gate.asked[-1]
    assert request.method == "PUT"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["last-event-id"] == "3"
    assert site.gate.bodies == [b"7"]
    expect(panel.locator(".lp-title code")).to_have_text(
        "PUT /events · Last-Event-ID: 3"
    )


def test_a_file_that_is_no_text_is_left_to_curl(page: Page, site: Site) -> None:
    line = "curl http://127.0.0.1:8000/text -T picture.png"
    site.index["gate"]["requests"] = [asked("/text", method="PUT", line=line)]
    (panel,) = panels(page, site, "gate /text")
    expect(panel.locator(".lp-sent")).to_have_text("With the file picture.png.")
    run(panel)
    expect(status(panel)).to_have_text(
        "The panel cannot send picture.png, which is no text: use curl."
    )
    assert site.gate.asked == []


def test_a_header_that_a_browser_withholds_is_named(page: Page, site: Site) -> None:
    headers = {"Accept-Encoding": "gzip"}
    site.index["gate"]["requests"] = [asked("/text", headers=headers)]
    (panel,) = panels(page, site, "gate /text")
    expect(panel.locator(".lp-sent")).to_have_text(
        "In curl, this request has Accept-Encoding: gzip. "
        "A browser does not let a page set Accept-Encoding, so it is left out here."
    )
    run(panel)
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    # The heading of the run names what was sent, and nothing else.
    expect(panel.locator(".lp-title code")).to_have_text("GET /text")


def test_a_request_with_a_time_limit_is_stopped_by_the_panel(
    page: Page, site: Site
) -> None:
    site.index["gate"]["requests"] = [asked("/text", seconds=0.5)]
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    site.gate.make("one\n")
    expect(panel).to_have_attribute("data-state", "stopped")
    expect(status(panel)).to_have_text(
        "Stopped after 0.5 s, as --max-time 0.5 does: 1 read, 4 bytes. "
        "The stream had not ended."
    )
    assert site.gate.left.wait(WAIT)


def test_an_edited_path_is_what_is_asked(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /text")
    path = panel.get_by_label("Path and query")
    path.fill("/text?rows=3")
    path.press("Enter")
    site.gate.make("one\n", None)
    expect(panel).to_have_attribute("data-state", "done")
    assert site.gate.asked[-1].url.query == "rows=3"
    expect(panel.locator(".lp-title")).to_contain_text("GET /text?rows=3")


COMPLAINTS = {
    "text": "A path begins with a slash, as in /orders?rows=10.",
    "/text#x": "A server never sees what follows a #: write it as %23.",
    "/../plain_text/async/1": "This path leads out of the recipe.",
}


def test_a_path_that_makes_no_sense_gets_a_plain_message(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /text")
    path = panel.get_by_label("Path and query")
    for typed, complaint in COMPLAINTS.items():
        path.fill(typed)
        run(panel)
        expect(status(panel)).to_have_text(complaint)
        expect(path).to_be_focused()
        expect(path).to_have_attribute("aria-invalid", "true")
    assert site.gate.asked == []


def test_an_edited_body_is_what_is_sent_if_it_is_json(page: Page, site: Site) -> None:
    headers = {"Content-Type": "application/json"}
    sent = asked("/text", method="POST", headers=headers, body='{"rows": 3}')
    site.index["gate"]["requests"] = [sent]
    (panel,) = panels(page, site, "gate /text")
    body = panel.get_by_label("Body of the request")
    body.fill('{"rows": 3')
    run(panel)
    expect(status(panel)).to_contain_text("The body is not valid JSON: ")
    assert site.gate.asked == []
    body.fill('{"rows":\n 4}')
    body.press("Control+Enter")
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    assert site.gate.bodies == [b'{"rows":\n 4}']


def test_a_body_with_line_ends_that_a_text_field_has_not_is_sent_as_it_is(
    page: Page, site: Site
) -> None:
    upload = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n"
    sent = asked("/text", method="POST", body=upload)
    site.index["gate"]["requests"] = [sent]
    (panel,) = panels(page, site, "gate /text")
    expect(panel.get_by_label("Body of the request")).not_to_be_editable()
    run(panel)
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    assert site.gate.bodies == [upload.encode()]


def test_the_last_run_of_another_request_stays_for_comparison(
    page: Page, site: Site
) -> None:
    site.index["gate"] = recipe("/text", "/events")
    (panel,) = panels(page, site, "gate /text")
    before = panel.get_by_role("region", name="Before: GET /text")
    run(panel)
    site.gate.make("one\n", None)
    expect(panel).to_have_attribute("data-state", "done")
    panel.get_by_label("Request", exact=True).select_option("GET /events")
    expect(fact(panel, "bytes")).to_have_text("4")  # still there
    for _ in range(2):  # Running the same again leaves the other in its place.
        run(panel)
        site.gate.make("data: a\n\n", None)
        expect(panel).to_have_attribute("data-state", "done")
        expect(panel.locator(".lp-figure")).to_have_count(2)
        expect(fact(before, "bytes")).to_have_text("4")
        expect(fact(panel, "bytes").first).to_have_text("9")
    expect(fact(before, "events")).to_be_hidden()
    panel.get_by_label("Path and query").fill("/events?x=1")
    run(panel)
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    expect(panel.locator(".lp-figure")).to_have_count(2)
    expect(panel.get_by_role("region", name="Before: GET /events")).to_be_visible()


def test_the_text_of_a_run_stands_between_its_picture_and_the_run_before(
    page: Page, site: Site
) -> None:
    site.index["gate"] = recipe("/text", "/events")
    (panel,) = panels(page, site, "gate /text")
    choice = panel.get_by_label("Request", exact=True)
    for path, chunk, box in [
        ("/events", "data: a\n\n", ".lp-events"),
        ("/text", "one\n", ".lp-text"),
    ]:
        choice.select_option(f"GET {path}")
        run(panel)
        site.gate.make(chunk, None)
        expect(panel).to_have_attribute("data-state", "done")
        expect(panel.locator(box)).to_be_visible()
    order = [".lp-newest .lp-timeline", ".lp-text", ".lp-before .lp-timeline"]
    boxes = [panel.locator(part).bounding_box() for part in order]
    tops = [box["y"] for box in boxes if box]
    assert len(tops) == 3
    assert tops == sorted(tops)
    expect(panel.locator(".lp-before .lp-title")).to_contain_text("Before: GET /events")


def test_an_edited_request_is_none_of_the_list(page: Page, site: Site) -> None:
    site.index["gate"] = recipe("/text", "/events")
    (panel,) = panels(page, site, "gate /events")
    expect(panel.locator(".lp-choice")).to_contain_text("Request 2 of 2")
    panel.get_by_label("Path and query").fill("/events?x=1")
    expect(panel.locator(".lp-choice")).to_contain_text("Edited request (2 to choose)")


@pytest.mark.parametrize("width", [390, 1280])
def test_events_break_between_fields_and_no_row_is_half_below_the_header(
    page: Page, site: Site, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    (panel,) = panels(page, site, "gate /events")
    run(panel)
    data = '{"id":7,"item":"green tea","customer":"Ada","state":"shipped"}'
    for number in range(1, 30):
        site.gate.make(f"id: {number}\nevent: order\ndata: {data}\n\n")
        expect(fact(panel, "events")).to_have_text(str(number))
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    edges = panel.locator(".lp-events").evaluate(
        """box => {
          const edge = box.querySelector("thead").getBoundingClientRect().bottom;
          const rows = [...box.querySelectorAll("tbody tr")];
          return rows.map((row) => row.getBoundingClientRect())
            .filter(({ top, bottom }) => top < edge - 1 && bottom > edge + 1).length;
        }"""
    )
    assert edges == 0
    expect(panel.locator("tbody tr").last).to_be_in_viewport(ratio=0.5)
    # The lines of a cell, as they are laid out.
    lines = (
        panel.locator("tbody tr")
        .last.locator("td")
        .last.evaluate(
            """cell => {
          const lines = [];
          for (const node of cell.childNodes) {
            for (let i = 0; i < (node.data?.length ?? 0); i++) {
              const range = document.createRange();
              range.setStart(node, i);
              range.setEnd(node, i + 1);
              const { top } = range.getBoundingClientRect();
              if (lines.at(-1)?.top === top) lines.at(-1).text += node.data[i];
              else lines.push({ top, text: node.data[i] });
            }
          }
          return lines.map(({ text }) => text);
        }"""
        )
    )
    assert "".join(lines) == data
    assert {line[-1] for line in lines} <= {",", " ", "}"}, lines
    assert len(lines) == (2 if width == 390 else 1)


# ms of two runs, and whether together: the picture is some 1200 px wide
RUNS = [(100, 400, True), (14, 400, True), (400, 14, True), (1, 400, False)]


@pytest.mark.parametrize(("one", "other", "together"), RUNS)
def test_two_runs_are_drawn_on_one_time_scale_unless_one_would_vanish(
    page: Page, static_site: Site, one: int, other: int, together: bool
) -> None:
    head = "HTTP/1.1 200 OK\ncontent-type: text/plain\n"
    static_site.transcripts["pair"] = "".join(
        f"$ curl http://127.0.0.1:8000/{ms}\n{head}\n"
        f"{ms / 1000:.3f} s, 2 bytes\n  x\n{ms / 1000:.3f} s, end: x\n"
        for ms in (one, other)
    )
    (panel,) = panels(page, static_site, f"pair /{one}")
    axes = panel.locator(".lp-timeline text:last-child")
    run(panel)
    expect(axes).to_have_text([f"{one} ms"])
    panel.get_by_label("Request", exact=True).select_option(f"GET /{other}")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    expected = max(one, other) if together else one
    longest = max(one, other) if together else other
    expect(axes).to_have_text([f"{longest} ms", f"{expected} ms"])
    said = panel.locator(".lp-before .lp-scale")
    if together:
        expect(said).to_be_hidden()
    else:
        expect(said).to_have_text(
            "This picture has another time scale than the one above: "
            f"the run took {one} ms, the one above {other} ms."
        )


def token(text: str) -> str:
    return f"event: token\ndata: {json.dumps({'text': text})}\n\n"


def test_the_answer_of_a_token_stream_grows_as_text(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /events")
    answer = panel.get_by_role("region", name="Answer")
    run(panel)
    site.gate.make("event: start\ndata: {}\n\n")
    expect(panel.get_by_role("button", name="events")).to_be_visible()
    expect(panel.get_by_role("button", name="text")).to_be_hidden()
    grown = ""
    for piece in ("Tea", " is\n", "<b>hot</b>"):
        grown += piece
        site.gate.make(token(piece))
        expect(answer).to_have_text(grown)
        assert site.gate.left.is_set() is False
    site.gate.make('event: failed\ndata: {"text": "no"}\n\n', None)
    expect(status(panel)).to_contain_text("The last event was failed.")
    expect(answer).to_have_text(grown)
    panel.get_by_role("button", name="events").click()
    expect(panel.locator("tbody tr")).to_have_count(5)
    expect(answer).to_be_hidden()


def test_a_stream_of_other_events_has_no_text_after_one_of_tokens(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /events")
    run(panel)
    site.gate.make(token("Tea"), None)
    expect(panel.get_by_role("region", name="Answer")).to_have_text("Tea")
    expect(panel).to_have_attribute("data-state", "done")
    panel.get_by_label("Path and query").fill("/events?other")
    run(panel)
    site.gate.make("data: a\n\n", None)
    expect(panel.locator("tbody tr")).to_have_count(1)
    expect(panel.locator("tbody tr")).to_be_visible()
    expect(panel.get_by_role("button", name="text")).to_be_hidden()


def test_an_event_named_token_without_a_text_is_only_an_event(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /events")
    run(panel)
    for data in ("Tea", "null", '{"text": 1}'):
        site.gate.make(f"event: token\ndata: {data}\n\n")
    site.gate.make(None)
    expect(panel.locator("tbody tr")).to_have_count(3)
    expect(panel.get_by_role("button", name="text")).to_be_hidden()


def test_the_view_that_a_reader_chose_is_kept(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /events")
    run(panel)
    site.gate.make("data: a\n\n", None)
    expect(panel).to_have_attribute("data-state", "done")
    panel.get_by_role("button", name="raw").click()
    run(panel)
    site.gate.make(token("Tea"), None)
    expect(panel).to_have_attribute("data-state", "done")
    expect(panel.get_by_role("button", name="text")).to_be_visible()
    expect(panel).to_have_attribute("data-view", "raw")


def test_an_event_that_never_ends_is_given_up(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /events")
    run(panel)
    for _ in range(5):
        site.gate.make("data: " + "x" * 999_999)
    expect(status(panel)).to_have_text(
        "One event has more than 4,000,000 characters and no end. The panel gives up."
    )
    expect(panel).to_have_attribute("data-state", "failed")
    assert site.gate.left.wait(WAIT)


def test_every_chunk_of_one_moment_is_drawn(page: Page, static_site: Site) -> None:
    chunk = "0.001 s, 9 bytes\n  data: x\n  \n"
    head = "HTTP/1.1 200 OK\ncontent-type: text/event-stream\n"
    static_site.transcripts["burst"] = (
        f"$ curl http://127.0.0.1:8000/\n{head}\n{chunk * 500}1.000 s, end: x\n"
    )
    (panel,) = panels(page, static_site, "burst /")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    timeline = panel.locator(".lp-timeline")
    expect(timeline).to_have_attribute("data-bars", "500")
    expect(timeline.locator("text").first).to_contain_text("a square is a chunk")
    assert squares(panel) == 500
    assert_inside(panel)
    name = re.compile(r"Timeline: 500 chunks in 1 s")
    expect(panel.get_by_role("img")).to_have_accessible_name(name)


def test_chunks_that_come_at_the_end_are_piled_up_before_it(
    page: Page, static_site: Site
) -> None:
    chunk = "1.000 s, 2 bytes\n  x\n"
    static_site.transcripts["held"] = (
        "$ curl http://127.0.0.1:8000/\nHTTP/1.1 200 OK\n\n"
        f"{chunk * 900}1.000 s, end: x\n"
    )
    (panel,) = panels(page, static_site, "held /")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    assert squares(panel) == 900
    assert_inside(panel)


def assert_inside(panel: Locator) -> None:
    """Check that no bar leaves the plot, which is 64 px high."""
    x, width, height, all_of_it = panel.locator(".lp-bars").evaluate(
        """bars => {
          const { x, width, height } = bars.getBBox();
          return [x, width, height, bars.ownerSVGElement.clientWidth];
        }"""
    )
    assert height <= 64
    assert x >= 0
    assert x + width <= all_of_it


def squares(panel: Locator) -> int:
    """Count the squares of the piles: the dashes of their strokes."""
    bars = panel.locator(".lp-bars")
    side, gap = map(int, (bars.get_attribute("stroke-dasharray") or "").split())
    piles = re.findall(r"M[\d.]+ \d+v-(\d+)", bars.get_attribute("d") or "")
    return sum((int(pile) + gap) // (side + gap) for pile in piles)


def test_a_single_request_leaves_nothing_to_choose(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /text")
    expect(panel.get_by_label("Request", exact=True)).to_be_hidden()
    expect(panel.get_by_label("Path and query")).to_have_value("/text")


def test_without_server_and_recording_the_panel_says_what_to_do(
    page: Page, static_site: Site
) -> None:
    (panel,) = panels(page, static_site, "unknown /")
    expect(note(panel)).to_have_text(
        "There is no server here and no recorded run: "
        "start make serve for the live stream."
    )
    expect(panel.get_by_role("button", name="Run")).to_be_disabled()


@pytest.mark.parametrize("path", ["/text", "/events"])
def test_markup_in_a_stream_stays_text(page: Page, site: Site, path: str) -> None:
    (panel,) = panels(page, site, f"gate {path}")
    run(panel)
    site.gate.make(f"event: {HOSTILE}\nid: {HOSTILE}\ndata: {HOSTILE}\n\n", None)
    expect(panel).to_have_attribute("data-state", "done")
    expect(text(panel)).to_contain_text(f"data: {HOSTILE}", use_inner_text=False)
    if path == "/events":
        expect(panel.locator("td").filter(has_text=HOSTILE)).to_have_count(3)
    expect(panel.locator("img, script")).to_have_count(0)
    assert page.evaluate("window.hacked") is None


def test_only_the_newest_text_is_kept_and_the_panel_says_so(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    expect(panel.locator(".lp-cut")).to_be_hidden()
    for _ in range(4):
        site.gate.make("x" * 99_999 + "\n")
    site.gate.make("the end", None)
    expect(panel).to_have_attribute("data-state", "done")
    expect(panel.locator(".lp-cut")).to_be_visible()
    said = panel.locator(".lp-cut").inner_text()
    assert said == "The panel keeps only the newest 100 kB."
    kept = text(panel).text_content() or ""
    assert len(kept) <= 100_000
    assert kept.endswith("the end")


def test_thousands_of_chunks_and_events_leave_a_small_page(
    page: Page, static_site: Site
) -> None:
    chunk = "0.001 s, 9 bytes\n  data: x\n  \n"
    static_site.transcripts["flood"] = (
        "$ curl -N http://127.0.0.1:8000/\nHTTP/1.1 200 OK\n"
        f"content-type: text/event-stream\n\n{chunk * 20_000}0.002 s, end: x\n"
    )
    (panel,) = panels(page, static_site, "flood /")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    expect(fact(panel, "chunks")).to_have_text("20,000")
    expect(fact(panel, "events")).to_have_text("20,000")
    assert panel.locator("tbody tr").count() <= 500
    said = panel.locator(".lp-cut").inner_text()
    assert said == "The panel keeps only the newest 100 kB and 500 events."
    assert len(panel.locator(".lp-bars").get_attribute("d") or "") < 10_000
    assert squares(panel) == 2500
    expect(panel.locator(".lp-timeline text").first).to_contain_text(
        "a square is 8 chunks"
    )


def test_two_panels_do_not_disturb_each_other(page: Page, site: Site) -> None:
    one, other = panels(page, site, "gate /text", "plain_text /async/1")
    run(one)
    site.gate.make("one\n")
    expect(text(one)).to_have_text("one\n")
    run(other)
    expect(other).to_have_attribute("data-state", "done")
    expect(one).to_have_attribute("data-state", "running")
    expect(one.locator(".lp-timeline")).to_have_attribute("data-bars", "1")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page: Page, site: Site, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    long = "/events?" + "name=value&" * 30
    headers = {"X-Long": "x" * 200}
    many = [asked(f"/events?{x}", headers=headers, body=long) for x in range(3)]
    site.index["gate"] = recipe(requests=many, page="live/gate/")
    (panel,) = panels(page, site, f"gate {long}")
    for request in many[:2]:
        panel.get_by_label("Request", exact=True).select_option(
            f"GET {request['path']}"
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width
    panel.get_by_label("Request", exact=True).select_option(f"GET {long}")
    run(panel)
    site.gate.make(f"event: {'e' * 30}\ndata: {'long ' * 99}{'x' * 999}\n\n", None)
    expect(panel.locator("tbody tr")).to_have_count(1)
    for view in ("events", "raw"):
        panel.get_by_role("button", name=view).click()
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_colours_follow_the_theme(page: Page, static_site: Site) -> None:
    (panel,) = panels(page, static_site, "poem /poem")
    run(panel)
    expect(panel).to_have_attribute("data-state", "done")
    colours = """panel => [[".lp-bars", "stroke"], [".lp-timeline text", "fill"],
      [".lp-field", "backgroundColor"], [".lp-path", "color"],
      [".lp-text", "backgroundColor"], [".lp-text", "color"], [".lp-stop", "color"]]
      .map(([part, name]) => getComputedStyle(panel.querySelector(part))[name])"""
    light = panel.evaluate(colours)
    page.locator("body").evaluate("body => body.dataset.mdColorScheme = 'slate'")
    dark = panel.evaluate(colours)
    assert all(a != b for a, b in zip(light, dark, strict=True)), (light, dark)


def test_readers_who_want_no_movement_get_no_running_clock(
    page: Page, site: Site
) -> None:
    page.add_init_script(
        "window.clocks = 0; const start = setInterval;"
        "window.setInterval = (...args) => (clocks++, start(...args));"
    )
    motions: dict[Literal["reduce", "no-preference"], int]
    motions = {"reduce": 0, "no-preference": 1}
    for motion, clocks in motions.items():
        page.emulate_media(reduced_motion=motion)
        (panel,) = panels(page, site, "gate /text")
        run(panel)
        site.gate.make("one\n", None)
        expect(panel).to_have_attribute("data-state", "done")
        assert page.evaluate("clocks") == clocks
        expect(text(panel)).to_have_text("one\n")


def test_without_javascript_the_element_shows_its_content(
    chromium: Browser, site: Site
) -> None:
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        port = site.listener.getsockname()[1]
        page.goto(f"http://127.0.0.1:{port}/book/page?panel=gate%20/text")
        expect(page.locator("live-panel")).to_have_text("This needs JavaScript.")
