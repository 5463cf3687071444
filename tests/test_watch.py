"""What `watch` shows of a stream is what arrived, as it arrived."""

import re
import socket
import sys
import threading
from collections.abc import Iterator
from xml.etree import ElementTree

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from cookbook.background import serving
from cookbook.notebook import TURN, Server
from cookbook.watch import WIDTH, Arrival, Stream, picture, watch
from tests.kit.servers import WAIT, free_port

HOSTILE = "</code><script>alert('tea')</script>&amp;\x1b[31m\u202e"

TAGS = {"div", "code", "svg", "g", "text", "path"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}


def answering(response: Response) -> FastAPI:
    app = FastAPI()
    app.add_api_route("/", lambda: response)
    return app


def seen_from(response: Response, chunks: int | None = None) -> Stream:
    with serving(answering(response)) as url:
        return watch(url, chunks=chunks)


def stream_of(*sizes: int) -> Stream:
    arrivals = [Arrival(n / 1000, 0.001, b"x" * size) for n, size in enumerate(sizes)]
    return Stream(
        "http://shop", 200, httpx2.Headers(), "utf-8", tuple(arrivals), 9.0, "complete"
    )


def test_each_chunk_is_seen_before_the_next_is_made() -> None:
    arrived = threading.Semaphore(0)
    sent = [b"green tea\n", b"tea pot\n", b"honey\n"]

    def producer() -> Iterator[bytes]:
        for chunk in sent:
            yield chunk
            # Goes on only when the client has the chunk; a buffered one never comes.
            assert arrived.acquire(timeout=WAIT)

    with serving(answering(StreamingResponse(producer()))) as url:
        stream = watch(url, seen=lambda _: arrived.release())
    assert [arrival.body for arrival in stream.arrivals] == sent
    assert [arrival.size for arrival in stream.arrivals] == [10, 8, 6]
    assert (stream.status, stream.ending, stream.size) == (200, "complete", 24)
    assert stream.body == b"green tea\ntea pot\nhoney\n"


def test_chunks_of_one_moment_stay_apart() -> None:
    stream = seen_from(StreamingResponse(iter(["tea\n"] * 50)))
    assert [arrival.body for arrival in stream.arrivals] == [b"tea\n"] * 50


def test_a_chunk_longer_than_a_read_arrives_in_pieces() -> None:
    stream = seen_from(StreamingResponse(iter(["x" * 100_000])))
    assert len(stream.arrivals) > 1
    assert stream.size == 100_000


def test_the_times_add_up() -> None:
    stream = seen_from(StreamingResponse(iter(["1\n", "2\n", "3\n"])))
    assert stream.first_byte == stream.arrivals[0].seconds == stream.arrivals[0].gap
    gaps = sum(arrival.gap for arrival in stream.arrivals)
    assert gaps == pytest.approx(stream.arrivals[-1].seconds)
    assert stream.seconds >= stream.arrivals[-1].seconds


def test_leaving_early_ends_the_request() -> None:
    server = Server(answering(StreamingResponse(iter(["x" * 10_000] * 1_000_000))))
    stream = watch(server.url, chunks=3)
    sent = server.sent()
    server.stop()
    assert (len(stream.arrivals), stream.ending) == (3, "left")
    assert not sent.whole
    assert len(sent.chunks) < 1_000_000


def test_both_ends_of_a_stream_are_counted() -> None:
    server = Server(answering(StreamingResponse(iter(["1\n", "two\n"]))))
    with pytest.raises(LookupError, match="Nobody has asked"):
        server.sent()
    watch(server.url)
    sent = server.sent()
    server.stop()
    server.stop()
    assert (sent.path, sent.chunks, sent.whole) == ("/", [2, 4], True)


def test_a_stream_that_breaks_off_is_told_so_far() -> None:
    arrived = threading.Event()

    def failing() -> Iterator[bytes]:
        yield b"1\n"
        assert arrived.wait(4)
        raise ValueError("no more tea")

    with serving(answering(StreamingResponse(failing()))) as url:
        stream = watch(url, seen=lambda _: arrived.set())
    assert (stream.ending, stream.body) == ("broken off", b"1\n")


def test_events_are_parsed() -> None:
    feed = "event: order\nid: 7\ndata: a\ndata: b\n\nevent: end\ndata: {}\n\n"
    pieces = iter([feed[:20], feed[20:]])
    stream = seen_from(StreamingResponse(pieces, media_type="text/event-stream"))
    assert stream.events == [
        httpx2.ServerSentEvent("order", "a\nb", "7"),
        httpx2.ServerSentEvent("end", "{}", "7"),
    ]


def test_other_streams_have_no_events() -> None:
    with pytest.raises(httpx2.SSEError, match="text/event-stream"):
        _ = seen_from(Response("tea", media_type="text/plain")).events


def test_hostile_text_stays_text() -> None:
    """Attack: A server sends HTML: a notebook shows it as text."""
    headers = {"Content-Type": "text/<script>; charset=utf-8"}
    response = Response(HOSTILE, headers=headers)
    with serving(answering(response)) as url:
        shown = watch(f"{url}/?<script>'\"")._repr_html_()
    tree = ElementTree.fromstring(f"<div>{shown}</div>")  # noqa: S314 - our own text
    names = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert names <= TAGS
    cells = [cell.text for cell in tree.iter("code")]
    assert cells[0] is not None
    assert "text/<script>" in cells[0]
    assert cells[1] == HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert not re.search(r"\son\w+=|href|url\(", shown)


def test_a_terminal_gets_no_control_characters() -> None:
    """Attack: A server sends escape codes: a terminal gets none."""
    shown = str(seen_from(Response(HOSTILE, headers={"Content-Type": "text/\x9b1m"})))
    assert "".join(shown.splitlines()).isprintable()


def test_the_table_is_plain() -> None:
    lines = str(seen_from(StreamingResponse(iter(["1\n", "2\n"])))).splitlines()
    assert lines[3].split() == ["#", "time", "s", "gap", "s", "bytes", "text"]
    assert re.fullmatch(r" +1 +\d+\.\d{3} +\d+\.\d{3} +2  1\\n", lines[4])
    assert re.match(r"complete after \d+\.\d{3} s: 2 arrivals, 4 bytes, ", lines[-1])


def test_a_long_stream_shows_its_first_dozen() -> None:
    stream = stream_of(*[1] * 52)
    assert "… 40 more" in str(stream)
    assert stream._repr_html_().count("<tr>") == 1 + 12 + 1
    assert "more" not in str(stream_of(*[1] * 12))


def test_a_long_chunk_is_cut() -> None:
    line = str(stream_of(70_000)).splitlines()[4]
    assert line.endswith(f"70,000  {'x' * 58} …")


def test_the_picture_has_a_bar_for_each_arrival() -> None:
    tree = ElementTree.fromstring(picture(stream_of(1, 50, 100)))  # noqa: S314
    bars = [path.get("d", "") for path in tree.iter() if path.get("stroke-width")]
    assert re.findall(r"v-(\d+)", bars[0]) == ["2", "36", "72"]


def test_a_million_arrivals_make_a_picture_no_larger() -> None:
    assert picture(stream_of(*[1] * 9000)).count("M") < WIDTH + 20


def test_a_stream_without_a_body_is_shown_too() -> None:
    stream = seen_from(Response(status_code=204))
    assert (stream.first_byte, stream.body, stream.arrivals) == (None, b"", ())
    assert "no body" in str(stream)
    assert "no body" in stream._repr_html_()


def test_the_request_asks_for_no_compression_and_carries_what_you_give() -> None:
    app = FastAPI()

    @app.get("/")
    def echo(request: Request) -> dict[str, str]:
        return dict(request.headers)

    with serving(app) as url:
        asked = httpx2.Response(200, content=watch(url, headers={"X-Tea": "y"}).body)
    assert asked.json()["accept-encoding"] == "identity"
    assert asked.json()["x-tea"] == "y"


def test_a_server_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}/orders.csv"
    with pytest.raises(ConnectionError, match=re.escape(url)) as failure:
        watch(url)
    assert "Is the server running" in str(failure.value)


@pytest.mark.parametrize("url", ["tea", "ftp://127.0.0.1/", "http://tea:pot/"])
def test_what_is_no_address_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="is no address to watch"):
        watch(url)


def test_leaving_before_anything_came_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        watch("http://127.0.0.1:9", chunks=0)


def test_a_server_that_never_answers_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cookbook.watch.WAIT", 0.05)
    # The kernel takes the connection; nobody reads the request.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=f"{url} did not answer within"):
            watch(url)


def test_a_stream_that_falls_silent_is_told_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cookbook.watch.WAIT", 0.5)
    done = threading.Event()

    def silent() -> Iterator[bytes]:
        yield b"1\n"
        assert done.wait(4)

    server = Server(answering(StreamingResponse(silent())))
    stream = watch(server.url)
    done.set()
    server.stop()
    assert (stream.ending, stream.body) == ("silent", b"1\n")


def test_a_server_in_this_process_lets_its_client_have_a_turn_soon() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)  # Python's own
    try:
        Server(answering(StreamingResponse(iter(["tea"])))).stop()
        assert sys.getswitchinterval() == pytest.approx(TURN)
    finally:
        sys.setswitchinterval(before)
