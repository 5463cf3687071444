"""docs/recipes/cross_origin.md: on real servers, and the commands of the page."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from cookbook.catalog import ROOT
from recipes import cross_origin
from tests.kit import clients, servers
from tests.kit.nginx import nginx
from tests.kit.servers import Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

APP = "recipes.cross_origin:app"
WATCHED = "tests.servers.watched_cross_origin:app"
LISTED = "http://127.0.0.1:8003"
MANY = 100  # clients that leave abruptly


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe as it is."""
    with uvicorn(APP) as running:
        yield running


def sign_in(server: Server) -> dict[str, str]:
    """Sign in, and give the header to send from now on."""
    answer = httpx2.post(f"{server.url}/sign-in", json={"name": "ada"})
    return {"Cookie": answer.headers["set-cookie"].split(";")[0]}


# The stream


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_the_first_event_is_there_before_the_second_is_made(http: str) -> None:
    env = {"ORIGINS": LISTED, "PAUSE": "3600"}
    first = b'data: {"customer":"guest","state":"placed"}\nid: placed\n\n'
    with (
        uvicorn(WATCHED, "--http", http, env=env) as slow,
        raw_get(slow.port, "/events", {"Origin": LISTED}) as answer,
    ):
        assert answer.chunk() == first


def test_a_hundred_clients_that_break_off_leave_no_task() -> None:
    env = {"ORIGINS": LISTED, "PAUSE": "3600"}
    with uvicorn(WATCHED, env=env) as slow:
        idle = httpx2.get(f"{slow.url}/tasks").json()
        for number in range(MANY):
            with raw_get(slow.port, "/events", {"Origin": LISTED}) as answer:
                if number % 2:
                    assert b"placed" in answer.chunk()
                answer.abort()

        def tasks() -> int:
            found: int = httpx2.get(f"{slow.url}/tasks").json()
            return found

        servers.until(lambda: tasks() == idle, "the last task to end")
        assert "Traceback" not in slow.output()
        assert "ERROR" not in slow.output()


# Attacks with bytes that no browser sends


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_attack_odd_headers_get_a_4xx_and_no_page_is_let_in(http: str) -> None:
    """Odd or doubled Origin fields: no strange page is let in."""
    with uvicorn(APP, "--http", http) as odd:
        strange = [
            f"{LISTED}\r\nOrigin: https://evil.example",
            f"https://evil.example\r\nOrigin: {LISTED}",
            "\xff\xfe",
            "null",
            "x" * 20_000,
        ]
        for origin in strange:
            with raw_get(odd.port, "/events", {"Origin": origin}) as answer:
                head = answer.head.lower()
            assert "evil" not in head
            if not origin.startswith(LISTED):
                # Of two origins the first one counts, in the guard and in Starlette.
                assert re.match(r"http/1.1 4\d\d ", head), (origin[:40], head)
                assert "access-control-allow-origin" not in head
        for name in ("Cookie", "Last-Event-ID", "Sec-Fetch-Site"):
            for value in ("\xff", "customer=\xff.\xff", "x" * 20_000, ";;==;", ""):
                with raw_get(odd.port, "/events", {name: value}) as answer:
                    assert re.match(r"HTTP/1.1 [24]\d\d ", answer.head), (name, value)
        assert "Traceback" not in odd.output()


def test_nginx_refuses_an_id_of_more_than_8_kb(server: Server) -> None:
    location = f"location / {{ proxy_pass {server.url}; }}"
    with nginx(location) as proxy:
        for length, status in ((7_000, "200 OK"), (9_000, "400 Bad Request")):
            headers = {"Origin": LISTED, "Last-Event-ID": "x" * length}
            with raw_get(proxy.port, "/events", headers) as answer:
                assert answer.head.startswith(f"HTTP/1.1 {status}")
                # What the proxy itself answers, a page cannot read.
                allowed = "access-control-allow-origin" in answer.head.lower()
                assert allowed == (status == "200 OK")


# More than one process


@pytest.mark.parametrize("has_key", [False, True])
def test_a_cookie_is_good_in_another_process_if_both_have_the_key(
    has_key: bool,
) -> None:
    env = {"COOKIE_KEY": "the same"} if has_key else {}
    status = "200 OK" if has_key else "401 Unauthorized"
    with (
        uvicorn(APP, env=env) as one,
        uvicorn(APP, env=env) as two,
        raw_get(two.port, "/events", sign_in(one)) as answer,
    ):
        assert answer.head.startswith(f"HTTP/1.1 {status}")


def test_two_workers_with_the_key_know_the_same_customers() -> None:
    with uvicorn(APP, "--workers", "2", env={"COOKIE_KEY": "the same"}) as both:
        cookie = sign_in(both)
        for _ in range(20):
            with raw_get(both.port, "/events", cookie) as answer:
                assert b'"customer":"ada"' in answer.chunk()


# The page's commands and clients


def curl(command: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a curl command as the page prints it."""
    page = (ROOT / "docs/recipes/cross_origin.md").read_text("utf-8")
    assert command in " ".join(page.replace("\\\n", " ").split())
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    line = command.replace(clients.PRINTED, url).replace("curl", f"{program} -q", 1)
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=20
    )


def test_curl_shows_what_a_strange_page_would_get(server: Server) -> None:
    command = "curl -i -H 'Origin: https://evil.example' http://127.0.0.1:8000/events"
    shown = curl(command, server.url).stdout
    assert shown.startswith("HTTP/1.1 403 Forbidden")
    assert '{"detail":"This page is not on the list."}' in shown
    assert "access-control-allow-origin" not in shown


def test_curl_shows_a_preflight(server: Server) -> None:
    command = (
        "curl -i -X OPTIONS -H 'Origin: http://127.0.0.1:8003'"
        " -H 'Access-Control-Request-Method: POST'"
        " -H 'Access-Control-Request-Headers: content-type'"
        " http://127.0.0.1:8000/search"
    )
    shown = curl(command, server.url).stdout
    assert shown.startswith("HTTP/1.1 200 OK")
    assert "access-control-allow-origin: http://127.0.0.1:8003" in shown
    for line in ("HTTP/1.1 200 OK", "access-control-max-age: 7200"):
        assert line in shown
        assert f"`{line}`" in (ROOT / "docs/recipes/cross_origin.md").read_text("utf-8")


def test_the_python_client_signs_in_and_prints_the_states(
    server: Server, tmp_path: Path
) -> None:
    done = clients.run("cross_origin.py", server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f'{{"customer":"ada","state":"{state}"}}' for state in cross_origin.STATES
    ]


def test_it_checks_the_status_first(tmp_path: Path) -> None:
    with uvicorn("recipes.plain_text:app") as stranger:
        done = clients.run("cross_origin.py", stranger.url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "404" in done.stderr
