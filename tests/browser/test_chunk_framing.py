"""docs/recipes/chunk_framing.md: what a browser can upload, and what it reads."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from cookbook.catalog import ROOT
from recipes.chunk_framing import orders
from tests.kit import clients
from tests.kit.servers import START, Server, uvicorn

pytestmark = pytest.mark.timeout(START + 10)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("recipes.chunk_framing:app", warm=True) as running:
        yield running


def test_the_client_of_the_page_uploads_from_a_browser_too(
    server: Server, page: Page, tmp_path: Path
) -> None:
    client = clients.copied("chunk_framing.mjs", server.url, tmp_path)
    source = client.read_text("utf-8")
    page.route(
        "**/client.mjs",
        lambda route: route.fulfill(body=source, content_type="text/javascript"),
    )
    shown: list[str] = []
    page.on("console", lambda message: shown.append(message.text))
    page.goto(f"{server.url}/openapi.json")
    page.evaluate("() => import('/client.mjs').then(() => {})")
    assert [json.loads(line) for line in shown] == [
        {"line": 1, "taken": 5},
        {"line": 2, "error": "amount: Input should be greater than or equal to 1"},
        {"line": 3, "taken": 7},
        {"done": True, "lines": 3},
    ]


STREAMED = """async () => {
  const body = new Blob(['{"id":1,"item":"tea","amount":1}\\n']).stream();
  return (await fetch("/orders", { method: "POST", body, duplex: "half" })).status;
}"""


def test_chromium_refuses_a_stream_as_a_body_over_http_1(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    page.goto(f"{server.url}/openapi.json")
    with pytest.raises(Exception, match="TypeError: Failed to fetch"):
        page.evaluate(STREAMED)
    assert all("ERR_" in error for error in page_errors), page_errors
    page_errors.clear()


REPLAYED = """async (transcript) => {
  const { parseTranscript } = await import("/assets/transcript.js");
  const { replay } = await import("/assets/source.js");
  const found = { bytes: [], text: "" };
  const [exchange] = parseTranscript(transcript);
  for await (const { size, data, text } of replay(exchange).chunks) {
    found.bytes.push([size, data.length]);
    found.text += text;
  }
  return found;
}"""


def test_a_replay_of_half_a_character_shows_the_whole(
    server: Server, page: Page
) -> None:
    page.route(
        "**/assets/*.js",
        lambda route: route.fulfill(
            path=ROOT / "docs/assets" / route.request.url.rsplit("/", 1)[1]
        ),
    )
    page.goto(f"{server.url}/openapi.json")
    transcript = (ROOT / "docs/transcripts/chunk_framing.txt").read_text("utf-8")
    found = page.evaluate(REPLAYED, transcript)
    assert found["bytes"] == [[29, 29]] * 5 + [[13, 13]]
    assert found["text"] == b"".join(orders()).decode()
