"""docs/recipes/llm_durable.md: processes that are killed, stopped, replaced."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from cookbook.llm import scripted
from tests.kit import servers
from tests.kit.postgres import Postgres
from tests.kit.servers import Server, free_port, until

pytestmark = pytest.mark.timeout(servers.START + 60)

APP = "recipes.llm_durable:app"
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
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        """Start the process, with the port and the database that it had."""
        argv = [sys.executable, "-u", "-m", "uvicorn", APP, "--port", str(self.port)]
        self.server = self.stack.enter_context(
            servers.serve(argv, self.port, cwd=servers.ROOT, env=self.env, warm=True)
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

    def ask(self, key: str) -> None:
        """Begin an answer."""
        response = httpx2.post(
            f"{self.url}/answers",
            params={"prompt": "Count"},
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
        readers = [Reader("a", east, west), Reader("a", west, east)]
        readers += [Reader("b", east, west), Reader("b", west, east)]
        for house, watched in ((east, readers[1]), (west, readers[2])):
            watched.until(1, 4)
            house.kill()
            house.start()
        for reader in readers:
            reader.join(15)
            assert (reader.text, reader.end) == (WHOLE, "done")
            assert len(set(reader.ids)) == len(reader.ids)
        # Only the answers of the process that was killed began anew.
        assert [max(reader.attempts) for reader in readers] == [2, 2, 2, 2]


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
