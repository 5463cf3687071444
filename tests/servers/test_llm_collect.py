"""docs/recipes/llm_collect.md: its claims about real servers and databases."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from cookbook.llm import scripted
from recipes import llm_collect
from tests.kit import clients, servers, sse
from tests.kit.changed import changed
from tests.kit.llm import ASK, provider_with
from tests.kit.postgres import Postgres, postgres
from tests.kit.servers import Answer, Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_collect:app"
PRICES = '{"ok": {"input": "0.10", "output": "0.40"}}'
TEXT = "Tea is hot because the water was."


@pytest.fixture(scope="module")
def real_postgres() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Give the address of a database."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("database")
        return f"sqlite+aiosqlite:///{folder}/answers.sqlite"
    running: Postgres = request.getfixturevalue("real_postgres")
    return running.url


@pytest.fixture(scope="module")
def server(url: str, provider: scripted.Provider) -> Iterator[Server]:
    env = {**provider.env, "DATABASE_URL": url, "OPENAI_MODEL": "gated"}
    with uvicorn(APP, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def answering(url: str, provider: scripted.Provider) -> Iterator[Server]:
    """Serve the recipe with a model that answers at once."""
    env = {**provider.env, "DATABASE_URL": url, "OPENAI_MODEL": "ok"}
    with uvicorn(APP, env={**env, "LLM_PRICES": PRICES}) as running:
        yield running


@pytest.fixture
def lite(tmp_path: Path) -> str:
    """Give the address of an SQLite file that is new."""
    return f"sqlite+aiosqlite:///{tmp_path}/answers.sqlite"


def past(server: Server) -> list[dict[str, Any]]:
    """Give all that is kept, the newest first."""
    found: list[dict[str, Any]] = []
    before = "f" * 24
    while page := httpx2.get(f"{server.url}/answers?limit=20&before={before}").json():
        found += page
        before = page[-1]["id"]
    return found


def last(body: bytes) -> tuple[str, dict[str, Any]]:
    end = sse.parse([body]).events[-1]
    return end.event, json.loads(end.data)


# Both databases


def test_both_databases_keep_the_same(answering: Server) -> None:
    with raw_get(answering.port, ASK) as answer:
        name, done = last(answer.rest())
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 8,
        "estimated": False,
        "cost": "0.0000044",
    }
    assert (name, done["usage"], done["stored"]) == ("done", usage, True)
    newest = past(answering)[0]
    assert (newest["text"], newest["status"]) == (TEXT, "complete")
    assert newest["usage"] == usage
    assert newest["asked_at"].endswith("Z")


def test_a_nul_spoils_no_database(answering: Server) -> None:
    """Attack: A question with a NUL: no database fails at it."""
    with raw_get(answering.port, "/answer?prompt=a%00b") as answer:
        assert last(answer.rest())[1]["stored"] is True
    assert past(answering)[0]["prompt"] == "a\ufffdb"


def test_a_token_is_read_before_the_next_may_be_made(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    with raw_get(server.port, ASK) as answer:
        answer.chunk()  # the start
        for number in range(1, 4):
            provider.go(1)
            answer.chunk()
            assert provider.requests()[0].tokens_made == number


@pytest.mark.parametrize("leave", [Answer.close, Answer.abort])
def test_after_a_hundred_clients_that_leave_there_are_a_hundred_rows(
    server: Server, provider: scripted.Provider, leave: Callable[[Answer], None]
) -> None:
    def rows() -> list[dict[str, Any]]:
        # A row of the test before may come late: it has another question.
        return [row for row in past(server) if row["prompt"] in asked]

    provider.reset()
    asked = [f"{leave.__name__}-{number}" for number in range(100)]
    for number, prompt in enumerate(asked):
        with raw_get(server.port, f"/answer?prompt={prompt}") as answer:
            for _ in range(number % 2):
                answer.chunk()
            leave(answer)
    servers.until(lambda: len(rows()) >= 100)
    assert sorted(row["prompt"] for row in rows()) == sorted(asked)
    assert {row["status"] for row in rows()} == {"cancelled"}
    servers.until(lambda: all(request.over() for request in provider.requests()))
    assert "Traceback" not in server.output()
    assert "ERROR" not in server.output()


def test_clients_that_never_read_have_their_rows_as_well(lite: str) -> None:
    with provider_with(ENDLESS, pace=0) as endless:
        env = {**endless.env, "DATABASE_URL": lite, "OPENAI_MODEL": "endless"}
        with uvicorn(APP, env=env) as server:
            for _ in range(3):
                with raw_get(server.port, ASK) as answer:
                    # It has stopped reading; the kernel's buffers are full at last.
                    stands_still(endless)
                    answer.abort()
                servers.until(
                    lambda: not endless.requests() or endless.requests()[-1].over()
                )
            servers.until(lambda: len(past(server)) == 3)
            rows = past(server)
            assert {row["status"] for row in rows} == {"cancelled"}
            assert {len(row["text"]) for row in rows} == {100_000}
            assert all(row["usage"]["completion_tokens"] > 1 for row in rows)
            assert "Traceback" not in server.output()


ENDLESS = """
[endless]
about = "More than any buffer holds"
tokens = ["Tea "]
enlarge = 25000
repeat = 10000
"""


def stands_still(provider: scripted.Provider) -> None:
    """Wait until the provider makes no more tokens, since nobody takes them."""
    seen = -1
    while (
        made := provider.requests()[-1].tokens_made if provider.requests() else 0
    ) != (seen) or not made:
        seen = made
        time.sleep(0.2)


# A server that stops


def test_a_server_that_is_stopped_keeps_what_streams(
    url: str, provider: scripted.Provider
) -> None:
    env = {**provider.env, "DATABASE_URL": url, "OPENAI_MODEL": "stall-after-first"}
    options = ("--timeout-graceful-shutdown", "1")
    with ExitStack() as stack:
        server = stack.enter_context(uvicorn(APP, *options, env=env))
        before = len(past(server))
        for number in range(20):
            path = f"/answer?prompt=stopped+{number}"
            answer = stack.enter_context(raw_get(server.port, path))
            assert b"start" in answer.chunk()
            assert b"Tea" in answer.chunk()
        assert len(past(server)) == before
        server.signal(signal.SIGINT)
        server.wait(20)
    with uvicorn(APP, env=env) as server:
        found = past(server)[: len(past(server)) - before]
    assert {(row["status"], row["text"]) for row in found} == {("cancelled", "Tea")}
    assert len({row["prompt"] for row in found}) == len(found) == 20


def test_two_workers_write_into_one_table(
    lite: str, provider: scripted.Provider
) -> None:
    env = {**provider.env, "DATABASE_URL": lite, "OPENAI_MODEL": "ok"}
    with uvicorn(APP, "--workers", "2", env=env) as server:
        for number in range(20):
            answer = httpx2.get(f"{server.url}/answer?prompt={number}", timeout=30)
            assert last(answer.content)[1]["stored"] is True
        assert [row["prompt"] for row in past(server)] == [
            str(number) for number in reversed(range(20))
        ]


# A database that fails


def test_a_database_that_is_down_costs_no_answer_and_comes_back(
    provider: scripted.Provider,
) -> None:
    with postgres() as first:
        env = {**provider.env, "DATABASE_URL": first.url, "OPENAI_MODEL": "ok"}
        with uvicorn(APP, env=env) as server:

            def ask() -> dict[str, Any]:
                name, done = last(httpx2.get(f"{server.url}{ASK}", timeout=30).content)
                assert name == "done"
                return done

            assert ask()["stored"] is True
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            first.run(f"{cut} WHERE pid <> pg_backend_pid() AND backend_type LIKE 'c%'")
            # A connection that is dead is noticed, and another one opened.
            assert ask()["stored"] is True
            first.run("ALTER TABLE answers RENAME TO hidden")
            assert ask()["stored"] is False
            server.expect("is not stored: <class 'sqlalchemy.exc.ProgrammingError'>")
            first.run("ALTER TABLE hidden RENAME TO answers")
            assert ask()["stored"] is True
            assert len(past(server)) == 3
            assert "Tea" not in server.output()


def test_a_table_that_is_locked_is_waited_for_and_the_row_comes_later(
    real_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def within() -> None:
        async with llm_collect.lifespan(llm_collect.app) as state:
            store: llm_collect.Store = state["store"]
            other = create_async_engine(real_postgres.url)
            async with other.begin() as connection:
                await connection.exec_driver_sql("LOCK TABLE answers")
                assert await store.keep(answer) is False
            monkeypatch.setattr(llm_collect, "PATIENCE", servers.WAIT)
            assert await store.keep(answer) is True
            await other.dispose()

    monkeypatch.setenv("DATABASE_URL", real_postgres.url)
    monkeypatch.setattr(llm_collect, "PATIENCE", 0.2)
    answer = llm_collect.Answer(
        id="0" * 24,
        asked_at=datetime.now(UTC),
        model="late",
        prompt="x",
        usage=llm_collect.Usage(prompt_tokens=1),
    )
    asyncio.run(within())
    kept = "SELECT count(*) FROM answers WHERE answer ->> 'model' = 'late'"
    assert real_postgres.run(kept) == "1"


# Clients


@pytest.mark.parametrize("client", ["llm_collect.py", "llm_collect.mjs"])
def test_a_client_prints_the_answer_and_the_bill(
    client: str, lite: str, provider: scripted.Provider, tmp_path: Path
) -> None:
    env = {**provider.env, "DATABASE_URL": lite, "OPENAI_MODEL": "ok"}
    with uvicorn(APP, env={**env, "LLM_PRICES": PRICES}) as server:
        done = clients.run(client, server.url, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        bill = "complete: 12 + 8 tokens, cost 0.0000044, Why is tea hot?"
        assert done.stdout == f"{TEXT}\nComplete: stop.\n{bill}\n"
        with closing(sqlite3.connect(lite.partition("///")[2])) as connection:
            connection.execute("DROP TABLE answers")
        done = clients.run(client, server.url, tmp_path)
        assert done.returncode == 1
        said = "\nNot complete, or not stored. It is not stored.\n"
        assert done.stderr == said


@pytest.mark.parametrize("client", ["llm_collect.py", "llm_collect.mjs"])
def test_a_client_says_that_an_answer_is_not_complete(
    client: str, lite: str, provider: scripted.Provider, tmp_path: Path
) -> None:
    env = {**provider.env, "DATABASE_URL": lite, "OPENAI_MODEL": "truncated"}
    with uvicorn(APP, env=env) as server:
        done = clients.run(client, server.url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "Tea is")
    said = "Not complete, or not stored. The answer broke off. Stored: true.\n"
    assert done.stderr.lower() == f"\n{said}".lower()


# Break it


def test_break_it_without_the_clean_up_the_row_of_who_left_is_missing(
    lite: str, provider: scripted.Provider, tmp_path: Path
) -> None:
    folder = changed(tmp_path, "llm_collect", *CHANGE)
    page = (servers.ROOT / "docs/recipes/llm_collect.md").read_text("utf-8")
    told = page.partition('"Break it"')[2].partition("## In production")[0]
    assert "curl -N --max-time 1 'http://127.0.0.1:8000/answer?prompt=Tell" in told
    env = {**provider.env, "DATABASE_URL": lite, "OPENAI_MODEL": "long"}
    counts = []
    with scripted.running() as slow:
        for cwd in (servers.ROOT, folder):
            with uvicorn(APP, cwd=cwd, env={**env, **slow.env}) as server:
                ask = ["curl", "-q", "-N", "-s", "--max-time", "1", server.url + ASK]
                body = subprocess.run(ask, capture_output=True).stdout
                assert b"event: token" in body
                servers.until(lambda: slow.requests()[-1].over())
                if cwd == servers.ROOT:  # Its row may come a moment later.
                    servers.until(lambda: past(server))
                counts.append(len(past(server)))
    assert counts == [1, 1]


CHANGE = ("        await store.keep(answer)\n", "        pass\n")


# The bill in SQL


def test_postgresql_adds_up_what_each_model_has_cost(
    real_postgres: Postgres, provider: scripted.Provider
) -> None:
    env = {**provider.env, "DATABASE_URL": real_postgres.url, "OPENAI_MODEL": "usage"}
    prices = '{"usage": {"input": "0.10", "output": "0.40"}}'
    with uvicorn(APP, env={**env, "LLM_PRICES": prices}) as server:
        for _ in range(3):
            httpx2.get(f"{server.url}/answer?prompt=x", timeout=30)
    query = (servers.ROOT / "docs/clients/llm_collect_costs.sql").read_text("utf-8")
    found = real_postgres.run(query).splitlines()
    assert "usage|3|0.000606" in found
