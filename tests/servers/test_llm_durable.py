"""docs/recipes/llm_durable.md: processes that are killed, stopped, replaced."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from cookbook.llm import local, scripted
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.postgres import Postgres
from tests.kit.servers import Server, free_port, raw_get, until

pytestmark = pytest.mark.timeout(servers.START + 60)

RECIPE = "recipes.llm_durable:app"
COUNT = 40
WORDS = [f" {number}" for number in range(COUNT)]
SCRIPT = f"""
[ok]
about = "Numbers, so that none can be lost or doubled unseen"
tokens = {json.dumps(WORDS)}
pause = 0.03

[slow]
about = "The same, with time between two"
tokens = {json.dumps(WORDS[:8])}
pause = 0.25

[gated]
about = "A few, when they are asked for"
tokens = {json.dumps(WORDS[:8])}
gate = true
"""
WHOLE = "".join(WORDS)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scripted.Provider]:
    file = tmp_path_factory.mktemp("llm") / "numbers.toml"
    file.write_text(SCRIPT, "utf-8")
    with scripted.running(file) as running:
        yield running


@dataclass
class House:
    """One process of the recipe, on one port; killed, it can be started again."""

    env: dict[str, str]
    app: str = "tests.servers.hasty_llm_durable:app"
    options: Sequence[str] = ()
    cwd: Path = servers.ROOT
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        """Start the process, with the port and the database that it had."""
        argv = [sys.executable, "-u", "-m", "uvicorn", self.app, *self.options]
        argv += ["--port", str(self.port)]
        self.server = self.stack.enter_context(
            servers.serve(argv, self.port, cwd=self.cwd, env=self.env, warm=True)
        )
        return self.server

    def kill(self) -> None:
        """Kill the process: it cannot do anything any more."""
        self.server.signal(signal.SIGKILL)
        self.server.wait()
        assert "Traceback" not in self.server.output()
        self.stack.pop_all().close()

    def __enter__(self) -> "House":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def ask(self, key: str, prompt: str = "Count") -> None:
        """Begin an answer."""
        response = httpx2.post(
            f"{self.url}/answers",
            params={"prompt": prompt},
            headers={"Idempotency-Key": key},
        )
        assert response.status_code == 202


class Reader(threading.Thread):
    """Reads an answer to its end, as the page says that a client should.

    After a connection that broke it asks the next of its addresses.
    """

    def __init__(self, key: str, *houses: House) -> None:
        super().__init__(daemon=True)
        self.urls = [f"{house.url}/answers/{key}/events" for house in houses]
        self.text = ""
        self.tokens = 0  # of the newest attempt
        self.attempts: list[int] = []
        self.end = ""
        self.ids: list[str] = []
        self.start()

    def until(self, attempt: int, tokens: int) -> None:
        """Wait until it has seen so many batches of tokens of an attempt."""
        until(
            lambda: self.attempts[-1:] == [attempt] and self.tokens >= tokens,
            f"{tokens} tokens of attempt {attempt}: {self.attempts}, {self.tokens}",
            20,
        )

    def run(self) -> None:
        """Read, connection after connection."""
        end = time.monotonic() + 40
        with httpx2.Client(timeout=servers.WAIT) as client:
            while not self.end and time.monotonic() < end:
                self.urls.append(self.urls.pop(0))
                with suppress(httpx2.TransportError):
                    self.read(client)
                time.sleep(0.02)

    def read(self, client: httpx2.Client) -> None:
        """Read as long as one connection lasts."""
        headers = {"Last-Event-ID": self.ids[-1]} if self.ids else {}
        with client.sse(self.urls[0], headers=headers) as events:
            for event in events:
                if not event.id:
                    continue  # `retry:` alone
                self.ids.append(event.id)
                data = json.loads(event.data)
                if event.event == "start":
                    self.text, self.tokens = "", 0
                    self.attempts.append(data["attempt"])
                elif event.event == "token":
                    self.text += data["text"]
                    self.tokens += 1
                else:
                    self.end = event.event
                    return


def all_events(house: House, key: str) -> list[tuple[str, dict[str, object]]]:
    """Read an answer from its beginning."""
    with (
        httpx2.Client() as client,
        client.sse(f"{house.url}/answers/{key}/events") as events,
    ):
        return [(e.event, json.loads(e.data)) for e in events if e.data]


# Tokens that a reader has seen of the running attempt when the process is killed.
MOMENTS = [(0, 1, 5), (1, 8, 3), (2, 10, 0), (6, 4, 12)]


@pytest.mark.parametrize("moments", MOMENTS, ids=str)
def test_after_each_kill_three_readers_have_exactly_the_answer(
    moments: tuple[int, ...],
    provider: scripted.Provider,
    tmp_path: Path,
    page: Page,
    page_errors: list[str],
) -> None:
    env = provider.env | {"DATABASE_URL": f"sqlite:///{tmp_path}/answers.sqlite"}
    with House(env) as house:
        house.ask("count")
        page.goto(f"{house.url}/#count")
        readers = [Reader("count", house), Reader("count", house)]
        for attempt, tokens in enumerate(moments, 1):
            readers[attempt % 2].until(attempt, tokens)
            house.kill()
            house.start()
        for reader in readers:
            reader.join(15)
            assert (reader.text, reader.end) == (WHOLE, "done")
            assert len(set(reader.ids)) == len(reader.ids)
        expect(page.get_by_role("status")).to_have_text("Complete: stop.")
        assert page.locator("#answer").text_content() == WHOLE
        page_errors.clear()  # Chromium reports each connection that was refused.


def test_with_two_processes_on_postgres_either_is_killed(
    provider: scripted.Provider, real_postgres: Postgres
) -> None:
    env = provider.env | {"DATABASE_URL": real_postgres.url}
    names = ("east", "west")
    east, west = (House(env | {"DBOS__VMID": name}) for name in names)
    with east, west:
        for key, house in (("a", east), ("b", west)):
            house.ask(key)
            # Each begins at one process, and goes on at the other when that is killed.
            readers = [Reader(key, east, west), Reader(key, west, east)]
            readers[0].until(1, 4)
            house.kill()
            house.start()
            for reader in readers:
                reader.join(20)
                assert (reader.text, reader.end) == (WHOLE, "done")
                assert reader.attempts == [1, 2]
                assert len(set(reader.ids)) == len(reader.ids)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_old_attempt_that_wakes_up_again_changes_nothing(
    kind: str,
    provider: scripted.Provider,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    url = f"sqlite:///{tmp_path}/answers.sqlite"
    if kind == "postgres":
        url = request.getfixturevalue("real_postgres").url
    env = provider.env | {"DATABASE_URL": url, "OPENAI_MODEL": "slow"}
    provider.reset()
    with House(env) as old:
        old.ask("sleeper")
        reader = Reader("sleeper", old)
        reader.until(1, 2)
        os.kill(old.server.process.pid, signal.SIGSTOP)
        # A process of the same name goes on with what the old one has begun.
        with House(env) as new:
            successor = Reader("sleeper", new)
            successor.until(2, 2)
            os.kill(old.server.process.pid, signal.SIGCONT)
            # It reads on, tries to write, is refused, and hangs up.
            provider.wait(1)
            for each in (reader, successor):
                each.join(15)
                assert (each.text, each.end) == ("".join(WORDS[:8]), "done")
            told = all_events(new, "sleeper")
    starts = [fields["attempt"] for name, fields in told if name == "start"]
    assert starts == [1, 2]
    second = told.index(("start", {"attempt": 2}))
    texts = [fields["text"] for name, fields in told[second:] if name == "token"]
    assert "".join(map(str, texts)) == "".join(WORDS[:8])
    assert [name for name, _ in told if name in ("done", "failed")] == ["done"]
    assert "Traceback" not in old.server.output() + new.server.output()


def test_an_answer_is_stopped_from_another_process(
    provider: scripted.Provider, real_postgres: Postgres
) -> None:
    env = provider.env | {"DATABASE_URL": real_postgres.url, "OPENAI_MODEL": "slow"}
    provider.reset()
    east, west = (House(env | {"DBOS__VMID": name}) for name in ("one", "two"))
    with east, west:
        east.ask("stopped")
        reader = Reader("stopped", east)
        reader.until(1, 1)
        stopped = httpx2.post(f"{west.url}/answers/stopped/cancel")
        assert stopped.status_code == 204
        reader.join(servers.WAIT)
        assert reader.end == "failed"
        assert provider.wait(1).ended == "closed by the client"
        # A new process of that name leaves it as it is.
        told = all_events(west, "stopped")
        east.kill()
        east.start()
        assert all_events(east, "stopped") == told
        assert len(provider.requests()) == 1


@pytest.fixture(scope="module")
def house(
    provider: scripted.Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Run the recipe for the tests that leave it as it is."""
    file = tmp_path_factory.mktemp("house") / "answers.sqlite"
    with House(provider.env | {"DATABASE_URL": f"sqlite:///{file}"}) as running:
        yield running


def test_a_hundred_readers_that_break_off_leave_nothing(
    provider: scripted.Provider, tmp_path: Path
) -> None:
    env = provider.env | {"DATABASE_URL": f"sqlite:///{tmp_path}/answers.sqlite"}
    env["OPENAI_MODEL"] = "gated"
    provider.reset()
    with House(env, app="tests.servers.watched_llm_durable:app") as house:
        house.ask("read")

        def left() -> dict[str, int]:
            counts: dict[str, int] = httpx2.get(f"{house.url}/left").json()
            return counts

        with raw_get(house.port, "/answers/read/events") as stays:
            stays.chunk()
            before = left()
            assert before["readers"] == 1
            for number in range(100):
                with raw_get(house.port, "/answers/read/events") as leaves:
                    if number % 2:
                        leaves.chunk()
                    leaves.abort()
            until(lambda: left()["readers"] == 1, "the readers to be gone")
            # DBOS has tasks of its own, which come and go.
            until(lambda: left()["tasks"] < before["tasks"] + 5, "their tasks to end")
            provider.go(8)
            assert b"event: done" in stays.rest()
        until(lambda: left()["readers"] == 0)
        assert "Traceback" not in house.server.output()
        assert len(provider.requests()) == 1


def test_a_server_that_is_told_to_stop_leaves_its_answer_to_the_next(
    provider: scripted.Provider, tmp_path: Path
) -> None:
    env = provider.env | {"DATABASE_URL": f"sqlite:///{tmp_path}/answers.sqlite"}
    provider.reset()
    options = ("--timeout-graceful-shutdown", "0")
    with House(env, RECIPE, options) as house:
        house.ask("deployed")
        reader = Reader("deployed", house)
        reader.until(1, 3)
        house.server.signal(signal.SIGTERM)
        house.server.wait()
        assert "DBOS" not in house.server.output()
        # The attempt was cancelled, so nobody writes for nobody.
        assert provider.wait(1).ended == "closed by the client"
        house.stack.pop_all().close()
        house.start()
        reader.join(15)
        assert (reader.text, reader.end) == (WHOLE, "done")
        assert reader.attempts == [1, 2]


# The clients


def test_the_client_prints_the_answer(house: House, tmp_path: Path) -> None:
    done = clients.run("llm_durable.py", house.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{WHOLE}\nComplete: stop.\n"


def test_the_client_goes_on_when_the_server_is_killed(
    provider: scripted.Provider, tmp_path: Path
) -> None:
    env = provider.env | {"DATABASE_URL": f"sqlite:///{tmp_path}/answers.sqlite"}
    provider.reset()
    with House(env) as house:
        thread = threading.Thread(target=lambda: printed.append(client()), daemon=True)

        def client() -> str:
            done = clients.run("llm_durable.py", house.url, tmp_path)
            return done.stdout + done.stderr

        printed: list[str] = []
        thread.start()
        provider.wait(1, lambda request: request.tokens_made > 5)
        house.kill()
        house.start()
        thread.join(20)
    dead, _, alive = printed[0].partition("\n\n[attempt 2, from the beginning]\n")
    assert WHOLE.startswith(dead)
    assert alive == f"{WHOLE}\nComplete: stop.\n"


def test_the_client_says_what_is_wrong(tmp_path: Path) -> None:
    # Without a model the recipe refuses.
    env = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "TMPDIR": str(tmp_path)}
    with House(env) as house:
        done = clients.run("llm_durable.py", house.url, tmp_path)
    assert done.returncode == 1
    assert "Not complete. 503: Service Unavailable." in done.stderr


# The page in a browser


def test_a_reload_and_a_second_tab_read_the_same_answer(
    provider: scripted.Provider, house: House, page: Page
) -> None:
    provider.reset()
    page.goto(f"{house.url}/")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text(" 3")
    page.reload()
    second = page.context.new_page()
    second.goto(page.url)
    for each in (page, second):
        expect(each.get_by_role("status")).to_have_text("Complete: stop.")
        assert each.locator("#answer").text_content() == WHOLE
    assert len(provider.requests()) == 1


def test_the_page_stops_an_answer(house: House, page: Page) -> None:
    page.goto(f"{house.url}/")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text(" 3")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("Not complete: cancelled.")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()


# Break it


def test_break_it_with_a_longer_batch_tokens_come_in_bursts(
    house: House, provider: scripted.Provider, tmp_path: Path
) -> None:
    house.ask("tea-2")
    flows = [n for n, _ in all_events(house, "tea-2")].count("token")
    folder = changed(tmp_path, "llm_durable", "BATCH = 0.05", "BATCH = 1.0")
    env = provider.env | {"DATABASE_URL": f"sqlite:///{tmp_path}/answers.sqlite"}
    with House(env, RECIPE, cwd=folder) as broken:
        broken.ask("tea-3")
        told = [
            fields["text"] for n, fields in all_events(broken, "tea-3") if n == "token"
        ]
    assert flows > 10
    assert told[0] == " 0"
    assert len(told) < 5
    assert "".join(map(str, told)) == WHOLE


# A real model


def test_the_local_model_answers_also_after_a_kill(
    model: local.Local, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/answers.sqlite"
    with House(model.env | {"DATABASE_URL": url}) as house:
        house.ask("count", "Count to a thousand.")
        reader = Reader("count", house)
        reader.until(1, 2)
        house.kill()
        house.start()
        reader.until(2, 2)
        # The answer would take its time.
        httpx2.post(f"{house.url}/answers/count/cancel").raise_for_status()
        reader.join(servers.WAIT)
        told = all_events(house, "count")
        house.ask("green", "Say only the word green.")
        *_, (name, fields) = all_events(house, "green")
    second = told[told.index(("start", {"attempt": 2})) :]
    texts = [fields["text"] for name, fields in second if name == "token"]
    assert "".join(map(str, texts)) == reader.text
    assert (name, fields["finish_reason"] in ("stop", "length")) == ("done", True)
