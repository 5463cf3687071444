"""docs/recipes/llm_durable.md: every claim of the page, proved against the recipe."""

import asyncio
import json
import logging
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dbos
import pytest
from anyio import BrokenResourceError
from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from cookbook.catalog import ROOT
from cookbook.llm import scripted
from recipes import llm_durable
from tests.kit import sse
from tests.kit.llm import SCENARIOS, provider_with
from tests.kit.servers import until

ANSWER = "Tea is hot because the water was."
GATED = """
[numbers]
about = "Numbers, each when it is asked for"
tokens = [" 0", " 1", " 2", " 3", " 4"]
gate = true

[flood]
about = "More than an answer may be long"
tokens = ["Tea "]
enlarge = 25_000
repeat = 30

[stalls]
about = "Three tokens, then silence"
tokens = [" 0", " 1", " 2", " 3"]
fault = "stall"
after = 3
"""
NUMBERS = " 0 1 2 3 4"


@pytest.fixture(scope="module")
def running() -> Iterator[scripted.Provider]:
    with provider_with(GATED, pace=0) as provider:
        yield provider


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Let DBOS make its tables once."""
    file = tmp_path_factory.mktemp("tables") / "empty.sqlite"
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("DATABASE_URL", f"sqlite:///{file}")
        stack.enter_context(TestClient(llm_durable.app))
    return file.read_bytes()


@pytest.fixture
def database(tables: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the recipe keep its answers in a file of this test."""
    file = tmp_path / "answers.sqlite"
    file.write_bytes(tables)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")
    return file


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS looks once a second for what is left or stopped; here it looks at once."""
    defaults: Any = dbos.Queue.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "polling_interval_sec", 0.02)
    monkeypatch.setattr("dbos._core._PREEMPTIBLE_POLL_INTERVAL_SEC", 0.02)


@pytest.fixture
def anyio_backend() -> str:
    """Choose the event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    request.getfixturevalue("provider")
    request.getfixturevalue("database")
    with TestClient(llm_durable.app) as opened:
        yield opened


def ask(client: TestClient, key: str, prompt: str = "Why is tea hot?") -> None:
    answer = post(client, key, prompt)
    assert answer.status_code == 202, answer.text


def post(client: TestClient, key: str | bytes, prompt: str = "Why?") -> Response:
    headers: Any = {b"Idempotency-Key": key}
    return client.post("/answers", params={"prompt": prompt}, headers=headers)


def read(client: TestClient, key: str, last_id: str | bytes = "") -> list[sse.Event]:
    """Read an answer to its end."""
    headers: Any = {b"Last-Event-ID": last_id} if last_id else {}
    response = client.get(f"/answers/{key}/events", headers=headers)
    assert response.status_code == 200, response.text
    return sse.parse([response.content]).events


def text(events: list[sse.Event]) -> str:
    """Put together what a client shows: all since the last `start`."""
    shown = ""
    for event in events:
        if event.event == "start":
            shown = ""
        elif event.event == "token":
            shown += json.loads(event.data)["text"]
    return shown


def names(events: list[sse.Event]) -> list[str]:
    """Name the events, but each run of tokens once: time decides how many they are."""
    told = [event.event for event in events]
    return [name for n, name in enumerate(told) if told[n - 1 : n] != [name]]


@contextmanager
def opened(client: TestClient, key: str) -> Iterator[Iterator[sse.Event]]:
    """Read an answer event by event."""
    with client.stream("GET", f"/answers/{key}/events") as response:
        chunks = response.iter_bytes()

        def events() -> Iterator[sse.Event]:
            for chunk in chunks:
                yield from sse.parse([chunk]).events

        yield events()


# An answer


def test_an_answer_is_a_start_its_tokens_and_done(client: TestClient) -> None:
    response = post(client, "tea")
    assert (response.status_code, response.content) == (202, b"")
    assert response.headers["location"] == "answers/tea/events"
    events = read(client, "tea")
    assert names(events) == ["start", "token", "done"]
    assert text(events) == ANSWER
    assert json.loads(events[0].data) == {"attempt": 1}
    assert json.loads(events[-1].data) == {"finish_reason": "stop"}


def test_the_headers_say_that_events_come(client: TestClient) -> None:
    ask(client, "tea")
    response = client.get("/answers/tea/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    retry = sse.parse([response.content]).retry
    assert retry is not None
    assert 1000 <= retry < 2000


def test_each_event_has_an_id_of_this_answer_and_its_place(client: TestClient) -> None:
    ask(client, "tea")
    ids = [event.id for event in read(client, "tea")]
    run = ids[0].partition("-")[0]
    assert re.fullmatch("[0-9a-f]{16}", run)
    assert ids == [f"{run}-{place}" for place in range(1, len(ids) + 1)]


def test_the_first_token_is_out_before_the_second_is_made(
    client: TestClient, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    ask(client, "numbers")
    with opened(client, "numbers") as events:
        assert next(events).event == "start"
        for number in range(5):
            provider.go(1)
            assert json.loads(next(events).data) == {"text": f" {number}"}
            assert provider.requests()[0].tokens_made == number + 1
        assert next(events).event == "done"


@pytest.mark.anyio
async def test_what_comes_while_a_write_rests_goes_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[str, object]] = []
    said = asyncio.Event()

    async def tell(name: str, fields: object) -> None:
        told.append((name, fields))
        said.set()

    async def say(_: str, texts: asyncio.Queue[str]) -> tuple[str, dict[str, str]]:
        texts.put_nowait("first")
        await said.wait()
        for word in (" second", "", " third"):
            texts.put_nowait(word)
            await asyncio.sleep(0)
        await asyncio.sleep(2 * llm_durable.BATCH)
        texts.put_nowait(" last")
        texts.put_nowait("")
        return "done", {}

    monkeypatch.setattr(llm_durable, "tell", tell)
    monkeypatch.setattr(llm_durable, "ask", say)
    await llm_durable.write("Why?")
    words = ["first", " second third", " last"]
    assert told == [*(("token", {"text": word}) for word in words), ("done", {})]


def test_line_ends_and_signs_arrive_as_they_were(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scenario in ("newlines", "framing", "emoji", "refusal", "utf8-split"):
        monkeypatch.setenv("OPENAI_MODEL", scenario)
        ask(client, scenario)
        said = [
            token.text
            for token in SCENARIOS[scenario].said()
            if token.kind in ("text", "refusal")
        ]
        assert text(read(client, scenario)) == "".join(said)


# Keys


def test_the_same_key_begins_one_answer(
    client: TestClient, provider: scripted.Provider
) -> None:
    for _ in range(3):
        ask(client, "tea")
    first = read(client, "tea")
    ask(client, "tea")
    assert read(client, "tea") == first
    assert len(provider.requests()) == 1


def test_the_same_key_with_another_question_is_a_conflict(
    client: TestClient, provider: scripted.Provider
) -> None:
    ask(client, "tea", "Why is tea hot?")
    refused = post(client, "tea", "Why is tea cold?")
    assert refused.status_code == 409
    assert refused.json() == {"detail": "This key belongs to another question."}
    read(client, "tea")
    assert len(provider.requests()) == 1


KEYS: list[str | bytes] = [
    "",
    " ",
    "a" * 65,
    "a b",
    "../tea",
    "tea/events",
    "a:b",
    "%00",
]
KEYS += [b"\xff", "tea\u00e9".encode(), b"\x80" * 30, "a" * 10_000, "a\t"]


def test_a_key_of_other_signs_is_refused(
    client: TestClient, provider: scripted.Provider
) -> None:
    """Attack: An idempotency key of other signs: 422, and nothing begins."""
    for key in KEYS:
        assert post(client, key).status_code == 422
    assert provider.requests() == []


def test_a_key_is_needed(client: TestClient) -> None:
    assert client.post("/answers", params={"prompt": "Why?"}).status_code == 422


def test_a_question_has_its_limits(client: TestClient) -> None:
    for prompt in ("", "a" * 2001):
        assert post(client, "tea", prompt).status_code == 422


PROMPTS = ["\0", "\ufffd", "\U0001d54b\r\n\u2028", "a" * 2000, "'; --"]


def test_a_question_may_hold_any_sign(client: TestClient) -> None:
    for number, prompt in enumerate(PROMPTS):
        for _ in range(2):
            ask(client, f"tea-{number}", prompt)
            assert text(read(client, f"tea-{number}")) == ANSWER


PATHS = ["nothing", "%00", "..%2f", "a" * 65, "%ff", "llm_durable:tea", "%F0%9F%8D%B5"]


def test_an_unknown_answer_is_a_404_or_a_422(client: TestClient) -> None:
    ask(client, "tea")
    for path in PATHS:
        for method, end in (("GET", "events"), ("POST", "cancel")):
            response = client.request(method, f"/answers/{path}/{end}")
            assert response.status_code in (404, 422)
    assert client.get("/answers/nothing/events").json() == {"detail": "No such answer."}


def test_without_a_model_it_says_how_to_get_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    refused = post(client, "tea")
    assert refused.status_code == 503
    assert "cookbook llm" in refused.json()["detail"]
    for number, name in enumerate(("OPENAI_API_KEY", "OPENAI_BASE_URL")):
        with monkeypatch.context() as patch:
            patch.setenv(name, "http://127.0.0.1:9/v1")
            assert post(client, f"tea-{number}").status_code == 202


def test_it_starts_without_a_key_and_asks_once_with_patience(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    database.unlink()  # It makes a new one.
    with TestClient(llm_durable.app) as client:
        assert client.get("/answers/nothing/events").status_code == 404
        sdk = llm_durable.here.client
        assert (sdk.timeout, sdk.max_retries) == (30.0, 0)


# Readers


def test_a_reader_goes_on_after_any_event(client: TestClient) -> None:
    ask(client, "tea")
    events = read(client, "tea")
    for place, event in enumerate(events[:-1], 1):
        assert read(client, "tea", event.id) == events[place:]


def test_a_reader_that_has_seen_the_end_gets_204(client: TestClient) -> None:
    ask(client, "tea")
    last = read(client, "tea")[-1].id
    headers = {"Last-Event-ID": last}
    response = client.get("/answers/tea/events", headers=headers)
    assert (response.status_code, response.content) == (204, b"")


UNKNOWN = ["1", "abc", "-", "-1", "{run}-0", "{run}--1", "{run}-999999999", "{run}"]
UNKNOWN += ["{run}-1e1", "{run}-1 ", "{run}-9999999999999999999", "0{run}-2", "x-2"]
UNKNOWN += ["0000000000000000-2", "{run}-\u0661", "{run}-1\xa0", "\xff", "a" * 20_000]


def test_with_an_id_that_is_none_of_ours_the_answer_comes_from_its_start(
    client: TestClient,
) -> None:
    ask(client, "tea")
    events = read(client, "tea")
    run = events[0].id.partition("-")[0]
    for last_id in UNKNOWN:
        sent = last_id.format(run=run).encode("utf-8")
        assert read(client, "tea", sent) == events, last_id
    assert events[0].event == "start"


def test_an_id_of_another_answer_is_none_of_ours(client: TestClient) -> None:
    ask(client, "tea")
    answer = SimpleNamespace(created_at=1, workflow_id="llm_durable:tea")
    ours = read(client, "tea")[1].id

    async def place() -> int:
        return await llm_durable.place_of(answer, ours)  # type: ignore[arg-type]

    assert client.portal
    assert client.portal.call(place) == 0


def test_an_id_beyond_what_is_told_so_far_does_not_make_a_reader_wait(
    client: TestClient, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    ask(client, "numbers")
    with opened(client, "numbers") as events:
        run = next(events).id.partition("-")[0]
    headers = {"Last-Event-ID": f"{run}-7"}
    with client.stream("GET", "/answers/numbers/events", headers=headers) as response:
        chunks = response.iter_bytes()
        assert b"retry" in next(chunks)
        assert b"event: start" in next(chunks)
    provider.go(5)
    assert text(read(client, "numbers")) == NUMBERS


def test_a_disconnect_does_not_end_the_work(
    client: TestClient, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    ask(client, "numbers")
    with opened(client, "numbers") as events:
        assert next(events).event == "start"
        provider.go(1)
        seen = next(events)
    provider.go(4)  # Nobody reads.
    provider.wait(1)
    rest = read(client, "numbers", seen.id)
    assert names(rest) == ["token", "done"]
    assert text([seen, *rest]) == NUMBERS


def test_several_readers_get_the_same_events(
    client: TestClient, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    ask(client, "numbers")
    with opened(client, "numbers") as one, opened(client, "numbers") as other:
        assert next(one) == next(other)
        for _ in range(5):
            provider.go(1)
            assert next(one) == next(other)
        assert next(one) == next(other)
    assert len(provider.requests()) == 1


# Stop


def test_a_cancel_closes_the_provider_and_tells_the_readers(
    client: TestClient, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    ask(client, "numbers")
    with opened(client, "numbers") as events:
        next(events)
        provider.go(2)
        next(events)
        stopped = client.post("/answers/numbers/cancel")
        assert (stopped.status_code, stopped.content) == (204, b"")
        *_, last = events
    assert (last.event, json.loads(last.data)) == (
        "failed",
        {"type": "cancelled", "retryable": True},
    )
    # The provider is silent: DBOS looks once a second whether to stop the step.
    assert provider.wait(1).ended == "closed by the client"
    provider.go(3)
    again = read(client, "numbers")
    assert names(again) == ["start", "token", "failed"]
    assert text(again) in (" 0", " 0 1")
    ask(client, "numbers")  # The key stays with the answer that was stopped.
    assert len(provider.requests()) == 1


def test_an_answer_that_has_ended_cannot_be_stopped(client: TestClient) -> None:
    ask(client, "tea")
    events = read(client, "tea")
    assert client.post("/answers/tea/cancel").status_code == 204
    assert read(client, "tea") == events


# Failures

ENDS = {
    "truncated": "truncated",
    "overloaded-midstream": "provider",
    "reset": "provider",
    "half-event": "truncated",
    "unauthorized": "provider",
    "server-error": "provider",
    "flood": "too_long",
}


def test_a_failure_is_a_typed_event_and_repeats_nothing(
    client: TestClient,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number, (scenario, kind) in enumerate(ENDS.items(), 1):
        caplog.clear()
        monkeypatch.setenv("OPENAI_MODEL", scenario)
        ask(client, scenario)
        events = read(client, scenario)
        expected = {"type": kind, "retryable": kind != "too_long"}
        assert (events[-1].event, json.loads(events[-1].data)) == ("failed", expected)
        assert names(events).count("failed") == 1
        records = [r for r in caplog.records if r.name == "recipes.llm_durable"]
        assert len(records) == (kind == "provider")
        assert all("in ask" in record.getMessage() for record in records)
        for secret in ("sk-", "overloaded", "Bearer", "The key"):
            assert secret not in caplog.text + events[-1].data
        provider.wait(number)


SHAPES: list[Any] = [
    SimpleNamespace(choices=None),
    SimpleNamespace(choices=[None]),
    SimpleNamespace(choices=[SimpleNamespace(delta=None, finish_reason="stop")]),
    None,
    *(
        SimpleNamespace(
            choices=[
                SimpleNamespace(
                    delta=SimpleNamespace(content=content, refusal=None),
                    finish_reason=reason,
                )
            ]
        )
        for content, reason in (
            (1, None),
            ([["deep"]], None),
            ({"a": 1}, None),
            ("\ud800", None),
            ("x" * 1_000_001, None),
            ("fine", 7),
            ("fine", ["stop"]),
            ("fine", "\udfff"),
        )
    ),
]


@pytest.mark.anyio
@pytest.mark.parametrize("chunk", SHAPES, ids=lambda chunk: repr(chunk)[-30:])
async def test_a_chunk_may_have_any_shape(
    chunk: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []

    class Chunks:
        async def __aenter__(self) -> AsyncIterator[object]:
            async def chunks() -> AsyncIterator[object]:
                yield chunk

            return chunks()

        async def __aexit__(self, *_: object) -> None:
            closed.append(True)

    async def create(**_: object) -> Chunks:
        return Chunks()

    sdk = SimpleNamespace(
        chat=SimpleNamespace(completions=SimpleNamespace(create=create))
    )
    monkeypatch.setattr(llm_durable.here, "client", sdk, raising=False)
    texts = asyncio.Queue[str]()
    name, fields = await llm_durable.ask("Why?", texts)
    assert (name, fields) == ("failed", {"type": "provider", "retryable": True})
    assert closed == [True]
    assert "deep" not in caplog.text
    while not texts.empty():
        last = texts.get_nowait()
    assert last == ""  # It wakes who waits for more.


# Another process


def leave_in_the_middle(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop a process, as a deployment does, after two tokens of its answer."""
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    with TestClient(llm_durable.app) as client:
        ask(client, "numbers")
        with opened(client, "numbers") as events:
            next(events)
            for _ in range(2):
                provider.go(1)
                next(events)
    assert provider.wait(1).ended == "closed by the client"


@pytest.mark.usefixtures("database")
def test_the_next_process_goes_on_with_an_attempt_of_its_own(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_in_the_middle(provider, monkeypatch)
    with TestClient(llm_durable.app) as client:
        provider.go(5)
        events = read(client, "numbers")
    assert names(events) == ["start", "token", "start", "token", "done"]
    starts = [json.loads(e.data) for e in events if e.event == "start"]
    assert starts == [{"attempt": 1}, {"attempt": 2}]
    assert text(events) == NUMBERS
    places = [int(event.id.partition("-")[2]) for event in events]
    assert places == list(range(1, len(events) + 1))


def test_code_of_another_version_leaves_an_answer_alone(
    provider: scripted.Provider, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_in_the_middle(provider, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(llm_durable, "VERSION", "2")
        with TestClient(llm_durable.app) as client:
            patch.setenv("OPENAI_MODEL", "ok")
            ask(client, "tea")
            assert text(read(client, "tea")) == ANSWER
            assert status(database, "numbers") == "PENDING"
    with TestClient(llm_durable.app) as client:
        provider.go(5)
        assert text(read(client, "numbers")) == NUMBERS


def status(database: Path, key: str) -> str:
    """Look into DBOS's table."""
    query = "SELECT status FROM workflow_status WHERE workflow_uuid = ?"
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute(query, [llm_durable.PREFIX + key]).fetchone()
    return str(row[0])


def test_a_question_that_kills_its_process_does_not_go_round(
    provider: scripted.Provider, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_in_the_middle(provider, monkeypatch)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE workflow_status SET recovery_attempts = 6")
    with TestClient(llm_durable.app) as client:
        end = read(client, "numbers")[-1]
    assert json.loads(end.data)["type"] == "max_recovery_attempts_exceeded"
    assert len(provider.requests()) == 1


def test_an_error_of_the_process_itself_is_a_failure_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(llm_durable, "write", broken)
    ask(client, "tea")
    events = read(client, "tea")
    assert names(events) == ["start", "failed"]
    assert json.loads(events[-1].data) == {"type": "error", "retryable": True}


# What is kept


TABLES = ["workflow_status", "workflow_input", "workflow_output", "streams"]


def column(database: Path, table: str, name: str = "*") -> list[str]:
    """Give a column of one of DBOS's tables."""
    query = f"SELECT {name} FROM {table}"  # noqa: S608 - the names are ours
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(query)]


def test_old_answers_go_with_the_next_question(
    client: TestClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(client, "old")
    first = read(client, "old")
    until(lambda: status(database, "old") == "SUCCESS")
    ask(client, "young")
    read(client, "young")
    until(lambda: status(database, "young") == "SUCCESS")
    assert read(client, "old") == first
    monkeypatch.setattr(llm_durable, "KEEP", timedelta(seconds=-5))
    monkeypatch.setenv("OPENAI_MODEL", "numbers")
    ask(client, "newest")
    for key in ("old", "young"):
        assert client.get(f"/answers/{key}/events").status_code == 404
    with opened(client, "newest") as events:
        next(events)
    left = [len(column(database, table)) for table in (*TABLES, "operation_outputs")]
    assert left == [1, 1, 0, 1, 0]


def test_the_page_s_figures_are_the_recipe_s() -> None:
    assert timedelta(days=1) == llm_durable.KEEP
    assert llm_durable.BATCH == 0.05


def test_a_reader_of_an_answer_that_is_deleted_meanwhile_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(client, "tea")
    read(client, "tea")
    find = DBOS.get_workflow_status_async
    times: list[str] = []

    async def once(workflow_id: str) -> object:
        times.append(workflow_id)
        return await find(workflow_id) if len(times) == 1 else None

    async def nothing(*_: object, **__: object) -> AsyncIterator[object]:
        return
        yield

    monkeypatch.setattr(DBOS, "get_workflow_status_async", once)
    monkeypatch.setattr(DBOS, "read_stream_async", nothing)
    (event,) = read(client, "tea")
    told = {"type": "expired", "retryable": True}
    assert (event.event, json.loads(event.data)) == ("failed", told)


def test_what_others_keep_in_the_same_database_stays(
    client: TestClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(client, "old")
    read(client, "old")
    until(lambda: status(database, "old") == "SUCCESS")
    with closing(sqlite3.connect(database)) as connection, connection:
        theirs = "UPDATE workflow_status SET workflow_uuid = 'theirs'"
        connection.execute(theirs)
    monkeypatch.setattr(llm_durable, "KEEP", timedelta(seconds=-5))
    ask(client, "new")
    assert len(column(database, "workflow_status")) == 2
    assert client.get("/answers/theirs/events").status_code == 404


def test_it_is_kept_as_json_and_not_pickled(client: TestClient, database: Path) -> None:
    ask(client, "tea", "Why is tea hot?")
    read(client, "tea")
    until(lambda: status(database, "tea") == "SUCCESS")
    for kept in column(database, "workflow_input", "inputs"):
        assert json.loads(kept)["positionalArgs"][1] == "Why is tea hot?"
    for kept in column(database, "streams", "value"):
        assert json.loads(kept)[0] in ("start", "token", "done")


# The process


@pytest.mark.usefixtures("provider", "database")
def test_two_lifespans_leave_no_thread_and_a_loop_that_works() -> None:
    before = set(threading.enumerate())

    async def twice() -> None:
        for key in ("one", "two"):
            async with llm_durable.lifespan(FastAPI()):
                with SetWorkflowID(key):
                    begun = await DBOS.start_workflow_async(
                        llm_durable.write_answer, key, "Why?"
                    )
                await begun.get_result()
            assert await asyncio.to_thread(lambda: 7) == 7

    asyncio.run(twice())
    until(lambda: set(threading.enumerate()) <= before, "the threads")


@pytest.mark.usefixtures("database")
def test_when_it_has_stopped_no_attempt_is_left(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "stalls")

    async def once() -> None:
        async with llm_durable.lifespan(FastAPI()):
            with SetWorkflowID("one"):
                await DBOS.start_workflow_async(llm_durable.write_answer, "one", "Why?")
            await asyncio.to_thread(provider.wait, 1, lambda r: r.tokens_made == 3)
        # DBOS looks once a second for what was cancelled, and ends when it next looks.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert [one for one in left if "CancellationWatcher" not in repr(one)] == []

    asyncio.run(once())
    assert provider.wait(1).ended == "closed by the client"


QUIET = """
import os, sys, logging, threading

asked = []
def hook(event, args):
    if event in ("socket.connect", "socket.bind"):
        asked.append(args[1])
sys.addaudithook(hook)
files = set(os.listdir("."))
from recipes import llm_durable
assert threading.active_count() == 1
assert not logging.getLogger("dbos").handlers
assert set(os.listdir(".")) == files and not asked
from fastapi.testclient import TestClient
with TestClient(llm_durable.app) as client:
    headers = {"Idempotency-Key": "tea"}
    client.post("/answers", params={"prompt": "Why?"}, headers=headers)
    assert "done" in client.get("/answers/tea/events").text
    client.post("/answers/tea/cancel")
assert {address[0] for address in asked} == {"127.0.0.1"}, asked
assert len(asked) == 1, asked
print(set(os.listdir(".")) - files)
"""


@pytest.mark.timeout(60)
def test_it_prints_nothing_and_talks_to_nobody_but_the_provider(
    provider: scripted.Provider, tmp_path: Path
) -> None:
    env = provider.env | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        cwd=tmp_path / "work",
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
    # Without DATABASE_URL the answers lie in the folder for temporary files.
    assert (tmp_path / "llm_durable.sqlite").exists()


@pytest.mark.usefixtures("provider", "database")
def test_it_works_behind_a_prefix_and_beside_others() -> None:
    site = FastAPI(lifespan=llm_durable.lifespan)
    site.mount("/live/llm_durable", llm_durable.app)
    with TestClient(site) as client:
        asked = client.post(
            "/live/llm_durable/answers",
            params={"prompt": "Why?"},
            headers={"Idempotency-Key": "tea"},
        )
        address = asked.url.join(asked.headers["location"])
        assert address.path == "/live/llm_durable/answers/tea/events"
        events = sse.parse([client.get(address.path).content]).events
        assert text(events) == ANSWER


def test_the_page_is_served_and_the_schema_is_complete(client: TestClient) -> None:
    assert "<h1>An answer that outlives its process</h1>" in client.get("/").text
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/answers",
        "/answers/{key}/events",
        "/answers/{key}/cancel",
    }


def test_a_stop_writes_nothing_to_the_log(
    client: TestClient,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "stalls")
    ask(client, "tea")
    with opened(client, "tea") as events:
        next(events)
        next(events)
    client.post("/answers/tea/cancel")
    assert provider.wait(1).ended == "closed by the client"
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
    assert "Traceback" not in capfd.readouterr().err


def test_the_error_of_a_slow_client_that_leaves_is_dropped_and_no_other() -> None:
    async def leaves(error: Exception) -> None:
        answer: Any = SimpleNamespace(workflow_id="llm_durable:tea", created_at=1)
        opened: Any = llm_durable.open_events(answer, "")
        await anext(opened)
        await opened.athrow(ExceptionGroup("FastAPI's", [error]))

    with pytest.raises(StopAsyncIteration):
        asyncio.run(leaves(BrokenResourceError()))
    with pytest.raises(ExceptionGroup):
        asyncio.run(leaves(ValueError()))
