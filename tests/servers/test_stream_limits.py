"""docs/recipes/stream_limits.md: on real servers, and the commands of the page."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cookbook.catalog import ROOT
from tests.kit import clients, servers, sse
from tests.kit.changed import changed
from tests.kit.redis import redis
from tests.kit.servers import Answer, Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 40)

APP = "recipes.stream_limits:app"
WATCHED = "tests.servers.watched_stream_limits:app"
PAGE = (ROOT / "docs/recipes/stream_limits.md").read_text("utf-8")
FIRST = b'event: order\ndata: {"id":1,"item":"tea"}\n\n'
FREE = {"EACH": "10000", "ALL": "10000", "RATE": "100000", "SESSION": "3600"}
KEYED = {"SESSION_KEY": "the same"}
SIGN_IN = 'curl -c jar.txt --json \'{"name": "ada"}\' http://127.0.0.1:8000/sign-in'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve the recipe as it is."""
    with uvicorn(APP) as running:
        yield running


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """Serve the recipe with room for many, and a shop that tells one order."""
    with uvicorn(WATCHED, env={**FREE, "TICK": "3600"}) as running:
        yield running


def sign_in(server: Server, user: str = "ada") -> dict[str, str]:
    """Sign in, and give the header to send from now on."""
    answer = httpx2.post(f"{server.url}/sign-in", json={"name": user})
    answer.raise_for_status()
    return {"Authorization": f"Bearer {answer.text}"}


def ticket(server: Server, headers: dict[str, str]) -> str:
    """Ask for a ticket."""
    return httpx2.post(f"{server.url}/tickets", headers=headers).text


def at_rest(server: Server, headers: dict[str, str]) -> dict[str, Any]:
    """Count when nobody streams; the first stream starts a task of sse-starlette's."""
    with raw_get(server.port, "/events", headers) as answer:
        answer.chunk()
    servers.until(lambda: counts(server)["open"] == [], "the place to be free")
    return counts(server)


def counts(server: Server) -> dict[str, Any]:
    """Ask the watched recipe what there is now."""
    found: dict[str, Any] = httpx2.get(f"{server.url}/counts").json()
    return found


def gauge(server: Server, name: str) -> float:
    """Read a number as Prometheus does; 0 if it is not there yet."""
    text = httpx2.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0


def last_reason(body: bytes) -> str:
    """Read why the server closed the stream."""
    event = sse.parse([body]).events[-1]
    assert event.event == "closed"
    reason: str = json.loads(event.data)["reason"]
    return reason


# The stream, and its end


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_the_first_order_is_there_before_the_second_is_made(http: str) -> None:
    with (
        uvicorn(WATCHED, "--http", http, env={"TICK": "3600"}) as slow,
        raw_get(slow.port, "/events", sign_in(slow)) as answer,
    ):
        assert answer.chunk() == FIRST
        assert gauge(slow, "streams_open") == 1
        assert gauge(slow, "stream_first_byte_seconds_count") == 1


def test_a_session_ends_in_mid_stream_and_lets_nobody_in_again() -> None:
    env = {"SESSION": "3", "TICK": "0.1"}
    with uvicorn(WATCHED, env=env) as short:
        headers = sign_in(short)
        with raw_get(short.port, "/events", headers) as answer:
            assert last_reason(answer.rest()) == "expired"
        assert httpx2.get(f"{short.url}/events", headers=headers).status_code == 401
        assert gauge(short, 'streams_closed_total{reason="expired"}') == 1
        assert gauge(short, "streams_open") == 0


def test_signing_out_closes_the_stream(server: Server) -> None:
    headers = sign_in(server, "grace")
    with raw_get(server.port, "/events", headers) as answer:
        assert answer.chunk() == FIRST
        httpx2.post(f"{server.url}/sign-out", headers=headers)
        assert last_reason(answer.rest()) == "revoked"


def test_a_fourth_stream_is_refused_and_there_is_room_when_one_has_left(
    server: Server,
) -> None:
    headers = sign_in(server, "alan")
    url = f"{server.url}/events"

    def opened() -> bool:
        with raw_get(server.port, "/events", headers) as answer:
            return answer.head.startswith("HTTP/1.1 200")

    with (
        raw_get(server.port, "/events", headers) as one,
        raw_get(server.port, "/events", headers) as two,
        raw_get(server.port, "/events", headers) as three,
    ):
        assert [each.chunk() for each in (one, two, three)] == [FIRST] * 3
        refused = httpx2.get(url, headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        one.abort()
        servers.until(opened, "a place")


# Clients that leave


def test_attack_a_thousand_who_break_off_leave_no_place_and_no_task(
    busy: Server,
) -> None:
    """A thousand clients break off, half before the first chunk: nothing is left."""
    headers = sign_in(busy)
    fields = f"Host: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n"
    request = f"GET /events HTTP/1.1\r\n{fields}".encode()
    idle = at_rest(busy, headers)
    for number in range(1000):
        with socket.create_connection((servers.HOST, busy.port), 5) as connection:
            connection.sendall(request)
            if number % 2:
                Answer(connection).abort()
            else:
                servers.reset(connection)
    servers.until(lambda: counts(busy) == idle, "the last place to be free")
    assert idle["open"] == []
    # Of those who left before the first chunk, the server met most.
    assert busy.output().count('"GET /events HTTP/1.1" 200') > 600
    assert gauge(busy, "streams_open") == 0
    assert "Traceback" not in busy.output()
    assert "ERROR" not in busy.output()


def test_attack_a_client_that_does_not_read_loses_its_place() -> None:
    """A client opens a stream and does not read: after the patience it has no place."""
    env = {**FREE, "PATIENCE": "0.3", "BIG": "100000", "LIFETIME": "3600"}
    with uvicorn(WATCHED, env=env) as impatient:
        headers = sign_in(impatient)
        idle = at_rest(impatient, headers)
        with raw_get(impatient.port, "/events", headers) as answer:
            assert answer.chunk().startswith(b"event: order")
            servers.until(
                lambda: gauge(impatient, 'streams_closed_total{reason="slow"}'),
                "the client to be let go",
            )
            servers.until(lambda: counts(impatient)["open"] == [], "its place")
            # What the buffers hold arrives, if it reads; it is not the whole.
            with pytest.raises(EOFError):
                answer.rest()
        servers.until(lambda: counts(impatient) == idle, "its task")
        assert "Traceback" not in impatient.output()
        assert "ASGI callable returned without completing" in impatient.output()


def test_attack_a_head_that_nobody_takes_keeps_no_place() -> None:
    """A stream is asked for behind a body that is not read: it loses its place too."""
    env = {**FREE, "PATIENCE": "0.3", "TICK": "3600"}
    with uvicorn(WATCHED, env=env) as impatient:
        bearer = sign_in(impatient)["Authorization"]
        fields = f"Host: x\r\nAuthorization: {bearer}\r\n\r\n"
        both = f"GET /big HTTP/1.1\r\n{fields}GET /events HTTP/1.1\r\n{fields}"
        with socket.create_connection((servers.HOST, impatient.port), 5) as connection:
            connection.sendall(both.encode())
            servers.until(
                lambda: gauge(impatient, 'streams_closed_total{reason="slow"}'),
                "the client to be let go",
            )
            assert counts(impatient)["open"] == []


# Attacks with bytes that no browser sends


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_attack_odd_bytes_in_what_identifies_get_a_4xx(http: str) -> None:
    """Bytes that no browser sends stand for a token, cookie or ticket: a 4xx."""
    odd_ones = ["\xff\xfe", "Bearer \xff", "session=\xff.\xff", "x" * 20_000]
    odd_ones += ["", ";;==;", "Bearer", "session=eyJ.x.y", "Bearer a\r\nCookie: b"]
    with uvicorn(APP, "--http", http) as odd:
        for value in odd_ones:
            for name in ("Authorization", "Cookie", "X-Forwarded-For"):
                with raw_get(odd.port, "/events", {name: value}) as answer:
                    assert answer.head.startswith("HTTP/1.1 4"), (name, value)
        for query in ("ticket=%ff", "ticket=", "ticket=a&ticket=b", "ticket=%00"):
            with raw_get(odd.port, f"/events?{query}") as answer:
                assert answer.head.startswith("HTTP/1.1 401"), query
        assert "Traceback" not in odd.output()


def test_the_log_has_a_ticket_but_no_token(server: Server) -> None:
    headers = sign_in(server, "edsger")
    path = f"/events?ticket={ticket(server, headers)}"
    with raw_get(server.port, path) as answer:
        assert answer.chunk() == FIRST
    server.expect(f'"GET {path} HTTP/1.1" 200')
    assert headers["Authorization"].split()[1] not in server.output()
    # Whoever reads the log cannot use what is there.
    with raw_get(server.port, path) as answer:
        assert answer.head.startswith("HTTP/1.1 401")


# More than one process


def test_two_processes_with_redis_share_all_but_the_places() -> None:
    with redis() as store:
        env = {**KEYED, "REDIS_URL": store.url, "RATE": "4", "EACH": "1"}
        with uvicorn(WATCHED, env=env) as one, uvicorn(WATCHED, env=env) as two:
            headers = sign_in(one)
            path = f"/events?ticket={ticket(one, headers)}"
            with (
                raw_get(two.port, path) as answer,
                raw_get(one.port, "/events", headers) as other,
            ):
                # A place in each process, although a user may have one only.
                assert [answer.chunk(), other.chunk()] == [FIRST] * 2
                # The ticket has been used in the other process.
                assert httpx2.get(one.url + path).status_code == 401
                # The first two streams count, and these do: now it is four.
                statuses = [
                    httpx2.get(f"{each.url}/events", headers=headers).status_code
                    for each in (one, two, one)
                ]
                assert statuses == [429] * 3
                limited = httpx2.get(f"{one.url}/events", headers=headers)
                assert limited.json() == {"detail": "Too many new streams."}
                assert 1 <= int(limited.headers["retry-after"]) <= 60
                httpx2.post(f"{one.url}/sign-out", headers=headers)
                assert last_reason(answer.rest()) == "revoked"
                assert last_reason(other.rest()) == "revoked"


def test_while_redis_is_away_open_streams_go_on_and_nobody_new_comes_in() -> None:
    with redis() as store:
        env = {**KEYED, "REDIS_URL": store.url, "LIFETIME": "4", "TICK": "0.1"}
        with uvicorn(WATCHED, env=env) as only:
            headers = sign_in(only)
            with raw_get(only.port, "/events", headers) as answer:
                assert answer.chunk() == FIRST
                store.server.process.send_signal(9)
                store.server.wait()
                seen = answer.chunk()
                refused = httpx2.get(f"{only.url}/events", headers=headers, timeout=20)
                assert refused.status_code == 500
                assert seen.startswith(b"event: order")
                assert last_reason(answer.rest()) == "lifetime"


def test_two_workers_with_one_key_know_the_same_sessions() -> None:
    """The page's three lines start them."""
    made = re.search(r"export SESSION_KEY=\$\(python -c '(.+)'\)", PAGE)
    assert made is not None
    command = [sys.executable, "-c", made[1]]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(key.strip()) == 64
    assert f"uvicorn {APP} --workers 2\n" in PAGE
    with (
        redis() as store,
        uvicorn(
            APP,
            "--workers",
            "2",
            env={"SESSION_KEY": key.strip(), "REDIS_URL": store.url},
        ) as both,
    ):
        headers = sign_in(both)
        for _ in range(20):
            assert ticket(both, headers).startswith("eyJ")


def test_two_processes_without_redis_know_a_session_but_not_its_end() -> None:
    env = {**KEYED, "TICK": "3600"}
    with uvicorn(WATCHED, env=env) as one, uvicorn(WATCHED, env=env) as two:
        headers = sign_in(one)
        path = f"/events?ticket={ticket(one, headers)}"
        for each in (one, two):
            with raw_get(each.port, path) as answer:
                assert answer.head.startswith("HTTP/1.1 200")
        httpx2.post(f"{one.url}/sign-out", headers=headers)
        for each, status in ((one, "401"), (two, "200")):
            with raw_get(each.port, "/events", headers) as answer:
                assert answer.head.startswith(f"HTTP/1.1 {status}")


# The page's commands and clients


def curl(
    command: str, url: str, folder: Path, **exports: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as the page prints it."""
    assert command in " ".join(PAGE.replace("\\\n", " ").split())
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    line = command.replace(clients.PRINTED, url).replace("curl", f"{program} -q", 1)
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=exports,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_the_commands_of_the_page_show_what_it_says(tmp_path: Path) -> None:
    with uvicorn(WATCHED, env={"TICK": "0.05", "LIFETIME": "1"}) as quick:
        token = curl(SIGN_IN, quick.url, tmp_path).stdout
        assert token.startswith("eyJ")
        listen = "curl -b jar.txt -N http://127.0.0.1:8000/events"
        shown = curl(listen, quick.url, tmp_path).stdout
        assert shown.startswith(FIRST.decode())
        assert shown.endswith('event: closed\ndata: {"reason":"lifetime"}\n\n')
        exported = 'export TOKEN=$(curl -s --json \'{"name": "ada"}\' http://127.0.0.1:8000/sign-in)'
        named = curl(exported, quick.url, tmp_path)
        assert named.returncode == 0
        bearer = (
            'curl -N -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/events'
        )
        shown = curl(bearer, quick.url, tmp_path, TOKEN=token).stdout
        assert shown.startswith(FIRST.decode())
        made = "curl -sf -b jar.txt -X POST http://127.0.0.1:8000/tickets"
        assert f"export TICKET=$({made})" in PAGE
        bought = curl(made, quick.url, tmp_path).stdout
        once = 'curl -N "http://127.0.0.1:8000/events?ticket=$TICKET"'
        shown = curl(once, quick.url, tmp_path, TICKET=bought).stdout
        assert shown.startswith(FIRST.decode())
        shown = curl(once, quick.url, tmp_path, TICKET=bought).stdout
        assert shown == '{"detail":"Sign in again."}'
        shown = curl("curl http://127.0.0.1:8000/metrics", quick.url, tmp_path).stdout
        assert "\nstreams_open 0.0\n" in shown
        assert '\nstreams_closed_total{reason="lifetime"} 3.0\n' in shown
        out = "curl -b jar.txt -X POST http://127.0.0.1:8000/sign-out"
        assert curl(out, quick.url, tmp_path).returncode == 0
        assert "Sign in again." in curl(listen, quick.url, tmp_path).stdout
        # Without a session `-f` leaves the ticket empty, and the answer is the same.
        bought = curl(made, quick.url, tmp_path).stdout
        assert bought == ""
        shown = curl(once, quick.url, tmp_path, TICKET=bought).stdout
        assert shown == '{"detail":"Sign in again."}'


def test_of_four_at_once_one_is_told_to_come_back(tmp_path: Path) -> None:
    with uvicorn(APP) as one:
        curl(SIGN_IN, one.url, tmp_path)
        four = (
            "curl -i -b jar.txt -N -Z --parallel-immediate --no-progress-meter "
            "--max-time 2 'http://127.0.0.1:8000/events?tab=[1-4]'"
        )
        done = curl(four, one.url, tmp_path)
        assert done.stdout.count("HTTP/1.1 200 OK") == 3
        assert done.stdout.count("HTTP/1.1 429 Too Many Requests") == 1
        assert done.stdout.count("retry-after: 5\n") == 1
        assert '{"detail":"You have too many streams open."}' in done.stdout
        assert done.stderr.count("curl: (28) Operation timed out") == 3


def test_who_leaves_a_stream_has_used_its_ticket(server: Server) -> None:
    path = f"/events?ticket={ticket(server, sign_in(server, 'barbara'))}"
    with raw_get(server.port, path) as answer:
        assert answer.chunk() == FIRST
        answer.abort()
    with raw_get(server.port, path) as answer:
        assert answer.head.startswith("HTTP/1.1 401")


@pytest.mark.parametrize("name", ["stream_limits.py", "stream_limits.mjs"])
def test_a_client_waits_for_room_and_comes_back_after_a_lifetime(
    name: str, tmp_path: Path
) -> None:
    env = {**FREE, "TICK": "0.1", "LIFETIME": "0.5", "SESSION": "5", "ALL": "1"}
    with (
        uvicorn(WATCHED, env=env | {"HURRY": "1"}) as full,
        ThreadPoolExecutor() as pool,
    ):
        httpx2.post(f"{full.url}/take").raise_for_status()
        running = pool.submit(clients.run, name, full.url, tmp_path)
        servers.until(lambda: "429 Too Many" in full.output(), "the refusal", 15)
        httpx2.post(f"{full.url}/free").raise_for_status()
        done = running.result()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines.count('order {"id":1,"item":"tea"}') >= 2
    assert 'closed {"reason":"lifetime"}' in lines
    assert lines[-1] == "The session is over: sign in again."


@pytest.mark.parametrize("name", ["stream_limits.py", "stream_limits.mjs"])
def test_a_client_checks_the_status_first(name: str, tmp_path: Path) -> None:
    with uvicorn("recipes.plain_text:app") as stranger:
        done = clients.run(name, stranger.url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "404" in done.stderr


def test_break_it_shows_a_stream_that_outlasts_its_session(tmp_path: Path) -> None:
    old = "reason = await desk.why_over(session)"
    folder = changed(tmp_path, "stream_limits", old, "reason = None")
    with uvicorn(APP, cwd=folder) as broken:
        headers = sign_in(broken)
        with raw_get(broken.port, "/events", headers) as answer:
            assert answer.chunk() == FIRST
            httpx2.post(f"{broken.url}/sign-out", headers=headers)
            assert httpx2.get(f"{broken.url}/events", headers=headers).is_error
            for _ in range(2):
                assert answer.chunk().startswith(b"event: order")
