"""docs/assets/sse.js: the rules of WHATWG HTML 9.2.6, however the bytes are cut."""

import base64
import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.kit.servers import in_a_thread

ROOT = Path(__file__).parents[2]
CASES = json.loads((ROOT / "tests/kit/sse_cases.json").read_text("utf-8"))

pytestmark = pytest.mark.timeout(60)  # seconds; a browser is started

DECODE = """async (cases) => {
  const { SSEDecoder } = await import("/sse.js");
  const run = (bytes, sizes) => {
    const decoder = new SSEDecoder();
    const events = [];
    let from = 0;
    for (const size of sizes) {
      events.push(...decoder.push(bytes.subarray(from, from + size)));
      from += size;
    }
    const { retry, lastEventId } = decoder;
    decoder.end();
    const late = decoder.retry !== retry || decoder.lastEventId !== lastEventId;
    return { events, retry, lastEventId, late };
  };
  return cases.map(({ bytes: encoded, chunkings }) => {
    const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
    return chunkings.map((sizes) => run(bytes, sizes));
  });
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word, and the modules as what they are."""

    extensions_map = {".js": "text/javascript", "": "text/html"}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def assets() -> Iterator[str]:
    """Serve docs/assets on a free port."""
    handler = partial(Quiet, directory=str(ROOT / "docs/assets"))
    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        yield address


@pytest.fixture
def decoder(page: Page, assets: str) -> Page:
    """Open a page of the same origin as the module."""
    page.route(
        "**/blank", lambda route: route.fulfill(body="", content_type="text/html")
    )
    page.goto(f"{assets}/blank")
    return page


def stream(case: dict[str, Any]) -> bytes:
    """Give the bytes of a case."""
    if case["encoding"] == "base64":
        return base64.b64decode(case["stream"])
    return str(case["stream"]).encode(case["encoding"])


def chunkings(case: dict[str, Any]) -> dict[str, list[int]]:
    """Give the ways to cut a case's bytes: the sizes of the chunks."""
    size = len(stream(case))
    ways = {"whole": [size], "byte by byte": [1] * size}
    if "chunk_sizes" in case:
        ways["in its chunk sizes"] = case["chunk_sizes"]
    return ways


def test_every_case_is_decoded_as_the_standard_says_however_it_is_cut(
    decoder: Page,
) -> None:
    sent = [
        {
            "bytes": base64.b64encode(stream(case)).decode(),
            "chunkings": list(chunkings(case).values()),
        }
        for case in CASES
    ]
    wrong = []
    for case, results in zip(CASES, decoder.evaluate(DECODE, sent), strict=True):
        expected = {
            "events": case["expected"],
            "retry": case["retry"],
            "lastEventId": case["last_event_id"],
            "late": False,
        }
        for way, got in zip(chunkings(case), results, strict=True):
            if got != expected:
                wrong.append(f"{case['name']}, {way}: {got} instead of {expected}")
    assert len(CASES) == 116
    assert wrong == []


def test_a_final_carriage_return_completes_its_event_without_a_wait(
    decoder: Page,
) -> None:
    counts = decoder.evaluate(
        """async () => {
          const { SSEDecoder } = await import("/sse.js");
          const decoder = new SSEDecoder();
          const bytes = (text) => new TextEncoder().encode(text);
          const cr = ["data: a\\r", "\\r", "\\n"];
          const crlf = ["data: b\\r\\n", "\\r", "\\ndata: c\\n\\n"];
          return [...cr, ...crlf]
            .map((piece) => decoder.push(bytes(piece)).map((event) => event.data));
        }"""
    )
    assert counts == [[], ["a"], [], [], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("data: kept\n\n", ""),
        ("data: kept\n\n: ping\n: pi", ""),
        ("data: kept\n\nevent: order\ndata: lo", "event: order\ndata: lo"),
        ("data: kept\n\ndata: lost\n", "data: lost"),
    ],
)
def test_the_end_tells_what_was_cut_off(decoder: Page, text: str, rest: str) -> None:
    got = decoder.evaluate(
        """async (text) => {
          const { SSEDecoder } = await import("/sse.js");
          const decoder = new SSEDecoder();
          const events = decoder.push(new TextEncoder().encode(text));
          return [events.map((event) => event.data), decoder.end()];
        }""",
        text,
    )
    assert got == [["kept"], rest]


def test_the_work_grows_in_step_with_the_stream(decoder: Page) -> None:
    # One long line, byte by byte: work that grew with its square would not come back.
    length = decoder.evaluate(
        """async () => {
          const { SSEDecoder } = await import("/sse.js");
          const decoder = new SSEDecoder();
          const [piece, end] = ["x", "\\n\\n"].map((s) => new TextEncoder().encode(s));
          decoder.push(new TextEncoder().encode("data:"));
          for (let i = 0; i < 1_000_000; i++) decoder.push(piece);
          return decoder.push(end)[0].data.length;
        }"""
    )
    assert length == 1_000_000


@pytest.mark.parametrize(
    "piece",
    ["x", "data: x\n", "retry: 1\n", ":"],
    ids=["line", "data", "retry", "word"],
)
def test_an_event_that_never_ends_is_given_up(decoder: Page, piece: str) -> None:
    got = decoder.evaluate(
        """async (piece) => {
          const { LONGEST, SSEDecoder } = await import("/sse.js");
          const decoder = new SSEDecoder();
          const push = (text) => decoder.push(new TextEncoder().encode(text)).length;
          const before = [push("data: a\\n\\n"), decoder.tooLong];
          const block = piece.repeat(100_000);
          for (let size = 0; size <= 2 * LONGEST; size += block.length) push(block);
          const after = [decoder.tooLong, push("\\n\\ndata: b\\n\\n")];
          return [...before, ...after, decoder.end()];
        }""",
        piece,
    )
    assert got == [1, False, True, 0, ""]


def test_an_event_is_as_long_as_the_limit_and_the_next_one_too(decoder: Page) -> None:
    # The limit is one event's: what has ended is forgotten.
    sizes = decoder.evaluate(
        """async () => {
          const { LONGEST, SSEDecoder } = await import("/sse.js");
          const decoder = new SSEDecoder();
          const text = `data:${"x".repeat(LONGEST - 10)}`;
          const got = [];
          for (const piece of [text, "\\n\\n", text, "\\n\\n"]) {
            got.push(...decoder.push(new TextEncoder().encode(piece)));
          }
          return got.map((event) => event.data.length - LONGEST);
        }"""
    )
    assert sizes == [-10, -10]
