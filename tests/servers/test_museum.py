"""Pitfalls that the site runs: each in a process of its own, for its own pages only."""

import asyncio
import subprocess
import sys
from asyncio import subprocess as processes
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx2
import psutil
import pytest
from starlette.applications import Starlette

from cookbook import museum
from cookbook.background import serving
from cookbook.catalog import ROOT
from cookbook.museum import Museum, Running
from tests.kit import servers
from tests.kit.servers import until

pytestmark = pytest.mark.timeout(servers.START + servers.WAIT)

BURST = "/pitfalls-live/plain_text/joined_before_sending"
SILENT = "/pitfalls-live/sse_keepalive/ping_waits_for_data"
CUT = "/pitfalls-live/mid_stream_errors/raise_in_native_generator"
FROZEN = "/pitfalls-live/plain_text/generator_without_await"


class House:
    """A museum that is served, and a client of its own."""

    def __init__(self, shown: Museum) -> None:
        self.museum = shown

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Keep the museum open as long as the server runs."""
        async with self.museum.open():
            yield

    def __enter__(self) -> "House":
        app = Starlette(routes=self.museum.routes(), lifespan=self.lifespan)
        self.serving = serving(app)
        self.client = httpx2.Client(
            base_url=self.serving.__enter__(), timeout=servers.WAIT
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.serving.__exit__(None, None, None)

    def post(self, path: str, **headers: str) -> int:
        """Start a pitfall, and give the status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, headers=named).status_code

    @property
    def started(self) -> list[Running]:
        """What a hollow museum has started."""
        assert isinstance(self.museum, Hollow)
        return self.museum.started

    @property
    def names(self) -> list[str]:
        """What runs."""
        return list(self.museum.running)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Serve one museum to all tests that start real pitfalls."""
    with House(Museum()) as opened:
        yield opened


class Hollow(Museum):
    """A museum that starts processes which serve nothing, and remembers them."""

    def __init__(self, idle: float = 60) -> None:
        super().__init__(idle=idle)
        self.started: list[Running] = []

    async def start(self, name: str) -> Running:
        """Start one that only waits for its input to be closed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", "input()", stdin=processes.PIPE
        )
        self.started.append(Running(name, process, 9))
        return self.started[-1]

    async def is_alive(self, _: Running) -> bool:
        """Tell that it is well."""
        return True


@pytest.fixture(scope="module")
def closed() -> Iterator[House]:
    """Serve a hollow museum to all tests that must not be able to start anything."""
    with House(Hollow()) as opened:
        yield opened


@pytest.fixture
def hollow() -> Iterator[House]:
    """Serve a hollow museum to one test."""
    with House(Hollow()) as opened:
        yield opened


def test_an_answer_is_passed_on_while_it_is_being_made(house: House) -> None:
    assert house.client.get(f"{SILENT}/events").status_code == 409
    assert house.post(SILENT) == 204
    # The second event comes an hour after the first.
    with house.client.stream("GET", f"{SILENT}/events?quiet=3600") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts = answer.iter_raw()  # Without a name it would be closed, and we gone.
        assert next(parts).startswith(b"event: order")
        running = house.museum.running["sse_keepalive/ping_waits_for_data"]
        assert running.open == 1
        assert running.timer
        assert running.timer.cancelled(), "it would be ended in mid-answer"
        assert running.process.pid != psutil.Process().pid
    until(lambda: running.open == 0, "the pitfall to be left")


def test_an_answer_that_breaks_off_breaks_off_here_too(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    assert house.post(CUT) == 204
    with house.client.stream("GET", f"{CUT}/events") as answer:
        parts = answer.iter_raw()
        assert next(parts).startswith(b"event: order")
        with pytest.raises(httpx2.RemoteProtocolError):
            list(parts)
    assert "ASGI callable" not in caplog.text


def test_a_frozen_pitfall_freezes_nobody_and_is_started_anew(house: House) -> None:
    assert house.post(FROZEN) == 204
    name = FROZEN.removeprefix("/pitfalls-live/")
    frozen = house.museum.running[name]
    with house.client.stream("GET", f"{FROZEN}/tickets") as answer:
        next(answer.iter_raw())
    assert house.client.get(f"{BURST}/none").status_code == 409
    assert house.post(FROZEN) == 204
    assert house.museum.running[name] is not frozen
    assert not psutil.pid_exists(frozen.process.pid)
    assert house.client.get(f"{FROZEN}/openapi.json").status_code == 200


def test_a_start_that_is_cancelled_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = psutil.Process()
    before = set(here.children())

    async def cancel() -> None:
        reading = asyncio.Event()

        async def hang(_: asyncio.StreamReader) -> bytes:
            reading.set()
            await asyncio.Event().wait()
            return b""

        monkeypatch.setattr(asyncio.StreamReader, "readline", hang)
        starting = asyncio.create_task(museum.start(SILENT.split("/", 2)[2]))
        await reading.wait()
        (begun,) = set(here.children()) - before
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        assert not psutil.pid_exists(begun.pid)

    asyncio.run(cancel())


def test_all_pitfalls_end_with_the_site() -> None:
    with House(Hollow()) as opened:
        assert [opened.post(path) for path in (BURST, CUT)] == [204, 204]
        assert [one.process.returncode for one in opened.started] == [None, None]
    assert None not in [one.process.returncode for one in opened.started]


@pytest.mark.parametrize("name", ["plain_text/generator_without_await"])
def test_a_pitfall_ends_when_whoever_started_it_is_gone(name: str) -> None:
    # However the site ends, also by SIGKILL: nobody then holds the input open.
    command = [sys.executable, "-m", "cookbook.pitfall", name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdin
        assert process.stdout
        port = int(process.stdout.readline())
        url = f"http://127.0.0.1:{port}/tickets"
        with httpx2.stream("GET", url, timeout=servers.WAIT) as answer:
            next(answer.iter_raw())
        # By now its event loop stands still.
        process.stdin.close()
        assert process.wait(servers.WAIT) == 0


def test_a_pitfall_that_nobody_asks_is_ended() -> None:
    with House(Hollow(idle=0)) as opened:
        assert opened.post(BURST) == 204
        until(lambda: not opened.names, "the idle pitfall to be ended")
        ended = opened.started[0].process
        until(lambda: ended.returncode is not None, "its process to be gone")


def test_only_a_few_run_at_once(hollow: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(museum, "MOST", 2)
    assert [hollow.post(path) for path in (BURST, CUT, BURST)] == [204] * 3
    assert len(hollow.started) == 2
    # The one that has waited longest makes room.
    assert hollow.post(SILENT) == 204
    left = [path.removeprefix("/pitfalls-live/") for path in (CUT, SILENT)]
    assert hollow.names == left
    for one in hollow.museum.running.values():
        one.open = 1
    answer = hollow.client.post(BURST)
    assert answer.status_code == 503
    assert answer.text.startswith("2 pitfalls run already.")


@pytest.mark.parametrize(
    "path",
    [
        "/pitfalls-live",
        "/pitfalls-live/",
        "/pitfalls-live/plain_text",
        "/pitfalls-live/plain_text/",
        "/pitfalls-live/plain_text/none",
        "/pitfalls-live/plain_text/joined_before_sending.py",
        "/pitfalls-live/plain_text/__init__",
        "/pitfalls-live/../recipes/plain_text",
        "/pitfalls-live/%2e%2e/plain_text",
        "/pitfalls-live/plain_text%2Fjoined_before_sending/x",
        "/pitfalls-live/plain_text/joined_before_sending%00",
        "/pitfalls-live/plain_text/joined_before_sending;id",
        "/pitfalls-live/os/system",
        "/pitfalls-live/..%2f..%2fetc/passwd",
        "/%70itfalls-live/plain_text/none",
        "/pitfalls-live/llm_text/error_as_text",  # needs a language model
    ],
)
def test_attack_an_address_starts_nothing_but_a_pitfall_of_the_catalog(
    path: str, closed: House
) -> None:
    url = httpx2.URL(closed.client.base_url).copy_with(raw_path=path.encode())
    assert closed.client.post(url).status_code in {404, 307}
    assert not closed.started


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_attack_a_page_of_another_site_neither_starts_nor_reads_a_pitfall(
    headers: Mapping[str, str], closed: House
) -> None:
    assert closed.post(BURST, **headers) == 403
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = closed.client.get(f"{BURST}/slip/1", headers=named)
    assert answer.status_code == 403
    assert not closed.started


def test_a_page_of_this_site_starts_a_pitfall(hollow: House) -> None:
    own = str(hollow.client.base_url).rstrip("/")
    assert hollow.post(BURST, origin=own, sec_fetch_site="same-origin") == 204
    assert len(hollow.started) == 1


def test_only_a_post_starts_a_pitfall(closed: House) -> None:
    assert closed.client.get(BURST).status_code == 405
    assert not closed.started


def test_a_pitfall_that_does_not_start_is_reported() -> None:
    async def started() -> Running:
        return await museum.start("plain_text/none")

    with pytest.raises(
        museum.RefusedError, match="plain_text/none does not start here"
    ):
        asyncio.run(started())


def test_a_body_that_is_too_long_is_not_passed_on(hollow: House) -> None:
    assert hollow.post(BURST) == 204
    answers = [
        hollow.client.post(f"{BURST}/slip/1", content=b"x" * size).status_code
        for size in (museum.BODY, museum.BODY + 1)
    ]
    # Nobody listens at the other end, so the one that is not too long is not answered.
    assert answers == [502, 413]
