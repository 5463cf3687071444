"""docs/learn/what_streaming_is.md: one stream, and its bytes in each layer."""

import subprocess
from types import SimpleNamespace

import httpx2
import pytest
from playwright.sync_api import Page
from starlette.types import Message, Receive, Scope, Send

from cookbook.background import serving
from recipes import plain_text
from tests.kit import layers
from tests.kit.asgi import drive

pytestmark = pytest.mark.timeout(60)  # seconds; a browser is started


@pytest.fixture(scope="module")
def followed() -> tuple[layers.Followed, bytes]:
    return layers.by_socket()


def test_the_page_shows_what_a_new_run_gives(page: Page) -> None:
    kept = layers.RECORD.read_text("utf-8")
    assert kept == layers.sections(layers.record(page)), "run make docs to record anew"


def test_each_line_is_read_before_the_next_is_made(
    followed: tuple[layers.Followed, bytes],
) -> None:
    journal = followed[0].journal
    made = [n for n, (layer, _) in enumerate(journal) if layer == "generator"]
    read = [n for n, line in enumerate(journal) if line[1].startswith("reads a chunk")]
    # The last line is made without a pause, so it does not wait for a reader.
    for line in range(3):
        assert made[line] < read[line] < made[line + 1]


def test_the_journal_cannot_be_made_if_a_layer_collects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "WAIT", 0.5)  # seconds that both sides wait

    async def collecting(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        collects = scope["type"] == "http"
        await plain_text.app(scope, receive, collect if collects else send)
        for message in messages:
            await send(message)

    with pytest.raises(TimeoutError):
        layers.by_socket(collecting)


def test_the_status_leaves_before_the_generator_begins(
    followed: tuple[layers.Followed, bytes],
) -> None:
    first, second, third = followed[0].journal[:3]
    assert first == ("ASGI", "http.response.start, status 200")
    assert second == ("client", "reads the status and the header fields")
    assert third[0] == "generator"


def test_each_yield_is_one_message_and_the_last_one_is_empty(
    followed: tuple[layers.Followed, bytes],
) -> None:
    start, *bodies, last = followed[0].messages
    assert start["type"] == "http.response.start"
    assert [body["body"].decode() for body in bodies] == followed[0].yielded
    assert all(body["more_body"] for body in bodies)
    assert (last["body"], last["more_body"]) == (b"", False)


def test_an_answer_that_is_not_streamed_is_one_message() -> None:
    followed = layers.Followed()
    journal = drive(followed.application(plain_text.app), "/openapi.json").journal
    assert journal == ["start 200", "chunk 1", "end", "returned"]


def test_a_stream_has_no_length_and_is_chunked(
    followed: tuple[layers.Followed, bytes],
) -> None:
    head, body = followed[1].split(b"\r\n\r\n", 1)
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding: chunked" in head
    sizes = [line for line in body.split(b"\r\n")[::2] if line]
    assert sizes == [b"10", b"12", b"10", b"e", b"e", b"0"]
    assert [int(size, 16) for size in sizes] == [16, 18, 16, 14, 14, 0]


def test_the_last_chunk_is_missing_if_the_generator_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: float) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=fail))
    with serving(plain_text.app) as url, httpx2.stream("GET", f"{url}/async/1") as got:
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
            got.read()
        assert got.status_code == 200


def test_a_slow_client_makes_send_wait_and_the_generator_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain_text, "PAUSE", 0)
    followed = layers.Followed()
    followed.head.set()
    followed.original = plain_text.packing_slip_async
    monkeypatch.setattr(plain_text, "packing_slip_async", followed.lines)
    run = drive(plain_text.app, "/async/1", stall_at=2, disconnect_at=2)
    assert run.before("disconnect")[-1] == "stall 2"
    # The second was handed over and not taken; the third was not asked for meanwhile.
    assert followed.yielded[:2] == ["Order 1 for Ada\n", "packed: green tea\n"]
    assert len(run.chunks) == 1


def test_curl_shows_the_framing_with_raw_and_removes_it_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain_text, "PAUSE", 0)
    with serving(plain_text.app) as url:
        curl = ["curl", "-sN", f"{url}/async/1"]
        raw = subprocess.run([*curl, "--raw"], check=True, capture_output=True).stdout
        plain = subprocess.run(curl, check=True, capture_output=True).stdout
    assert raw.startswith(b"10\r\nOrder 1 for Ada\n\r\n12\r\n")
    assert raw.endswith(b"Ready to ship\n\r\n0\r\n\r\n")
    assert plain.startswith(b"Order 1 for Ada\npacked: green tea\n")
