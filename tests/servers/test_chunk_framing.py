"""docs/recipes/chunk_framing.md: both ways at once, on a real server."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from cookbook.catalog import ROOT
from recipes.chunk_framing import BODY
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import HOST, WAIT, Answer, Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

PAGE = ROOT / "docs/recipes/chunk_framing.md"
TEA = b'{"id":1,"item":"tea","amount":1}\n'
BUFFER = 64 * 1024  # bytes, of each of the client's two socket buffers


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("recipes.chunk_framing:app", warm=True) as running:
        yield running


@pytest.fixture(scope="module")
def counted() -> Iterator[Server]:
    with uvicorn("tests.servers.counted_chunk_framing:app", warm=True) as running:
        yield running


class Uploading:
    """A request whose body is sent by hand."""

    def __init__(self, port: int, connection: socket.socket, head: str) -> None:
        self.connection = connection
        lines = ["POST /orders HTTP/1.1", f"Host: {HOST}:{port}", head, "", ""]
        connection.sendall("\r\n".join(lines).encode("ascii"))

    def send(self, data: bytes) -> None:
        """Send one chunk; an empty one ends the body (RFC 9112, 7.1)."""
        self.connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))


@contextmanager
def uploading(
    port: int, head: str = "Transfer-Encoding: chunked", buffer: int = 0
) -> Iterator[Uploading]:
    with socket.socket() as connection:
        connection.settimeout(WAIT)
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.connect((HOST, port))
        yield Uploading(port, connection, head)


def test_a_line_is_answered_before_the_next_is_sent(server: Server) -> None:
    with uploading(server.port) as request:
        answer = Answer(request.connection)
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        for number in range(1, 4):
            request.send(TEA[:10])
            request.send(TEA[10:])
            assert json.loads(answer.chunk()) == {"line": number, "taken": 1}
        request.send(b"")
        assert json.loads(answer.chunk()) == {"done": True, "lines": 3}
        assert answer.chunk() == b""


def test_a_character_in_two_packets_is_one(server: Server) -> None:
    first, second = TEA.replace(b"tea", "crème".encode()).split(b"\xa8")
    with uploading(server.port) as request:
        answer = Answer(request.connection)
        request.send(first)
        request.send(b"\xa8" + second)
        assert json.loads(answer.chunk()) == {"line": 1, "taken": 1}


def test_413_comes_before_anything_is_uploaded(server: Server) -> None:
    with uploading(server.port, f"Content-Length: {BODY + 1}") as request:
        answer = Answer(request.connection)
        assert answer.head.startswith("HTTP/1.1 413 ")
        assert answer.stream.read(17) == b"Content Too Large"


def test_without_a_length_the_last_line_says_413_and_the_answer_is_whole(
    server: Server,
) -> None:
    with uploading(server.port) as request:
        answer = Answer(request.connection)
        request.send(TEA)
        assert json.loads(answer.chunk()) == {"line": 1, "taken": 1}
        request.send(b" " * BODY)
        last = {"failed": "Content Too Large", "status": 413}
        assert json.loads(answer.chunk()) == last
        assert answer.chunk() == b""
        # What else comes is read and thrown away, and the connection serves on.
        request.send(TEA)
        request.send(b"")
        request.connection.sendall(b"GET /orders.ndjson HTTP/1.1\r\nHost: x\r\n\r\n")
        while (line := answer.stream.readline()) != b"\r\n":
            assert line
        assert answer.chunk().startswith(b'{"id":1,')


def offer_until_stuck(request: Uploading, seconds: float) -> None:
    """Send short lines until the server takes no more; reads no answer."""
    request.connection.settimeout(seconds)
    for _ in range(BODY // 4000):
        try:
            request.send(b"x\n" * 2000)
        except TimeoutError:
            return
    pytest.fail(f"the server took all {BODY:,} bytes")


def taken(server: Server) -> int:
    return int(httpx2.get(f"{server.url}/taken").text)


def test_a_server_whose_answers_are_not_read_stops_reading(counted: Server) -> None:
    with uploading(counted.port, buffer=BUFFER) as request:
        before = taken(counted)
        offer_until_stuck(request, 1)
        first = settled(counted) - before
        assert 0 < first < BODY / 4
        # It reads on as soon as its answers are read; how many wait is the system's.
        request.connection.settimeout(WAIT)
        while taken(counted) - before == first:
            assert request.connection.recv(1_000_000)


def settled(server: Server) -> int:
    """Ask until the number stays the same: the server has worked off what it took."""
    last, now = -1, taken(server)
    while now != last:
        last, now = now, taken(server)
    return now


@pytest.mark.parametrize("abort", [False, True])
def test_clients_that_leave_are_not_logged_and_stop_nobody(abort: bool) -> None:
    with uvicorn("recipes.chunk_framing:app", warm=True) as server:
        for data in (b"", TEA, TEA[:5], TEA + b"\xff") * 5:
            with uploading(server.port) as request:
                answer = Answer(request.connection)
                if data:
                    request.send(data)
                if b"\n" in data:
                    answer.chunk()
                if abort:
                    answer.abort()
                else:
                    answer.close()
        with raw_get(server.port, "/orders.ndjson") as answer:
            assert answer.rest()
        lines = server.output().splitlines()
    assert [line for line in lines if not line.startswith("INFO: ")] == []


def test_a_client_that_stalls_and_leaves_is_not_logged_either() -> None:
    with uvicorn("recipes.chunk_framing:app", warm=True) as server:
        with uploading(server.port, buffer=BUFFER) as request:
            offer_until_stuck(request, 0.5)
        with raw_get(server.port, "/orders.ndjson") as answer:
            assert answer.rest()
        lines = server.output().splitlines()
    assert [line for line in lines if not line.startswith("INFO: ")] == []


def test_uvicorn_hangs_up_on_a_client_that_closes_its_half(server: Server) -> None:
    with uploading(server.port) as request:
        answer = Answer(request.connection)
        request.send(TEA)
        assert json.loads(answer.chunk()) == {"line": 1, "taken": 1}
        request.send(TEA)
        request.connection.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError, match="cut off"):
            answer.rest()


# Clients


def run(name: str, server: Server, folder: Path) -> subprocess.CompletedProcess[str]:
    return clients.run(name, server.url, folder)


def test_the_python_client_prints_what_became_of_each_line(
    server: Server, tmp_path: Path
) -> None:
    done = run("chunk_framing.py", server, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "line 1: order 5 is taken",
        "line 2: amount: Input should be greater than or equal to 1",
        "line 3: order 7 is taken",
        "complete: 3 lines",
    ]


TALK = """\
> {"id":1,"item":"tea","amount":1}
< {"line":1,"taken":1}
> {"id":2}
< {"line":2,"error":"item: Field required"}
> {"id":3
< {"line":3,"error":"Invalid JSON: EOF while parsing an object at byte 7"}
< {"done":true,"lines":3}
"""


def test_the_talking_client_gets_each_answer_before_it_sends_on(
    server: Server, tmp_path: Path
) -> None:
    done = run("chunk_framing_talk.py", server, tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", TALK)


def test_node_gets_each_answer_before_it_makes_the_next_line(
    server: Server, tmp_path: Path
) -> None:
    done = run("chunk_framing.mjs", server, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    begins = [line[:17] for line in done.stdout.splitlines()]
    assert begins == [
        'sent {"id":5,"ite',
        '{"line":1,"taken"',
        'sent {"id":6,"ite',
        '{"line":2,"error"',
        'sent {"id":7,"ite',
        '{"line":3,"taken"',
        '{"done":true,"lin',
    ]


@contextmanager
def answering(response: bytes) -> Iterator[str]:
    """Give the address of a server that gives this answer once, and hangs up."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(response)
                # The client's request is read to its end, so that it sees no reset.
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(WAIT)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://{HOST}:{listener.getsockname()[1]}"
        thread.join()


def closed(status: str, body: str) -> bytes:
    """Write an answer that ends with its connection."""
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}".encode()


CLIENTS = ["chunk_framing.py", "chunk_framing.mjs", "chunk_framing_talk.py"]


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("response", "said"),
    [
        (closed("200 OK", '{"line": 1, "taken": 5}\n'), "complete"),
        (closed("200 OK", '{"failed": "Too Large", "status": 413}\n'), "complete"),
        (closed("413 Too Large", "Too Large"), "413: Too Large"),
    ],
    ids=["cut", "failed", "refused"],
)
def test_a_client_says_when_the_answer_is_not_complete(
    name: str, response: bytes, said: str, tmp_path: Path
) -> None:
    with answering(response) as url:
        done = clients.run(name, url, tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_curl_gets_each_answer_before_the_next_line_is_typed(server: Server) -> None:
    shell = (ROOT / "docs/clients/chunk_framing.sh").read_text("utf-8")
    command = shell.splitlines()[-1].replace(clients.PRINTED, server.url)
    if not shutil.which("curl"):
        need("curl", "apt-get install curl")
    with subprocess.Popen(
        ["sh", "-c", f"{command} -sS"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdin
        assert process.stdout
        for number in (1, 2):
            process.stdin.write(TEA)
            answer = process.stdout.readline()
            assert json.loads(answer) == {"line": number, "taken": 1}
        process.stdin.close()
        last = process.stdout.readline()
        assert json.loads(last) == {"done": True, "lines": 2}


def test_without_an_empty_expect_curl_waits_before_it_uploads(server: Server) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    command = [curl, "-qsSv", "-X", "POST", "-T", "-", f"{server.url}/orders"]
    for options, waits in (([], True), (["-H", "Expect:"], False)):
        done = subprocess.run(
            [*command, *options], input=TEA, capture_output=True, timeout=WAIT
        )
        assert (b"Done waiting for 100-continue" in done.stderr) == waits
        assert b'"done":true' in done.stdout


def test_the_lines_of_httpx2_end_inside_a_string_of_json_too() -> None:
    line = '{"item":"green\u2028tea"}\n'
    response = httpx2.Response(200, content=line.encode())
    assert len(list(response.iter_lines())) == 2
    assert json.loads(line) == {"item": "green\u2028tea"}


def test_httpx2_reads_nothing_before_it_has_sent_all(server: Server) -> None:
    seen = []

    def lines() -> Iterator[bytes]:
        for number in (1, 2):
            seen.append(f"sent {number}")
            yield TEA

    with httpx2.stream("POST", f"{server.url}/orders", content=lines()) as response:
        seen.append(f"status {response.status_code}")
        assert len(list(response.iter_lines())) == 3
    assert seen == ["sent 1", "sent 2", "status 200"]


def test_such_a_client_gets_stuck_when_its_answers_fill_every_buffer(
    server: Server,
) -> None:
    upload = (b"x\n" * 2000 for _ in range(BODY // 4000))
    with (
        pytest.raises(httpx2.WriteTimeout),
        httpx2.stream("POST", f"{server.url}/orders", content=upload, timeout=1),
    ):
        pass


def test_break_it_a_response_that_reads_the_request_leaves_nothing_to_answer(
    server: Server, tmp_path: Path
) -> None:
    page = PAGE.read_text("utf-8")
    assert "TimeoutError: timed out" in page
    assert "python docs/clients/chunk_framing_talk.py" in page
    assert run("chunk_framing_talk.py", server, tmp_path).stdout == TALK
    old, new = "response_class=Duplex", "response_class=NDJSON"
    folder = changed(tmp_path / "changed", "chunk_framing", old, new)
    with uvicorn("recipes.chunk_framing:app", cwd=folder) as broken:
        client = clients.copied("chunk_framing_talk.py", broken.url, tmp_path)
        source = client.read_text("utf-8")
        assert source.count("timeout=10") == 1
        client.write_text(source.replace("timeout=10", "timeout=2"), "utf-8")
        done = subprocess.run(
            [sys.executable, client], capture_output=True, text=True, timeout=20
        )
    assert done.stdout == TALK.splitlines(keepends=True)[0]
    assert done.stderr.endswith("TimeoutError: timed out\n")
