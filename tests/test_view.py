"""docs/learn/watch.md: what `cookbook watch` prints, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from typer.testing import CliRunner, Result

from cookbook import ask, check, messages
from cookbook.ask import START, Ask, NoAnswerError, Seen, Unpacker, record
from cookbook.background import serving
from cookbook.cli import app as command
from cookbook.cli import request
from cookbook.messages import Events, JsonLines, Message, Reader
from cookbook.proxy import certify
from cookbook.view import KEPT, MOST, ROOM, STATUS, Told, cut
from tests.kit.servers import WAIT, free_port

ROOT = Path(__file__).parents[1]
runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
SSE = "text/event-stream"
# Colours, a title, a link, an 8-bit code, text that runs backwards, a line ending.
HOSTILE = "\x1b[31m\x1b]0;pwned\x07\x1b]8;;http://evil\x1b\\x\x9b2J\u202e\r\u2028[red]"
app = FastAPI()


async def endless() -> AsyncIterator[bytes]:
    """Send one event, and then nothing until the client leaves."""
    yield b"event: order\ndata: {}\n\n"
    await asyncio.Event().wait()


def stream(*chunks: bytes, kind: str = SSE, **headers: str) -> StreamingResponse:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= {"content-type": kind}
    return StreamingResponse(iter(chunks), headers=fields)


def failing() -> Iterator[bytes]:
    """Send an event, and break off."""
    yield b"data: {}\n\n"
    raise ConnectionError


ANSWERS: dict[str, Callable[[], Response]] = {
    "/events": lambda: stream(
        b": hello\n\n", b"id: 1\nevent: order\ndata: {}\n\ndata: b\n\n", b"data: c"
    ),
    "/lines": lambda: stream(b'{"id":1}\n', b"\n", kind="application/jsonl"),
    "/text": lambda: stream(b"tea ", b"pot", kind="text/plain; charset=latin-1"),
    "/whole": lambda: Response("tea", media_type="text/plain"),
    "/missing": lambda: Response(status_code=404),
    "/moved": lambda: RedirectResponse("/events"),
    "/loop": lambda: RedirectResponse("/loop"),
    "/to-a-file": lambda: RedirectResponse("file:///etc/passwd"),
    "/empty": lambda: stream(),
    "/cut": lambda: StreamingResponse(failing(), media_type=SSE),
    "/endless": lambda: StreamingResponse(endless(), media_type=SSE),
    "/hostile": lambda: stream(
        f"event: {HOSTILE}\nid: {HOSTILE}\ndata: {HOSTILE}\n\n: {HOSTILE}\n\n".encode(),
        f"{HOSTILE}\n\nevent: {HOSTILE}\n\ndata: {HOSTILE}".encode(),
        cache_control="\x9b31m\x85",
    ),
    "/hostile-text": lambda: stream(HOSTILE.encode(), kind="text/plain"),
    "/hostile-lines": lambda: stream(HOSTILE.encode(), b"\n", kind="application/jsonl"),
    "/garbled-gzip": lambda: stream(b"tea", kind="text/plain", content_encoding="gzip"),
    "/unknown-charset": lambda: stream(b"tea", b"pot", kind="text/plain; charset=tea"),
    "/many": lambda: stream(b"data: 1\n\n" * 20),
}


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT"])
async def answer(request: Request) -> Response:
    """Give one of the answers, or say what was asked."""
    if make := ANSWERS.get(request.url.path):
        return make()
    body = (await request.body()).decode()
    said = {"method": request.method, "headers": dict(request.headers), "body": body}
    return stream(json.dumps(said).encode() + b"\n", b"{}\n", kind="application/jsonl")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(app) as address:
        yield address


def watch(*words: str) -> Result:
    return runner.invoke(command, ["watch", *words])


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("path", "verdict", "said"),
    [
        ("/events", "streaming", "3 chunks, 54 bytes, 2 events, 1 ping, 1 fault"),
        ("/lines", "streaming", "2 chunks, 10 bytes, 1 line, 1 ping"),
        ("/text", "streaming", "2 chunks, 7 bytes"),
        ("/whole", "whole", "1 chunk, 3 bytes"),
        ("/missing", "refused", "404 Not Found"),
        ("/moved", "redirect", "it is at /events"),
        ("/empty", "silent", "not one byte"),
        ("/cut", "closed early", "broken off after"),
        ("/unknown-charset", "streaming", "tea"),
        ("/garbled-gzip", "whole", "the body is not gzip"),
    ],
)
def test_the_verdict_is_said_and_is_the_exit_status(
    url: str, path: str, verdict: str, said: str
) -> None:
    result = watch(url + path)
    assert f"\n{verdict}: " in result.stdout
    assert said in result.stdout
    assert result.exit_code == STATUS[verdict]


def test_each_chunk_has_its_times_and_what_it_says(url: str) -> None:
    lines = watch(f"{url}/events").stdout.splitlines()
    assert lines[0] == f"GET {url}/events"
    assert "  content-type: text/event-stream" in lines
    at = lines.index("   time s     gap s     bytes") + 1
    rows = [line.split(maxsplit=3) for line in lines[at : at + 2]]
    assert [(row[2], row[3]) for row in rows] == [
        ("9", "ping · hello"),
        ("38", "event order · id 1 · {}"),
    ]
    assert lines[at + 2].strip() == "event message · b"
    assert lines[at + 3].endswith("  data: c")
    assert lines[at + 4].strip() == "cut off: data: c"


def test_of_many_messages_in_a_chunk_the_first_are_shown(url: str) -> None:
    shown = watch(f"{url}/many").stdout
    assert shown.count("event message · 1") == 8
    assert "… 12 more" in shown
    assert "1 chunk, 180 bytes, 20 events" in shown


def test_json_is_a_line_for_each_thing(url: str) -> None:
    result = watch(f"{url}/events", "--json")
    said = objects(result)
    kinds = [one["type"] for one in said]
    chunks = ["chunk", "ping", "chunk", "event", "event", "chunk"]
    assert kinds == ["head", *chunks, "fault", "verdict"]
    assert said[0].keys() == {"type", "method", "url", "status", "seconds", "headers"}
    assert said[1].keys() == {"type", "seconds", "gap", "bytes"}
    assert {**said[4], "seconds": 0} == {
        "type": "event",
        "seconds": 0,
        "event": "order",
        "id": "1",
        "data": "{}",
    }
    assert {**said[7], "seconds": 0} == {
        "type": "fault",
        "seconds": 0,
        "fault": "cut",
        "data": "data: c",
    }
    assert said[-1].keys() == {
        *("type", "verdict", "findings", "exit", "ending", "seconds", "first_byte"),
        *("longest_silence", "chunks", "bytes", "events", "lines", "pings"),
    }
    numbers = [said[-1][key] for key in ("exit", "chunks", "bytes", "events", "pings")]
    assert numbers == [0, 3, 54, 2, 1]


def test_json_has_the_text_of_a_stream_without_messages(url: str) -> None:
    said = objects(watch(f"{url}/text", "--json"))
    assert [one["text"] for one in said if one["type"] == "text"] == ["tea ", "pot"]


def test_json_says_why_nobody_answered() -> None:
    result = watch(f"127.0.0.1:{free_port()}", "--json")
    (said,) = objects(result)
    assert (said["type"], said["exit"], result.exit_code) == ("error", 1, 1)
    assert "Is the server running" in said["message"]
    assert said["message"] in result.stderr.replace("\n", "")


def test_findings_are_told_with_what_to_do(url: str) -> None:
    result = watch(f"{url}/events", "--check")
    assert result.exit_code == 7
    assert "no-anti-buffering\n  seen  the header X-Accel-Buffering is" in result.stdout
    page = f"{check.SITE}/production/diagnosis/#5-the-proxy"
    assert f"\n  page  {page}\n" in result.stdout
    said = objects(watch(f"{url}/events", "--check", "--json"))
    findings = [one["finding"] for one in said if one["type"] == "finding"]
    assert findings == said[-1]["findings"]
    assert {"no-anti-buffering", "cut-event"} <= set(findings)


def test_what_is_well_ends_with_0(url: str) -> None:
    result = watch(f"{url}/lines", "--check")
    assert "--check found nothing wrong" in result.stdout
    assert "not judged: compression-buffers (" in result.stdout
    assert result.exit_code == 0


def test_a_time_limit_leaves_an_endless_stream(url: str) -> None:
    result = watch(f"{url}/endless", "--seconds", "0.5")
    assert "left by you after 0.5" in result.stdout
    assert result.exit_code == 0


def test_a_redirect_is_followed_only_with_the_option(url: str) -> None:
    result = watch("-L", f"{url}/moved")
    assert result.stdout.startswith(f"GET {url}/events\n")
    assert result.exit_code == 0
    assert "redirects more than 10 times" in watch("-L", f"{url}/loop").stderr
    assert watch("-L", f"{url}/to-a-file").exit_code == 1


def test_a_body_is_posted(url: str, tmp_path: Path) -> None:
    def echoed(*words: str) -> dict[str, Any]:
        said = objects(watch(f"{url}/echo", "--json", *words))
        lines = [json.loads(one["data"]) for one in said if one["type"] == "line"]
        return dict(lines[0])

    told = echoed("-d", '{"a": 1}')
    assert (told["method"], told["body"]) == ("POST", '{"a": 1}')
    assert told["headers"]["content-type"] == "application/json"
    told = echoed("-d", "a=1", "-X", "PUT", "-H", "X-Tea: pot: 1")
    assert (told["method"], told["headers"]["x-tea"]) == ("PUT", "pot: 1")
    assert told["headers"]["content-type"] == "application/x-www-form-urlencoded"
    (tmp_path / "body").write_text("tea\n", "utf-8")
    told = echoed("-d", f"@{tmp_path / 'body'}", "-H", "content-type: text/plain")
    assert (told["body"], told["headers"]["content-type"]) == ("tea\n", "text/plain")
    assert told["headers"]["accept-encoding"] == "identity"
    assert echoed()["method"] == "GET"


@pytest.mark.parametrize(
    "words",
    [
        ["-H", "tea"],
        ["-H", "t e a: 1"],
        ["-H", "a: 1\r\nb: 2"],
        ["-X", "G T"],
        ["-d", "@/nowhere"],
        ["--seconds", "0"],
        ["--silence", "-1"],
    ],
)
def test_a_wrong_command_ends_with_2(words: list[str]) -> None:
    assert watch("http://127.0.0.1:9", *words).exit_code == 2


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/", "http://tea:pot/", "http://", "http://\x1b[31m/"],
)
def test_what_is_no_address_is_said(url: str) -> None:
    result = watch(url)
    assert result.exit_code == 1
    assert "is no address to watch" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("path", ["/hostile", "/hostile-text", "/hostile-lines"])
@pytest.mark.parametrize("words", [[], ["--json"], ["--check"]])
def test_attack_escape_codes_of_a_stream_reach_no_terminal(
    url: str, path: str, words: list[str]
) -> None:
    """A stream with escape codes is watched: they are shown as text, none is sent."""
    result = watch(url + path, *words)
    shown = result.stdout + result.stderr
    assert "".join(shown.split("\n")).isprintable()
    assert "\\x1b" in shown or "\\u001b" in shown
    assert "[red]" in shown


def test_attack_a_server_that_never_answers_is_left() -> None:
    """A server takes the connection and is silent: the command ends in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = watch(f"127.0.0.1:{listener.getsockname()[1]}", "--seconds", "0.2")
    assert result.exit_code == 1
    assert "did not answer within 0.2 s" in result.stderr


def test_attack_a_head_that_drips_is_left() -> None:
    """A server sends its head a byte at a time, for ever: it is left in time."""
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nx-tea: ")
            while not over.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=[listener], daemon=True)
        thread.start()
        result = watch(f"127.0.0.1:{listener.getsockname()[1]}", "--seconds", "0.3")
        over.set()
        thread.join(WAIT)
    assert result.exit_code == 1
    assert "did not answer within 0.3 s" in result.stderr


def test_what_is_no_http_is_said() -> None:
    def greet(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-tea\x1b[31m\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=[listener], daemon=True)
        thread.start()
        result = watch(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join(WAIT)
    assert result.exit_code == 1
    assert "gave no response" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    files = tmp_path / "certificate", tmp_path / "key"
    certify(*files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    def answer_all(listener: socket.socket) -> None:
        for _ in range(2):
            with listener.accept()[0] as connection, closing(connection):
                try:
                    with context.wrap_socket(connection, server_side=True) as safe:
                        safe.recv(1000)
                        safe.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntea")
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_all, args=[listener], daemon=True)
        thread.start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        refused = watch(address)
        trusted = watch("-k", address)
        thread.join(WAIT)
    assert refused.exit_code == 1
    assert "No secure connection to" in refused.stderr
    assert "-k goes on without" in refused.stderr
    assert "200 OK" in trusted.stdout


def test_a_password_in_the_address_is_not_shown(url: str) -> None:
    shown = watch(url.replace("//", "//ada:secret@") + "/text").stdout
    assert "secret" not in shown


def test_ctrl_c_prints_what_was_seen_and_the_verdict(url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "cookbook", "watch", f"{url}/endless"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80", "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout
        for line in process.stdout:
            if "event order" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(WAIT) == 0, rest
    assert "\nstreaming: " in rest
    assert "left by you after" in rest
    assert "Traceback" not in rest


# What is kept is bounded -------------------------------------------------------------


def kept_of(reader: Reader, *bodies: bytes) -> tuple[int, list[Message]]:
    """Read bodies, and give the peak of memory and the messages."""
    told = Told(reader)
    tracemalloc.start()
    found = [message for body in bodies for message in told.hear(body, 0.0)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, found


@pytest.mark.parametrize("reader", [Events(), JsonLines()])
def test_attack_a_line_without_end_is_not_kept(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server sends one line without end: no more than a bounded part is kept."""
    monkeypatch.setattr(messages, "LONGEST", 10_000)
    body = b"data: " + b"x" * 1000
    peak, found = kept_of(reader, *([body] * 1000), b"\n\n", b"data: y\n\n")
    assert peak < 200_000
    assert found[0].kind == "too long"
    assert [message.text for message in found if "y" in message.text]


def test_attack_an_event_of_many_lines_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server sends an event of endless lines: it is dropped, and the next is read."""
    monkeypatch.setattr(messages, "LONGEST", 10_000)
    lines = [b"data: " + b"x" * 1000 + b"\n"] * 1000
    peak, found = kept_of(Events(), *lines, b"\n", b"data: y\n\n")
    assert peak < 200_000
    assert [message.kind for message in found] == ["too long", "event"]


def test_of_many_messages_the_first_and_the_last_are_kept() -> None:
    told = Told(Events())
    for number in range(MOST + 10):
        list(told.hear(b"data: %d\n\n" % number, 0.0))
    assert len(told.kept) == MOST
    assert told.kept[0].message.text == "0"
    assert told.kept[-1].message.text == str(MOST + 9)
    assert told.messages == MOST + 10


def test_attack_a_body_that_unpacks_to_much_is_read_in_pieces() -> None:
    """A small gzip body unpacks to 20 MB: it is read in pieces of at most 64 KiB."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    bomb = packer.compress(b"\0" * 20_000_000) + packer.flush()
    sizes = list[int]()
    Unpacker("gzip").unpack(bomb, lambda piece: sizes.append(len(piece)))
    assert max(sizes) <= ask.READ
    assert sum(sizes) == 20_000_000


@pytest.mark.parametrize("name", ["tea", "hex", "undefined", "idna", "utf-8", ""])
def test_a_charset_that_is_none_is_utf_8(name: str) -> None:
    seen = Seen(Ask("http://shop"))
    seen.headers = httpx2.Headers({"content-type": f"text/plain; charset={name}"})
    assert seen.charset == "utf-8"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_what_is_packed_is_unpacked_as_it_comes(coding: str) -> None:
    packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "br": 31}[coding])
    first = packer.compress(b"tea") + packer.flush(zlib.Z_SYNC_FLUSH)
    pieces = list[bytes]()
    Unpacker(coding).unpack(first, pieces.append)
    assert pieces == [first if coding == "br" else b"tea"]


def test_of_a_body_only_the_start_is_kept() -> None:
    big = stream(*[b"x" * 50_000] * 40, kind="text/plain")
    small = FastAPI()
    small.add_api_route("/", lambda: big)
    with serving(small) as address:
        seen = Seen(Ask(address))
        asyncio.run(record(seen))
    assert (seen.size, len(seen.start)) == (2_000_000, START)
    assert seen.ending == "complete"
    with pytest.raises(NoAnswerError):
        asyncio.run(record(Seen(Ask("http://"))))


def test_what_is_shown_of_a_text_is_cut() -> None:
    assert cut("x" * 300) == "x" * 200 + " …"
    assert cut("\x1b" * 100, 50) == ("\\x1b" * 50)[:50] + " …"
    assert cut("tea") == "tea"
    assert KEPT < ROOM


# What is read ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_read_wherever_they_are_cut(size: int, end: str) -> None:
    lines = ["\ufeff: hi", "id: 7", "event: order", "data: é", "data:b", "data", ""]
    lines += [
        "id: 8",
        "retry: 10",
        "",
        "event: end",
        "",
        "id: a\0b",
        "data:  c",
        "",
        "",
    ]
    body = end.join(lines).encode()
    reader = Events()
    cuts = [body[at : at + size] for at in range(0, len(body), size)]
    found = [message for piece in cuts for message in reader.read(piece)]
    assert found == [
        Message("ping", "hi"),
        Message("event", "é\nb\n", "order", "7", has_id=True),
        Message("no data", "", "end", "8"),
        Message("event", " c", "message", "8"),
    ]
    assert list(reader.end()) == []


def test_lines_are_read_wherever_they_are_cut() -> None:
    body = b'{"a":1}\r\n\n \n{"b":"\xc3\xa9"}\n{"c'
    reader = JsonLines()
    pieces = [body[at : at + 1] for at in range(len(body))]
    found = [message for piece in pieces for message in reader.read(piece)]
    assert [(message.kind, message.text) for message in found] == [
        ("line", '{"a":1}'),
        ("ping", ""),
        ("ping", ""),
        ("line", '{"b":"é"}'),
    ]
    assert [message.text for message in reader.end()] == ['{"c']


def test_a_request_is_read_as_curl_reads_it() -> None:
    assert request("x", None, ["A: b "], None) == Ask("x", "GET", (("A", "b"),))
    assert request("x", None, [], "").method == "POST"
    assert not request("x", None, [], "1").can_be_repeated
    assert Ask("x", headers=(("A", "1"),)).having("a", "2").headers == (("a", "2"),)
