"""The recorder of transcripts writes what a server sends, chunk by chunk."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import pytest
from fastapi import FastAPI, Header, Response
from starlette.responses import StreamingResponse

from cookbook import transcript
from cookbook.background import serving
from cookbook.catalog import Recipe
from cookbook.curl import Request
from cookbook.transcript import exchange, show, without_times

Exchange = Callable[..., list[str]]

CHUNKS = {
    "/lines": [b"one\ntwo\n", b"three\n", b"\xe2\x82", b"\xac\n", b"no line feed"],
    "/many": [b"head\n", b"".join(b"%d\n" % n for n in range(5000)), b"tail\n"],
    "/empty": [],
}
app = FastAPI()


@app.get("/chunks/{name}")
async def chunks(name: str) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for chunk in CHUNKS[f"/{name}"]:
            yield chunk

    return StreamingResponse(body(), media_type="text/plain; charset=utf-8")


@app.get("/latin")
async def latin() -> StreamingResponse:
    body = iter(["crème\n".encode("iso-8859-1")])
    return StreamingResponse(body, media_type="text/plain; charset=iso-8859-1")


@app.post("/echo")
async def echo(body: dict[str, str]) -> dict[str, str]:
    return body


@app.get("/whole")
async def whole() -> Response:
    return Response("a\nb\n", headers={"Date": "today"}, media_type="text/plain")


@app.get("/nothing", status_code=204)
async def nothing() -> None:
    """Answer without a body."""


@app.get("/cut")
async def cut() -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        yield "one\n"
        raise OSError("no more tea")

    return StreamingResponse(body())


@app.get("/refused")
async def refused() -> Response:
    # The server drops the connection: a header field is one line.
    return Response(headers={"Tea": "green\r\nor black"})


@app.get("/silent")
async def silent() -> None:
    await asyncio.Event().wait()


@app.get("/ticks")
async def ticks() -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        for n in itertools.count():
            yield f"tick {n}\n"
            await asyncio.sleep(0)

    return StreamingResponse(body())


@app.get("/stalled")
async def stalled() -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        yield "one\n"
        await asyncio.Event().wait()

    return StreamingResponse(body())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(app) as address:
        yield address


@pytest.fixture
def record(address: str) -> Exchange:
    """Give a function that records one request, without its times."""

    def recorded(path: str, asked: Request | None = None) -> list[str]:
        lines = exchange(address, replace(asked or Request(""), path=path))
        return without_times("\n".join(lines)).splitlines()

    return recorded


def body(lines: list[str]) -> list[str]:
    return lines[lines.index("") + 1 :]


def test_a_request_carries_its_method_its_fields_and_its_body(record: Exchange) -> None:
    fields = {"content-type": "application/json"}
    sent = '{"item": "crème brûlée"}'.encode()
    lines = record("/echo", Request("", "POST", fields, sent))
    assert lines[0] == "HTTP/1.1 200 OK"
    assert '{"item":"crème brûlée"}' in body(lines)[1]


def test_a_chunk_of_the_server_is_a_chunk_of_the_transcript(record: Exchange) -> None:
    assert record("/chunks/lines") == [
        "HTTP/1.1 200 OK",
        "server: uvicorn",
        "content-type: text/plain; charset=utf-8",
        "transfer-encoding: chunked",
        "",
        "-, 8 bytes",
        "  one",
        "  two",
        "-, 6 bytes",
        "  three",
        "-, 2 bytes",
        r"  \udce2\udc82" "\\",  # A character that was cut in two.
        "-, 2 bytes",
        r"  \udcac",
        "-, 12 bytes",
        "  no line feed\\",
        "-, end: 5 chunks, 30 bytes",
    ]


def test_a_long_chunk_is_shortened_but_counted_and_digested_whole(
    record: Exchange,
) -> None:
    size = len(CHUNKS["/many"][1])
    left_out = size - len(b"0\n1\n2\n3\n4\n4999\n")
    assert body(record("/chunks/many")) == [
        "-, 5 bytes",
        "  head",
        f"-, {size:,} bytes",
        *(f"  {n}" for n in range(5)),
        f"… 4,994 lines, {left_out:,} bytes",
        "  4999",
        "-, 5 bytes",
        "  tail",
        f"-, end: 3 chunks, {size + 10:,} bytes",
        f"sha256 {hashlib.sha256(b''.join(CHUNKS['/many'])).hexdigest()}",
    ]


def test_the_charset_of_the_response_is_used(record: Exchange) -> None:
    assert body(record("/latin"))[:2] == ["-, 6 bytes", "  crème"]


def test_a_response_with_a_length_is_one_chunk_and_its_date_is_left_out(
    record: Exchange,
) -> None:
    lines = record("/whole")
    assert "content-length: 4" in lines
    assert not [line for line in lines if line.lower().startswith("date")]
    assert body(lines) == [
        "-, 4 bytes",
        "  a",
        "  b",
        "-, end: 1 chunks, 4 bytes",
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing", "HTTP/1.1 204 No Content"), ("/chunks/empty", "HTTP/1.1 200 OK")],
)
def test_a_response_without_a_body_has_no_chunks(
    record: Exchange, path: str, status: str
) -> None:
    lines = record(path)
    assert lines[0] == status
    assert body(lines) == ["-, end: 0 chunks, 0 bytes"]


@pytest.mark.parametrize("path", ["/cut", "/refused"])
def test_a_response_that_breaks_off_fails_the_recording(
    record: Exchange, path: str
) -> None:
    with pytest.raises(EOFError, match="the answer broke off"):
        record(path)


def test_of_an_endless_stream_the_first_chunks_are_recorded(record: Exchange) -> None:
    lines = body(record("/ticks", Request("", seconds=2.0)))
    assert lines[:2] == ["-, 7 bytes", "  tick 0"]
    assert lines[-3:] == ["-, 7 bytes", "  tick 4", "-, stopped: 5 chunks, 35 bytes"]


def test_a_stream_that_ends_before_is_recorded_to_its_end(record: Exchange) -> None:
    assert (
        record("/chunks/empty", Request("", seconds=2.0))[-1]
        == "-, end: 0 chunks, 0 bytes"
    )


@pytest.mark.parametrize("path", ["/silent", "/stalled"])
def test_a_server_that_hangs_fails_the_recording(
    record: Exchange, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript, "WAIT", 0.1)
    with pytest.raises(TimeoutError):
        record(path)


@pytest.mark.parametrize(
    ("chunk", "shown"),
    [
        (b"one\r\n", [r"  one\r"]),
        (b"one\rtwo\n", [r"  one\rtwo"]),
        (b"a\tb\n", [r"  a\tb"]),
        (b"C:\\new\n", [r"  C:\\new"]),
        (b"\0\x1b[1m\n", [r"  \x00\x1b[1m"]),
        (b"no end", ["  no end\\"]),
        (b"ends in \\", ["  ends in \\\\\\"]),
        ("crème brûlée\u2028€\n".encode(), [r"  crème brûlée\u2028€"]),
        (b"\xff\n", [r"  \udcff"]),
        (rb"\udcff" b"\n", [r"  \\udcff"]),
        (b"\n\n", ["  ", "  "]),
        (b"\r", ["  \\r\\"]),
    ],
)
def test_what_cannot_be_seen_is_escaped(chunk: bytes, shown: list[str]) -> None:
    assert show(chunk, "utf-8") == shown


@pytest.mark.parametrize("row", [b"tea", "thé 🫖".encode(), b"\xff\xfe", b"\\\r\t"])
@pytest.mark.parametrize("end", [b"", b"cut"])
def test_what_a_shortened_chunk_leaves_out_is_counted_in_bytes_of_the_wire(
    row: bytes, end: bytes
) -> None:
    lines = show((row + b"\n") * 100 + end, "utf-8")
    notes = [line for line in lines if line.startswith("…")]
    assert notes == [f"… 94 lines, {94 * (len(row) + 1)} bytes"]
    assert len(lines) == 5 + 1 + 1 + bool(end)


@pytest.mark.parametrize("lines", [1, 8])
def test_a_chunk_of_a_few_lines_is_shown_whole(lines: int) -> None:
    assert show(b"tea\n" * lines, "utf-8") == ["  tea"] * lines


def test_nothing_but_the_times_is_left_out_of_a_comparison() -> None:
    whole = "x: 1.250 s\n\n0.002 s, 16 bytes\n  0.500 s, 4 bytes\n12.345 s, end: 1\n"
    timeless = "x: 1.250 s\n\n-, 16 bytes\n  0.500 s, 4 bytes\n-, end: 1\n"
    assert without_times(whole) == timeless


def test_where_a_provider_is_passed_on_the_chunks_are_left_out_too() -> None:
    apart = "0.1 s, 5 bytes\n  a\n0.002 s, 12 bytes\n  data: [DONE]\n"
    together = (
        "0.001 s, 17 bytes\n  a\n  data: [DONE]\n0.003 s, end: 1 chunks, 17 bytes"
    )
    apart = apart.replace("0.1 s", "0.100 s") + "0.004 s, end: 2 chunks, 17 bytes"
    wanted = "  a\n  data: [DONE]\n-, end: 17 bytes"
    assert without_times(apart) == without_times(together) == wanted
    other = "--8<-- [start:x]\n-, 5 bytes\n  a\n"
    assert without_times(other + "--8<-- [start:y]\n" + apart).startswith(other)


@app.post("/cookie")
async def set_a_cookie(cookie: Annotated[str, Header()] = "no cookie") -> Response:
    response = Response(cookie)
    response.set_cookie("session", f"eyJ{'x' * 40}.y-Y.z_Z", httponly=True)
    return response


@dataclass(frozen=True)
class Loaded(Recipe):
    """A recipe whose application is there already."""

    def load(self) -> FastAPI:
        """Give the application."""
        return app


def test_a_recording_has_a_named_part_for_every_request() -> None:
    tries = (
        "curl -N 'http://127.0.0.1:8000/latin?rows=5'",
        "curl -N http://127.0.0.1:8000/chunks/lines",
    )
    recording = transcript.record(Loaded("tea", "Tea.", "", tries))
    first, second = recording.split("\n\n--8<-- ")
    assert first.startswith(f"--8<-- [start:latin]\n$ {tries[0]}\nHTTP/1.1 200 OK\n")
    assert first.endswith("\n--8<-- [end:latin]")
    assert second.startswith(f"[start:chunks-lines]\n$ {tries[1]}\nHTTP/1.1 200 OK\n")
    assert second.endswith("\n--8<-- [end:chunks-lines]\n")


def test_a_cookie_is_kept_for_the_requests_that_name_a_jar() -> None:
    tries = (
        "curl -c jar.txt -X POST http://127.0.0.1:8000/cookie",
        "curl -b jar.txt -X POST http://127.0.0.1:8000/cookie",
        "curl -X POST http://127.0.0.1:8000/cookie",
    )
    parts = without_times(transcript.record(Loaded("tea", "Tea.", "", tries)))
    first, second, third = parts.split("\n\n--8<-- ")
    assert "set-cookie: session=-; HttpOnly" in first
    assert "no cookie" in first
    assert "  session=-\\\n" in second
    assert "no cookie" in third
