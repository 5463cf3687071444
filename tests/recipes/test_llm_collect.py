"""docs/recipes/llm_collect.md: every claim of the page, proved against the recipe."""

import asyncio
import json
import logging
import re
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import httpx2
import openai
import pytest
from anyio import CancelScope
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cookbook.llm import scripted
from recipes import llm_collect
from recipes.llm_collect import Answer, Prices, Store, Usage
from tests.kit import sse
from tests.kit.asgi import drive, note
from tests.kit.llm import ASK, Play, events, last, said, texts
from tests.kit.untrusted import (
    CANARY,
    CHUNKS,
    Fake,
    below,
    framed,
    replaced,
    tries,
    whole,
)

TEXT = "Tea is hot because the water was."
KEY = "sk-canary-4711"
ESTIMATE = {"completion_tokens": 0, "estimated": True, "cost": None}


@pytest.fixture
def silent(
    silent: scripted.Provider,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> scripted.Provider:
    """Lead the SDK to a provider that takes its time; `provider` takes none."""
    assert silent.url != provider.url
    for name, value in silent.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_MODEL", "silent")
    silent.reset()
    return silent


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the recipe a database of its own."""
    path = tmp_path / "answers.sqlite"
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{path}")
    monkeypatch.delenv("LLM_PRICES", raising=False)
    return path


@pytest.fixture
def provider(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, file: Path
) -> scripted.Provider:
    """Lead the SDK to the scripted provider, and the recipe to its database."""
    assert not file.exists()
    monkeypatch.setenv("OPENAI_MODEL", "ok")
    return provider


@pytest.fixture
def play(provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(llm_collect.app, provider, monkeypatch)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> list[Store]:
    """Collect the stores that the recipe makes: one a start."""
    made: list[Store] = []

    class Noted(Store):
        def __init__(self, engine: AsyncEngine, *_: object, **__: object) -> None:
            assert self.engine is engine
            made.append(self)

    monkeypatch.setattr(llm_collect, "Store", Noted)
    return made


def rows(file: Path) -> list[dict[str, Any]]:
    """Give what is kept, the oldest first, as another program reads it."""
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT id, answer FROM answers ORDER BY id")
        answers = [(id_, json.loads(answer)) for id_, answer in found]
    assert all(answer["id"] == id_ for id_, answer in answers)
    return [answer for _, answer in answers]


def row(file: Path) -> dict[str, Any]:
    """Give the one row that there is."""
    (found,) = rows(file)
    return found


pytestmark = pytest.mark.usefixtures("provider")

# The events


def test_an_answer_is_a_start_its_tokens_and_done() -> None:
    run = drive(llm_collect.app, ASK)
    names = [event.event for event in events(run)]
    assert names == ["start", *["token"] * 8, "done"]
    assert "".join(texts(run)) == TEXT
    assert last(run)[1] == {
        "finish_reason": "stop",
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 8,
            "estimated": False,
            "cost": None,
        },
        "stored": True,
    }


def test_start_has_the_id_under_which_the_answer_is_stored(file: Path) -> None:
    run = drive(llm_collect.app, ASK)
    id_ = row(file)["id"]
    assert re.fullmatch("[0-9a-f]{24}", id_)
    start = f'event: start\ndata: {{"id":"{id_}","model":"ok"}}\n\n'
    assert run.chunks[:2] == [
        start.encode(),
        b'event: token\ndata: {"text":"Tea"}\n\n',
    ]


def test_it_is_an_event_stream_that_a_proxy_must_not_hold() -> None:
    headers = drive(llm_collect.app, ASK).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"


def test_the_first_token_is_out_before_the_second_is_made(
    provider: scripted.Provider, play: Play
) -> None:
    provider.go(1)
    run = play("gated", disconnect_at=2)
    assert texts(run) == ["Tea"]
    assert provider.wait(1).tokens_made == 1
    assert provider.wait(1).hung_up_after == 1


@pytest.mark.parametrize(
    "scenario", ["newlines", "framing", "hostile-markdown", "emoji", "utf8-split"]
)
def test_any_token_arrives_as_it_was_and_is_kept_as_it_was(
    scenario: str, play: Play, file: Path
) -> None:
    run = play(scenario)
    assert texts(run) == said(scenario)
    assert row(file)["text"] == "".join(said(scenario)).replace("\0", "\ufffd")


@pytest.mark.parametrize("prompt", ["", "x" * 2001])
def test_a_prompt_that_is_empty_or_too_long_is_refused_and_not_kept(
    prompt: str, file: Path, provider: scripted.Provider
) -> None:
    run = drive(llm_collect.app, f"/answer?prompt={prompt}")
    assert run.status == 422
    assert rows(file) == []
    assert provider.requests() == []
    assert drive(llm_collect.app, f"/answer?prompt={'x' * 2000}").status == 200


def test_without_a_model_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    run = drive(llm_collect.app, ASK)
    detail = "No model: run `cookbook llm` and type its exports."
    assert (run.status, json.loads(run.body)) == (503, {"detail": detail})
    assert rows(file) == []


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "OPENAI_API_KEY"])
def test_either_variable_will_do(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable)
    # Without the address it would ask OpenAI: no answer is waited for.
    monkeypatch.setattr(openai, "AsyncOpenAI", nobody)
    assert drive(llm_collect.app, ASK).status == 200


def nobody(api_key: str, timeout: float, max_retries: int) -> openai.AsyncOpenAI:
    """Make a client that reaches nobody."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("nobody", request=request)

    mock = httpx2.AsyncClient(transport=httpx2.MockTransport(refuse))
    made = ORIGINAL(
        api_key=api_key, timeout=timeout, max_retries=max_retries, http_client=mock
    )
    made._platform = "Unknown"  # It would take a thread to find out.
    return made


ORIGINAL = openai.AsyncOpenAI


def test_a_silent_provider_is_given_up_and_asked_once(
    play: Play, monkeypatch: pytest.MonkeyPatch, file: Path, silent: scripted.Provider
) -> None:
    assert llm_collect.SILENCE == 30
    monkeypatch.setattr(llm_collect, "SILENCE", 2.0)
    for number, scenario in enumerate(("silent", "stall-after-first"), 1):
        assert last(play(scenario))[0] == "failed"
        assert len(silent.requests()) == number
    assert [found["text"] for found in rows(file)] == ["", "Tea"]


def test_without_a_name_it_asks_for_a_small_model_of_openais(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.delenv("OPENAI_MODEL")
    drive(llm_collect.app, ASK)
    assert row(file)["model"] == "gpt-5.6-luna"


def test_openapi_can_be_written() -> None:
    found = llm_collect.app.openapi()["paths"]
    assert set(found) == {"/answer", "/answers"}


# What is kept


def test_a_complete_answer_is_kept_with_what_the_provider_counted(file: Path) -> None:
    before = datetime.now(UTC)
    drive(llm_collect.app, ASK)
    found = row(file)
    assert before <= datetime.fromisoformat(found.pop("asked_at")) <= datetime.now(UTC)
    del found["id"]
    assert found == {
        "model": "ok",
        "prompt": "Why is tea hot",
        "text": TEXT,
        "status": "complete",
        "finish_reason": "stop",
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 8,
            "estimated": False,
            "cost": None,
        },
    }


def test_the_row_is_there_before_the_client_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(store: Store, answer: Answer) -> bool:
        stored = await original(store, answer)
        note(f"{len(rows(file))} row")
        return stored

    original = Store.write
    monkeypatch.setattr(Store, "write", write)
    run = drive(llm_collect.app, ASK)
    assert "1 row" in run.before("chunk 10")
    assert "1 row" not in run.before("chunk 9")
    assert run.journal.count("1 row") == 1


@pytest.mark.parametrize("leave", range(11))
@pytest.mark.parametrize("stalled", [False, True])
def test_whenever_a_client_leaves_there_is_one_row_at_once(
    leave: int, stalled: bool, file: Path
) -> None:
    stall = leave if stalled else None
    run = drive(llm_collect.app, ASK, stall_at=stall, disconnect_at=leave)
    assert run.error is None
    assert run.journal[-1] == "returned"
    found = row(file)
    # The recipe is ahead of its client: what is kept is what the provider has said.
    assert found["text"].startswith("".join(texts(run)))
    assert TEXT.startswith(found["text"])
    assert found["status"] in {"cancelled", "complete"}
    if found["status"] == "complete":
        assert found["text"] == TEXT
        assert not found["usage"]["estimated"]
    elif found["usage"]["estimated"]:
        pieces = len(re.findall(r" ?\w+|\.", found["text"]))
        assert found["usage"] == {
            **ESTIMATE,
            "prompt_tokens": 4,
            "completion_tokens": pieces,
        }
    else:
        assert found["text"] == TEXT


def test_who_leaves_before_the_first_token_has_a_row_too(
    silent: scripted.Provider, play: Play, file: Path
) -> None:
    for number, scenario in enumerate(("silent", "stall-before-first"), 1):

        def asked(number: int = number) -> None:
            silent.wait(number, until=lambda request: request.id > 0)

        play(scenario, leave_after=asked)
        assert silent.wait(number).hung_up_after == 0
    for found in rows(file):
        assert (found["status"], found["text"]) == ("cancelled", "")
        assert found["usage"] == {**ESTIMATE, "prompt_tokens": 4}


@pytest.mark.parametrize("stall", [None, 4])
def test_a_server_that_gives_the_request_up_leaves_a_row(
    stall: int | None,
    provider: scripted.Provider,
    play: Play,
    file: Path,
) -> None:
    provider.go(3)
    run = play("gated", stall_at=stall, cancel_at=4)
    assert isinstance(run.error, asyncio.CancelledError)
    found = row(file)
    assert (found["status"], found["text"]) == ("cancelled", "Tea is hot")
    assert provider.wait(1).hung_up_after == 3


@pytest.mark.parametrize("leaves", [True, False])
def test_behind_a_middleware_that_cancels_the_request_waits_for_its_row(
    leaves: bool,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    file: Path,
    stores: list[Store],
) -> None:
    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    async def with_a_deadline(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_three(message: Message) -> None:
            await send(message)
            if b'" is"' in message.get("body", b""):
                deadline.cancel()

        with CancelScope() as deadline:
            await llm_collect.app(scope, receive, send_three)

    async def slowly(store: Store, answer: Answer) -> bool:
        await asyncio.sleep(0.05)
        stored = await original(store, answer)
        note("written")
        return stored

    original = Store.write
    monkeypatch.setattr(Store, "write", slowly)
    monkeypatch.setenv("OPENAI_MODEL", "gated")
    provider.go(2)
    if leaves:
        behind: ASGIApp = BaseHTTPMiddleware(llm_collect.app, dispatch=pass_on)
        run = drive(behind, ASK, disconnect_at=3)
    else:
        run = drive(with_a_deadline, ASK)
    assert "written" in run.before("returned")
    assert row(file)["status"] == "cancelled"
    assert provider.wait(1).hung_up_after == 2
    assert stores[0].open == {}


FAILED = [
    ("truncated", "truncated", True, "Tea is"),
    ("truncated-at-the-end", "truncated", True, "Tea is hot."),
    ("half-event", "truncated", True, "Tea is"),
    ("overloaded-midstream", "provider", True, "Tea is"),
    ("unauthorized", "provider", True, ""),
    ("rate-limited", "provider", True, ""),
]


@pytest.mark.parametrize(("scenario", "kind", "again", "text"), FAILED)
def test_an_answer_that_broke_off_is_kept_as_failed(
    scenario: str,
    kind: str,
    again: bool,
    text: str,
    play: Play,
    file: Path,
    provider: scripted.Provider,
) -> None:
    run = play(scenario)
    assert last(run) == (
        "failed",
        {
            "type": kind,
            "message": "The answer broke off.",
            "retryable": again,
            "stored": True,
        },
    )
    found = row(file)
    assert (found["status"], found["text"], found["finish_reason"]) == (
        "failed",
        text,
        "",
    )
    assert found["usage"]["estimated"] is True
    assert found["usage"]["prompt_tokens"] == 4
    assert len(provider.requests()) == 1


def test_a_question_that_reaches_nobody_is_kept_as_failed(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(openai, "AsyncOpenAI", nobody)
    assert last(drive(llm_collect.app, ASK))[0] == "failed"
    assert row(file)["status"] == "failed"


def test_text_that_is_too_long_is_sent_whole_and_kept_in_part(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """Attack: The model writes without end: only so much is kept."""
    assert llm_collect.KEPT == 100_000
    monkeypatch.setattr(llm_collect, "KEPT", 10)
    run = drive(llm_collect.app, ASK)
    assert "".join(texts(run)) == TEXT
    assert row(file)["text"] == TEXT[:10]


def test_a_prompt_may_hold_anything(file: Path) -> None:
    prompt = "%00'%3B+DROP+TABLE+answers%3B--+%F0%9F%AB%96+%22%0A%FF"
    drive(llm_collect.app, f"/answer?prompt={prompt}")
    kept = "\ufffd'; DROP TABLE answers;-- 🫖 \"\n\ufffd"
    assert row(file)["prompt"] == kept
    run = drive(llm_collect.app, "/answers")
    assert json.loads(run.body)[0]["prompt"] == kept


# Once


def test_an_answer_is_written_once_however_often_it_is_to_be_kept(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(store: Store, answer: Answer) -> bool:
        note("write")
        return await original(store, answer)

    original = Store.write
    monkeypatch.setattr(Store, "write", write)
    run = drive(llm_collect.app, ASK)
    assert run.journal.count("write") == 1
    assert stores[0].open == {}


def test_ids_differ_and_sort_by_time(file: Path) -> None:
    with TestClient(llm_collect.app) as client:
        for number in range(5):
            client.get("/answer", params={"prompt": str(number)})
    assert [found["prompt"] for found in rows(file)] == list("01234")
    suffixes = {found["id"][16:] for found in rows(file)}
    assert len(suffixes) == 5


def test_in_a_scope_that_is_cancelled_the_shield_waits_for_the_row(file: Path) -> None:
    async def within() -> bool:
        async with llm_collect.lifespan(llm_collect.app) as state:
            with CancelScope() as scope:
                scope.cancel()
                stored: bool = await state["store"].keep(an_answer("0" * 24))
                return stored
        return False

    assert asyncio.run(within()) is True
    assert len(rows(file)) == 1


def test_a_second_row_with_the_same_id_is_refused(file: Path) -> None:
    drive(llm_collect.app, ASK)
    with closing(sqlite3.connect(file)) as connection:
        copy = "INSERT INTO answers SELECT * FROM answers"
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(copy)


def test_a_row_without_an_answer_is_refused(file: Path) -> None:
    drive(llm_collect.app, ASK)
    with closing(sqlite3.connect(file)) as connection:
        nothing = "INSERT INTO answers VALUES ('0', NULL)"
        with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
            connection.execute(nothing)


@pytest.mark.parametrize("how", ["disconnect_at", "cancel_at"])
def test_a_write_that_has_begun_goes_on_when_the_client_or_the_server_gives_up(
    how: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(store: Store, answer: Answer) -> bool:
        begun.set()
        await asyncio.sleep(0.05)
        note("written")
        return await original(store, answer)

    async def within() -> None:
        async with llm_collect.lifespan(llm_collect.app) as state:
            store: Store = state["store"]
            answer = an_answer("0" * 24)
            store.open[answer.id] = answer
            keeping = asyncio.create_task(store.keep(answer))
            await begun.wait()
            keeping.cancel()
            await asyncio.wait([keeping])
            assert keeping.cancelled()
            assert rows(file) == []

    begun = asyncio.Event()
    original = Store.write
    monkeypatch.setattr(Store, "write", write)
    if how == "cancel_at":
        # The request has been given up; the lifespan waits for what it left open.
        asyncio.run(within())
    else:
        drive(llm_collect.app, ASK, disconnect_at=9)
    assert len(rows(file)) == 1


def an_answer(id_: str, text: str = "") -> Answer:
    usage = Usage(prompt_tokens=4)
    now = datetime.now(UTC)
    return Answer(id=id_, asked_at=now, model="ok", prompt="x", text=text, usage=usage)


# The database


def test_no_connection_is_held_while_an_answer_streams(
    stores: list[Store], provider: scripted.Provider, play: Play
) -> None:
    def look() -> None:
        provider.wait(1, until=lambda request: request.tokens_made == 3)
        held.append(cast(Any, stores[0].engine.pool).checkedout())
        opened.append(len(stores[0].open))

    held: list[int] = []
    opened: list[int] = []
    provider.go(3)
    play("gated", leave_after=look)
    assert (held, opened) == ([0], [1])
    pool = cast(Any, stores[0].engine.pool)
    assert (pool.checkedout(), pool.size(), pool._max_overflow) == (0, 2, 0)
    assert stores[0].open == {}


def locked(file: Path) -> sqlite3.Connection:
    """Take the lock that a writer needs, as another program may."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_database_that_stays_locked_costs_the_row_and_says_so(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # SQLite itself gives up, after five seconds or what the address says.
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{file}?timeout=0.1")
    drive(llm_collect.app, ASK)
    with TestClient(llm_collect.app) as client, closing(locked(file)):
        body = client.get(ASK).content
    name, data = sse.parse([body]).events[-1].event, sse.parse([body]).events[-1].data
    assert (name, json.loads(data)["stored"]) == ("done", False)
    assert len(rows(file)) == 1
    start = json.loads(sse.parse([body]).events[0].data)
    (line,) = [r.getMessage() for r in caplog.records if r.name == llm_collect.__name__]
    usage = "Usage(prompt_tokens=12, completion_tokens=8, estimated=False, cost=None)"
    kind = "<class 'sqlalchemy.exc.OperationalError'>"
    assert line == f"{start['id']} is not stored: {kind} {usage}"


def test_a_write_that_takes_too_long_is_reported_and_may_still_come_through(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def write(store: Store, answer: Answer) -> bool:
        await slow.wait()
        return await original(store, answer)

    async def within() -> None:
        async with llm_collect.lifespan(llm_collect.app) as state:
            answer = an_answer("0" * 24)
            assert await state["store"].keep(answer) is False
            assert rows(file) == []
            slow.set()
            monkeypatch.setattr(llm_collect, "PATIENCE", 5)
            assert await state["store"].keep(answer) is True

    assert llm_collect.PATIENCE == 10
    monkeypatch.setattr(llm_collect, "PATIENCE", 0.05)
    slow = asyncio.Event()
    original = Store.write
    monkeypatch.setattr(Store, "write", write)
    asyncio.run(within())
    assert len(rows(file)) == 1
    said = [r.getMessage() for r in caplog.records if r.name == llm_collect.__name__]
    usage = "Usage(prompt_tokens=4, completion_tokens=0, estimated=True, cost=None)"
    assert said == [f"{'0' * 24}: not stored in time: {usage}"]


def test_a_database_that_is_locked_for_a_moment_is_waited_for(file: Path) -> None:
    drive(llm_collect.app, ASK)
    with TestClient(llm_collect.app) as client, closing(locked(file)) as lock:
        timer = threading.Timer(0.3, lambda: lock.execute("ROLLBACK"))
        timer.start()
        body = client.get(ASK).content
        timer.join()
    assert json.loads(sse.parse([body]).events[-1].data)["stored"] is True
    assert len(rows(file)) == 2


@pytest.mark.parametrize("scenario", ["ok", "truncated"])
def test_a_database_that_is_gone_does_not_stop_the_answer(
    scenario: str, file: Path, stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    with TestClient(llm_collect.app) as client:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("DROP TABLE answers")
        body = client.get(ASK).content
        assert stores[0].open == {}
    end = sse.parse([body]).events[-1]
    assert end.event == ("done" if scenario == "ok" else "failed")
    assert json.loads(end.data)["stored"] is False


def test_the_second_start_leaves_the_table_alone(file: Path) -> None:
    drive(llm_collect.app, ASK)
    drive(llm_collect.app, ASK)
    assert len(rows(file)) == 2


def test_without_a_url_it_is_a_file_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("DATABASE_URL")
    drive(llm_collect.app, ASK)
    assert row(tmp_path / "llm_collect.sqlite")["status"] == "complete"


# The bill

PRICES = '{"ok": {"input": "0.10", "output": 0.4}, "free": {"input": 0, "output": 0}}'


def test_the_cost_is_exact(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PRICES", PRICES)
    _, done = last(drive(llm_collect.app, ASK))
    # 12 tokens at 0.10 a million and 8 at 0.40
    assert Decimal(done["usage"]["cost"]) == Decimal("0.0000044")
    assert row(file)["usage"]["cost"] == "0.0000044"


def test_a_very_small_cost_is_written_as_a_decimal_number() -> None:
    usage = Usage(prompt_tokens=1, cost=Decimal("4E-7"))
    assert usage.model_dump(mode="json")["cost"] == "0.0000004"


def test_what_was_estimated_has_an_estimated_cost(
    file: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PRICES", PRICES.replace("ok", "truncated"))
    play("truncated")
    assert row(file)["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 2,
        "estimated": True,
        "cost": "0.0000012",
    }


def test_an_unknown_model_costs_null_and_a_free_one_costs_zero(
    file: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PRICES", PRICES)
    for model in ("unknown", "free"):
        play(model)
    unknown, free = rows(file)
    assert unknown["usage"]["cost"] is None
    assert Decimal(free["usage"]["cost"]) == 0


def test_no_float_takes_part() -> None:
    prices = Prices.model_validate_json('{"input": 0.1, "output": "2.000001"}')
    usage = Usage(prompt_tokens=3, completion_tokens=10**12)
    assert prices.cost(usage) == Decimal("2000001.0000003")
    large = Prices(input=Decimal("999999.999999"), output=Decimal("999999.999999"))
    usage = Usage(prompt_tokens=10**12, completion_tokens=10**12)
    assert large.cost(usage) == Decimal("1999999999998.000000")


@pytest.mark.parametrize(
    "prices",
    [
        "[]",
        '{"ok": 1}',
        '{"ok": {"input": "0.1"}}',
        '{"ok": {"input": "-1", "output": "1"}}',
        '{"ok": {"input": "NaN", "output": "1"}}',
        '{"ok": {"input": "0.0000001", "output": "1"}}',
        '{"ok": {"input": "1000000.000000", "output": "1"}}',
        '{"ok": {"input": "1", "output": "1", "cached": "1"}}',
        "{",
    ],
)
def test_prices_that_make_no_sense_stop_the_start(
    prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PRICES", prices)
    with pytest.raises(ValidationError), TestClient(llm_collect.app):
        pass


@pytest.mark.parametrize(("length", "tokens"), [(1, 1), (3, 1), (4, 2), (2000, 501)])
def test_four_bytes_of_the_question_are_taken_for_a_token(
    length: int, tokens: int, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "truncated")
    drive(llm_collect.app, f"/answer?prompt={'x' * length}")
    assert row(file)["usage"]["prompt_tokens"] == tokens


def test_signs_of_several_bytes_count_for_more(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "truncated")
    drive(llm_collect.app, "/answer?prompt=%E3%81%AF%E3%81%82%E3%81%A4%E3%81%84")
    assert row(file)["usage"]["prompt_tokens"] == 4


# A provider is untrusted input


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake network below the SDK."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return below(openai, "AsyncOpenAI", monkeypatch)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 7, -1, 1.5, 10**13, 10**400, float("nan"), "\ud83d", "\0"])
    | st.text(max_size=4)
    | st.just("x" * 1_000_001),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES: list[tuple[str | int, ...]] = [
    (1, "choices"),
    (1, "choices", 0),
    (1, "choices", 0, "delta"),
    (1, "choices", 0, "delta", "content"),
    (1, "usage"),
    (3, "choices", 0, "finish_reason"),
    (4, "usage"),
    (4, "usage", "prompt_tokens"),
    (4, "usage", "completion_tokens"),
]


@pytest.mark.timeout(60)
@tries(60)
@given(path=st.sampled_from(PLACES), value=VALUES)
@example(path=(3, "choices", 0, "finish_reason"), value="r\0" * 50)
@example(path=(3, "choices", 0, "finish_reason"), value="r" * 101)
@example(path=(4, "usage", "completion_tokens"), value=10**400)
@example(path=(4, "usage", "completion_tokens"), value=-1)
@example(path=(1, "choices", 0, "delta", "content"), value="\ud83d")
def test_whatever_a_chunk_holds_there_is_one_last_event_and_one_row(
    fake: Fake, file: Path, path: tuple[str | int, ...], value: object
) -> None:
    file.unlink(missing_ok=True)
    fake.body = whole(*replaced(CHUNKS, path, value))
    run = drive(llm_collect.app, ASK)
    name, data = last(run)
    assert data["stored"] is True
    assert row(file)["status"] == ("complete" if name == "done" else "failed")
    assert row(file)["text"] == "".join(texts(run)).replace("\0", "\ufffd")
    assert json.loads(drive(llm_collect.app, "/answers").body) == [row(file)]


@pytest.mark.parametrize(("length", "end"), [(100, "done"), (101, "failed")])
def test_a_reason_has_at_most_a_hundred_characters(
    fake: Fake, length: int, end: str
) -> None:
    fake.body = whole(
        *replaced(CHUNKS, (3, "choices", 0, "finish_reason"), "r" * length)
    )
    assert last(drive(llm_collect.app, ASK))[0] == end


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize(("count", "end"), [(10**12, "done"), (10**12 + 1, "failed")])
def test_a_count_is_at_most_a_million_millions(
    fake: Fake, name: str, count: int, end: str
) -> None:
    fake.body = whole(*replaced(CHUNKS, (4, "usage", name), count))
    assert last(drive(llm_collect.app, ASK))[0] == end


def test_a_provider_that_never_counts_leaves_an_estimate(fake: Fake) -> None:
    fake.body = whole(*CHUNKS[:-1])
    name, done = last(drive(llm_collect.app, ASK))
    assert (name, done["usage"]) == (
        "done",
        {"prompt_tokens": 4, "completion_tokens": 2, "estimated": True, "cost": None},
    )


def test_a_count_in_every_chunk_is_taken_as_it_stands(fake: Fake, file: Path) -> None:
    first = replaced(
        CHUNKS, (1, "usage"), {"prompt_tokens": 12, "completion_tokens": 1}
    )
    fake.body = framed(*first[:2])  # and then the connection ends
    drive(llm_collect.app, ASK)
    found = row(file)
    assert found["status"] == "failed"
    assert found["usage"] == {
        "prompt_tokens": 12,
        "completion_tokens": 1,
        "estimated": False,
        "cost": None,
    }


def test_a_count_at_the_limit_does_not_spoil_the_list(fake: Fake, file: Path) -> None:
    most = {"prompt_tokens": 10**12, "completion_tokens": 10**12}
    fake.body = framed(*replaced(CHUNKS, (1, "usage"), most)[:3])
    assert last(drive(llm_collect.app, ASK))[1]["stored"] is True
    assert row(file)["usage"]["completion_tokens"] == 10**12
    assert json.loads(drive(llm_collect.app, "/answers").body) == [row(file)]


def test_a_cost_that_the_provider_names_is_not_ours(fake: Fake, file: Path) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 2, "cost": "0.5", "x": CANARY}
    fake.body = whole(*replaced(CHUNKS, (4, "usage"), usage))
    drive(llm_collect.app, ASK)
    assert row(file)["usage"]["cost"] is None
    assert CANARY not in json.dumps(row(file))


def test_nothing_of_the_providers_words_and_no_key_reaches_the_client_or_the_log(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: A canary in the provider's words: not in answer or log."""
    caplog.set_level(logging.INFO)
    for body in (framed({"error": {"message": CANARY}}), whole(CANARY, {CANARY: 1})):
        fake.body = body
        run = drive(llm_collect.app, ASK)
        assert last(run)[0] == "failed"
        assert CANARY not in run.body.decode() + caplog.text
        assert KEY not in run.body.decode() + caplog.text
    lines = [r.getMessage() for r in caplog.records if r.name == llm_collect.__name__]
    assert lines[0] == "Broke off: <class 'openai.APIError'>"


def test_what_cannot_be_read_is_not_worth_another_try(fake: Fake) -> None:
    fake.body = whole(CANARY)
    assert last(drive(llm_collect.app, ASK))[1]["retryable"] is False


# The list


@pytest.fixture
def client(file: Path) -> Iterator[Callable[..., httpx2.Response]]:
    """Ask for the list, in which are thirty answers."""
    with TestClient(llm_collect.app) as running:
        answers = [
            an_answer(f"{number:024x}", text=f"{number}") for number in range(30)
        ]
        with closing(sqlite3.connect(file)) as connection, connection:
            for answer in answers:
                values = (answer.id, answer.model_dump_json())
                connection.execute("INSERT INTO answers VALUES (?, ?)", values)

        def get(**params: str | int) -> httpx2.Response:
            return running.get("/answers", params=params)

        yield get


def test_the_list_is_paged_and_misses_nothing(
    client: Callable[..., httpx2.Response],
) -> None:
    seen: list[str] = []
    before: dict[str, str] = {}
    while page := client(limit=7, **before).json():
        assert len(page) <= 7
        seen += [answer["text"] for answer in page]
        assert len(seen) <= 30  # A page that repeats itself would never end.
        before = {"before": page[-1]["id"]}
    assert seen == [str(number) for number in reversed(range(30))]


def test_a_page_has_ten_answers_and_never_more_than_twenty(
    client: Callable[..., httpx2.Response],
) -> None:
    assert len(client().json()) == 10
    assert len(client(limit=20).json()) == 20
    assert [answer["text"] for answer in client(limit=1).json()] == ["29"]
    for limit in (0, 21, -1, "x", 10**30):
        assert client(limit=limit).status_code == 422


@pytest.mark.parametrize(
    "before", ["", "g", "0" * 23, "0" * 25, "A" * 24, "0" * 23 + "\0", "0" * 24 + "\n"]
)
def test_what_is_no_id_is_refused(
    client: Callable[..., httpx2.Response], before: str
) -> None:
    assert client(before=before).status_code == 422


def test_an_id_that_nobody_has_is_a_place_in_the_list_too(
    client: Callable[..., httpx2.Response],
) -> None:
    assert client(before="f" * 24).json() == client().json()
    assert client(before="0" * 24).json() == []


def test_the_list_does_not_wait_for_a_writer_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{file}?timeout=0.1")
    drive(llm_collect.app, ASK)
    with TestClient(llm_collect.app) as client, closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OperationalError, match="database is locked"):
            client.get("/answers")
