"""docs/recipes/llm_cancel.md: every claim the page makes, proved against the recipe."""

import asyncio
import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import httpx2
import openai
import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cookbook.background import serving
from cookbook.llm import scripted
from recipes import llm_cancel
from recipes.llm_cancel import Generation, Table
from tests.kit import sse
from tests.kit.asgi import Run, drive
from tests.kit.llm import WORDS, provider_with, said
from tests.kit.llm_cancel import (
    Stream,
    asked,
    generation,
    post_cancel,
    refusal,
)
from tests.kit.redis import redis
from tests.kit.servers import POLL, WAIT, free_port, reset
from tests.kit.untrusted import (
    CANARY,
    CHUNKS,
    VALUES,
    Fake,
    below,
    framed,
    paths,
    replaced,
    tries,
    whole,
)

ADA = {"Authorization": "Bearer ada"}
# Beside the scenarios of the provider: one that never sends a head, one that fills all
# buffers of a client that does not read.
MORE = """
[silent]
about = "Nothing at all, not even a status"
tokens = ["Tea"]
drip = 3_600_000_000 # an hour at the pace of these tests

[flood]
about = "More than all buffers hold"
tokens = ["Tea "]
enlarge = 10_000
repeat = 10_000
"""


@pytest.fixture(scope="module")
def running() -> Iterator[scripted.Provider]:
    with provider_with(MORE, pace=1e-6) as provider:
        yield provider


@pytest.fixture
def provider(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> scripted.Provider:
    """Lead the recipe to the scripted provider, whose tokens wait, and to no Redis."""
    monkeypatch.setenv("OPENAI_MODEL", "gated")
    monkeypatch.delenv("REDIS_URL", raising=False)
    return provider


tables: list[Table] = []


class Watched(Table):
    """A table that the tests find."""

    def __init__(self, redis: Redis | None) -> None:
        super().__init__(redis)
        tables.append(self)


@pytest.fixture(scope="module")
def served(running: scripted.Provider) -> Iterator[int]:
    """Serve the recipe."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.env.items():
            patch.setenv(name, value)
        patch.delenv("REDIS_URL", raising=False)
        patch.setattr(llm_cancel, "Table", Watched)
        with serving(llm_cancel.app) as address:
            found = urlsplit(address).port
            assert found
            yield found


@pytest.fixture
def port(provider: scripted.Provider, served: int) -> Iterator[int]:
    """Give the port of the recipe; in the end nothing may be left in its table."""
    assert provider.requests() == []
    yield served
    empty()


def empty() -> None:
    """Wait until the table holds nothing."""
    deadline = time.monotonic() + WAIT
    while tables[0].running:
        assert time.monotonic() < deadline, tables[0].running
        time.sleep(POLL)


def events(run: Run) -> list[tuple[str, Any]]:
    return [(e.event, json.loads(e.data)) for e in sse.parse(run.chunks).events]


def put(scenario: str, monkeypatch: pytest.MonkeyPatch, **at: int) -> Run:
    """Drive one generation."""
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    target = "/generations/tea?prompt=x"
    drive_it: Any = drive
    run: Run = drive_it(llm_cancel.app, target, method="PUT", headers=ADA, **at)
    return run


# The events


def test_an_answer_is_a_start_its_tokens_and_done(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = put("ok", monkeypatch)
    start, *tokens, (name, done) = events(run)
    assert start == ("start", {"id": "tea", "model": "ok"})
    assert tokens == [("token", {"text": word}) for word in WORDS]
    assert (name, done["finish_reason"]) == ("done", "stop")
    assert done["usage"]["completion_tokens"] == len(WORDS)
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.chunks[0] == b'event: start\ndata: {"id":"tea","model":"ok"}\n\n'
    assert provider.wait(1).finished


def test_without_openai_model_the_default_is_asked_for(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = put("", monkeypatch)
    assert events(run)[0][1]["model"] == llm_cancel.DEFAULT_MODEL
    assert provider.wait(1).model == llm_cancel.DEFAULT_MODEL


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("scenario", ["newlines", "framing", "emoji", "refusal"])
def test_any_token_arrives_as_it_was(
    monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    run = put(scenario, monkeypatch)
    tokens = [data["text"] for name, data in events(run) if name == "token"]
    assert tokens == said(scenario)
    assert {name for name, _ in events(run)} == {"start", "token", "done"}


def test_a_token_is_read_before_the_next_is_made(
    port: int, provider: scripted.Provider
) -> None:
    with generation(port, "tea") as stream:
        assert stream.next()[0] == "start"
        for number, word in enumerate(WORDS[:3], 1):
            provider.go(1)
            assert stream.next()[1] == {"text": word if number < 3 else " hot"}
            assert provider.requests()[0].tokens_made == number


@pytest.mark.parametrize(
    ("scenario", "kind", "again"),
    [
        ("truncated", "truncated", True),
        ("half-event", "truncated", True),
        ("overloaded-midstream", "provider", True),
        ("reset", "provider", True),
        ("unauthorized", "provider", True),
        ("rate-limited", "provider", True),
    ],
)
def test_what_breaks_off_ends_with_failed_and_is_asked_for_once(
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    kind: str,
    again: bool,
) -> None:
    name, data = events(put(scenario, monkeypatch))[-1]
    message = "The answer broke off."
    assert name == "failed"
    assert data == {"type": kind, "message": message, "retryable": again}
    assert len(provider.requests()) == 1


@pytest.mark.usefixtures("provider")
def test_a_provider_that_is_silent_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_cancel, "SILENCE", 0.1)
    assert events(put("stall-after-first", monkeypatch))[-1][0] == "failed"


# The three ways

# A scenario, how many tokens are let through, how many events then come after start.
PLACES = [
    ("silent", 0, 0),
    ("stall-before-first", 0, 0),
    ("gated", 0, 0),
    ("gated", 2, 2),
    ("stall-after-first", 0, 1),
]
everywhere = pytest.mark.parametrize(("scenario", "go", "tokens"), PLACES)


def begun(stream: Stream, provider: scripted.Provider, go: int, tokens: int) -> None:
    """Read all that comes before the provider is silent."""
    assert stream.next()[0] == "start"
    provider.wait(1, lambda request: request.id == 1)
    if go:
        provider.go(go)
    assert [stream.next()[0] for _ in range(tokens)] == ["token"] * tokens


@everywhere
def test_a_request_ends_it_wherever_the_provider_is_silent(
    port: int,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    go: int,
    tokens: int,
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    with generation(port, "tea") as stream:
        begun(stream, provider, go, tokens)
        assert post_cancel(port, "tea") == 204
        assert stream.rest() == [("cancelled", {"by": "request", "tokens": tokens})]
        assert provider.wait(1).hung_up_after == tokens
    empty()


@everywhere
def test_a_deadline_ends_it_wherever_the_provider_is_silent(
    port: int,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    go: int,
    tokens: int,
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    with generation(port, "tea", query="&seconds=1") as stream:
        begun(stream, provider, go, tokens)
        assert stream.rest() == [("cancelled", {"by": "deadline", "tokens": tokens})]
        assert provider.wait(1).hung_up_after == tokens
    empty()


@everywhere
@pytest.mark.parametrize("rudely", [False, True])
def test_leaving_ends_it_wherever_the_provider_is_silent(
    port: int,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    go: int,
    tokens: int,
    rudely: bool,
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    with generation(port, "tea") as stream:
        begun(stream, provider, go, tokens)
        if rudely:
            stream.answer.abort()
        else:
            stream.answer.close()
        assert provider.wait(1).hung_up_after == tokens
    empty()


def test_without_seconds_the_deadline_is_ours(
    port: int, provider: scripted.Provider
) -> None:
    with generation(port, "tea") as stream:
        begun(stream, provider, 0, 0)
        (it,) = tables[0].running.values()
        left = it.scope.deadline - llm_cancel.TOTAL
    with generation(port, "pot", query="&seconds=120") as stream:
        stream.next()
        (it,) = (i for i in tables[0].running.values() if i.key.endswith(":pot"))
        # Both clocks are the event loop's; between the two lies this test alone.
        assert 0 <= it.scope.deadline - llm_cancel.TOTAL - left < 5


# A client that does not read


def fill(port: int, provider: scripted.Provider, query: str = "") -> Stream:
    """Begin an answer, and read nothing until no more is made."""
    stream = Stream(asked(port, "tea", query=query, buffer=4096))
    provider.wait(1, lambda request: request.tokens_made > 20)
    return stream


@pytest.mark.parametrize("way", ["request", "deadline", "leaving"])
def test_a_client_that_does_not_read_holds_no_provider(
    port: int,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "flood")
    stream = fill(port, provider, "&seconds=1" if way == "deadline" else "")
    if way == "request":
        assert post_cancel(port, "tea") == 204
    if way == "leaving":
        stream.answer.abort()
    record = provider.wait(1)
    assert record.hung_up_after
    assert record.hung_up_after < 10_000
    if way != "leaving":
        name, data = stream.rest()[-1]
        assert (name, data["by"]) == ("cancelled", way)
        assert 0 < data["tokens"] <= record.hung_up_after
        stream.answer.close()
    empty()
    assert "Traceback" not in caplog.text
    assert "BrokenResource" not in caplog.text


@pytest.mark.parametrize("stall", [1, 2, 4])
def test_when_a_response_has_ended_nothing_is_left_without_the_garbage_collector(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, stall: int
) -> None:
    left: list[int] = []

    class Noting(Table):
        async def remove(self, it: Generation) -> None:
            await super().remove(it)
            left.append(len(self.running))

    monkeypatch.setattr(llm_cancel, "Table", Noting)
    run = put("flood", monkeypatch, stall_at=stall, disconnect_at=stall)
    assert run.journal[-1] == "returned"
    assert set(left) == {0}
    assert provider.wait(1).hung_up_after is not None


def test_a_server_that_gives_the_request_up_leaves_nothing(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.go(1)
    put("gated", monkeypatch, cancel_at=2)
    assert provider.wait(1).hung_up_after == 1


def test_a_hundred_that_vanish_leave_nothing(
    port: int, provider: scripted.Provider, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        reset(asked(port, f"tea-{number}"))
    with generation(port, "last") as stream:
        assert stream.next()[0] == "start"
        assert post_cancel(port, "last") == 204
        assert stream.next()[0] == "cancelled"
    empty()
    for number in range(1, len(provider.requests()) + 1):
        assert provider.wait(number).hung_up_after == 0
    assert "Traceback" not in caplog.text


# Whose it is


def test_a_foreign_id_and_an_unknown_one_get_the_same_answer(
    port: int, provider: scripted.Provider
) -> None:
    """Attack: Another one's answer is stopped: 404, as for an unknown id."""
    with generation(port, "tea") as stream:
        begun(stream, provider, 0, 0)
        foreign = refusal(port, "tea", "zoe")
        unknown = refusal(port, "pot", "ada")
        assert (foreign.status_code, unknown.status_code) == (404, 404)
        assert foreign.content == unknown.content
        assert foreign.json() == {"detail": "No generation of yours has this id."}
        different = [k for k in foreign.headers if k != "date"]
        assert [foreign.headers[k] for k in different] == [
            unknown.headers[k] for k in different
        ]
        provider.go(1)
        assert stream.next() == ("token", {"text": "Tea"})
        assert post_cancel(port, "tea") == 204


def test_two_owners_may_choose_the_same_id_and_one_owner_may_not_twice(
    port: int,
) -> None:
    with (
        generation(port, "tea", "ada") as hers,
        generation(port, "tea", "zoe") as other,
        generation(port, "tea", "ada") as again,
    ):
        assert (hers.status, other.status, again.status) == (200, 200, 409)
        assert post_cancel(port, "tea", "zoe") == 204
        assert other.rest()[-1][0] == "cancelled"
        assert hers.next()[0] == "start"
        assert post_cancel(port, "tea", "ada") == 204
        assert hers.rest()[-1][0] == "cancelled"
    empty()
    with generation(port, "tea", "ada") as free:
        assert free.status == 200
    empty()
    assert post_cancel(port, "tea", "ada") == 404


def test_a_token_is_kept_as_its_hash_alone(
    port: int, provider: scripted.Provider
) -> None:
    """Attack: The table of running answers leaks: it holds no token."""
    with generation(port, "tea", "s3cret") as stream:
        begun(stream, provider, 0, 0)
        owner = hashlib.sha256(b"s3cret").hexdigest()
        assert list(tables[0].running) == [f"{owner}:tea"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("tea", {}, 401),
        ("tea", {"Authorization": "Bearer"}, 401),
        ("tea", {"Authorization": "Basic YWRhOg=="}, 401),
        ("a" * 65, ADA, 422),
        ("a%0Ab", ADA, 422),
        ("a%00", ADA, 422),
        ("tea%0a", ADA, 422),
        ("%ED%A0%80", ADA, 422),
        ("*", ADA, 422),
    ],
)
def test_who_asks_badly_gets_a_4xx_before_anything_begins(
    port: int,
    provider: scripted.Provider,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    """Attack: No token, or an id with a NUL or a line feed: 4xx at once."""
    url = f"http://127.0.0.1:{port}/generations/{path}"
    assert httpx2.put(f"{url}?prompt=x", headers=headers).status_code == status
    assert httpx2.post(f"{url}/cancel", headers=headers).status_code == status
    assert provider.requests() == []


def test_a_token_may_be_any_bytes(port: int) -> None:
    """Attack: A token of any bytes: no error."""
    with generation(port, "tea", "\xe9\x80\xff" * 1000) as stream:
        assert stream.status == 200
        assert post_cancel(port, "tea", "ada") == 404


@pytest.mark.parametrize(
    "query",
    ["", "prompt=", f"prompt={'x' * 2001}"]
    + [f"prompt=x&seconds={n}" for n in ("0", "-1", "120.1", "nan", "inf", "soon", "")],
)
def test_a_question_that_breaks_a_rule_is_refused(
    port: int, provider: scripted.Provider, query: str
) -> None:
    url = f"http://127.0.0.1:{port}/generations/tea?{query}"
    assert httpx2.put(url, headers=ADA).status_code == 422
    assert provider.requests() == []


def test_the_longest_question_is_asked(port: int) -> None:
    url = f"http://127.0.0.1:{port}/generations/tea?prompt={'x' * 2000}&seconds=0.01"
    assert httpx2.put(url, headers=ADA).status_code == 200


def test_without_a_provider_it_says_what_to_do(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    url = f"http://127.0.0.1:{port}/generations/tea?prompt=x"
    answer = httpx2.put(url, headers=ADA)
    assert answer.status_code == 503
    assert "cookbook llm" in answer.json()["detail"]


def test_a_provider_of_ones_own_needs_no_key(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with generation(port, "tea") as stream:
        assert stream.next()[0] == "start"


def test_an_id_is_nobodys_after_the_end(port: int, provider: scripted.Provider) -> None:
    provider.go(1000)
    with generation(port, "tea") as stream:
        assert [stream.next()[0] for _ in range(1002)][-1] == "done"
        # Its entry was out before its last event was: nobody has to wait for that.
        assert post_cancel(port, "tea") == 404


def test_its_page_is_there(port: int) -> None:
    answer = httpx2.get(f"http://127.0.0.1:{port}/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


# A provider is untrusted input


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake network below the SDK."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-4711")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    return below(openai, "AsyncOpenAI", monkeypatch)


def ask() -> Run:
    """Ask, and check what holds for every answer."""
    target = "/generations/tea?prompt=x"
    run = drive(llm_cancel.app, target, method="PUT", headers=ADA)
    assert (run.status, run.error) == (200, None)
    assert run.journal[-2:] == ["end", "returned"]
    assert CANARY not in run.body.decode("utf-8", "strict")
    *before, last = events(run)
    assert last[0] in {"done", "failed"}
    assert {name for name, _ in before} <= {"start", "token"}
    return run


@tries(60)
@pytest.mark.timeout(60)
@given(
    path=st.sampled_from([path for path in paths(CHUNKS) if len(path) > 1]),
    value=VALUES | st.just(...),
)
@example(path=(1, "choices", 0, "delta", "content"), value="half \ud83d")
@example(path=(3, "choices", 0, "finish_reason"), value=5)
@example(path=(1, "choices"), value=...)
@example(path=(4, "usage", "prompt_tokens"), value="many")
def test_whatever_a_chunk_holds_the_answer_ends_with_done_or_failed(
    fake: Fake, path: tuple[Any, ...], value: object
) -> None:
    fake.body = whole(*replaced(CHUNKS, path, value))
    fake.error = None
    ask()


@pytest.mark.parametrize(
    "body",
    [
        framed({"error": {"message": CANARY}}),
        framed(*CHUNKS, {"error": {"message": CANARY}}),
        framed(CANARY),
        framed(None),
        b"data: \xff" + CANARY.encode() + b"\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_an_error_is_told_in_our_words(
    fake: Fake, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fake.body = body
    name, data = events(ask())[-1]
    assert (name, data["message"]) == ("failed", "The answer broke off.")
    assert data["retryable"] == (b'"error"' in body)
    assert "The answer broke off" in caplog.text
    assert CANARY not in caplog.text
    assert "canary-4711" not in caplog.text


@pytest.mark.parametrize(("size", "end"), [(1_000_000, "done"), (1_000_001, "failed")])
def test_a_token_has_a_limit(fake: Fake, size: int, end: str) -> None:
    path = (1, "choices", 0, "delta", "content")
    fake.body = whole(*replaced(CHUNKS, path, "x" * size))
    assert events(ask())[-1][0] == end


def test_fields_that_the_bill_does_not_know_are_dropped(fake: Fake) -> None:
    chunks = copy.deepcopy(CHUNKS)
    chunks[-1]["usage"]["note"] = CANARY
    fake.body = whole(*chunks)
    name, data = events(ask())[-1]
    assert (name, data["usage"]["completion_tokens"]) == ("done", 2)


# A place in the table


def test_a_stop_that_redis_does_not_answer_is_a_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    with TestClient(llm_cancel.app, headers={"Authorization": "Bearer ada"}) as client:
        refused = client.post("/generations/tea/cancel")
    told = {"detail": "Stop does not work now. Close the stream."}
    assert (refused.status_code, refused.json()) == (503, told)


def test_a_table_without_redis_knows_only_its_own() -> None:
    async def main() -> None:
        table = Table(None)
        it = Generation("ada:tea", 60)
        assert await table.stop("ada:tea") is False
        assert await table.add(it) is True
        assert await table.add(Generation("ada:tea", 60)) is False
        assert table.running == {"ada:tea": it}
        assert await table.stop("ada:tea") is True
        assert (it.by, it.scope.cancel_called) == ("request", True)
        await table.remove(it)
        assert table.running == {}

    asyncio.run(main())


async def heard_by(clients: int, look: Redis, channel: str) -> None:
    """Wait until so many hear what is published."""
    for _ in range(int(WAIT / POLL)):
        if await look.pubsub_numsub(channel) == [(channel, clients)]:
            return
        await asyncio.sleep(POLL)
    raise AssertionError(f"not {clients} hear {channel}")


def test_tables_that_share_a_redis_find_each_others_answers() -> None:
    async def main(url: str) -> None:
        async with AsyncExitStack() as stack:
            clients = [Redis.from_url(url, decode_responses=True) for _ in range(3)]
            for client in clients:
                await stack.enter_async_context(client)
            look = clients[2]
            one, other = Table(clients[0]), Table(clients[1])
            tasks = await stack.enter_async_context(anyio.create_task_group())
            hearing = anyio.CancelScope()

            async def listen() -> None:
                with hearing:
                    await one.listen(clients[0])

            tasks.start_soon(listen)
            await heard_by(1, look, one.channel)

            it = Generation("ada:tea", 60)
            assert await other.stop("ada:tea") is False
            assert await one.add(it) is True
            assert await one.add(Generation("ada:tea", 60)) is False
            assert await other.add(Generation("ada:tea", 60)) is False
            assert (one.running, other.running) == ({"ada:tea": it}, {})
            assert await look.keys() == ["llm_cancel:ada:tea"]
            assert await look.get("llm_cancel:ada:tea") == one.channel
            assert await look.ttl("llm_cancel:ada:tea") in {129, 130}

            assert await other.stop("ada:tea") is True
            with it.scope:
                await asyncio.sleep(WAIT)
            assert it.scope.cancelled_caught
            assert it.by == "request"

            await one.remove(it)
            assert one.running == {}
            assert await look.keys() == []
            # Another worker may have an answer of this id by now.
            assert await other.add(Generation("ada:tea", 60)) is True
            await one.remove(it)
            assert await look.keys() == ["llm_cancel:ada:tea"]

            assert await one.add(Generation("ada:pot", 60)) is True
            hearing.cancel()
            await heard_by(0, look, one.channel)
            with pytest.raises(RedisError):
                await other.stop("ada:pot")

    with redis() as server:
        asyncio.run(main(server.url))


def test_an_entry_is_taken_out_while_its_request_is_being_cancelled() -> None:
    async def main(url: str) -> None:
        async with Redis.from_url(url, decode_responses=True) as client:
            table = Table(client)
            it = Generation("ada:tea", 60)
            await table.add(it)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await table.remove(it)
            assert await client.keys() == []

    with redis() as server:
        asyncio.run(main(server.url))


def test_without_its_redis_an_entry_goes_and_a_table_listens_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_cancel, "AGAIN", 0.01)

    async def main(url: str) -> None:
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
        table = Table(client)
        it = Generation("ada:tea", 60)
        table.running[it.key] = it
        with anyio.move_on_after(0.2):
            await table.listen(client)
        await table.remove(it)
        assert table.running == {}
        with pytest.raises(RedisError):
            await table.stop("ada:tea")

    asyncio.run(main(f"redis://127.0.0.1:{free_port()}/0"))
    warnings = [r for r in caplog.records if "Redis does not answer" in r.message]
    assert 2 <= len(warnings) <= 30


def test_a_log_line_is_worth_a_failure_alone(
    port: int, provider: scripted.Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with ExitStack() as stack:
        for leave in (Stream.rest, lambda stream: stream.answer.abort()):
            stream = stack.enter_context(generation(port, "tea"))
            begun(stream, provider, 0, 0) if leave is Stream.rest else stream.next()
            if leave is Stream.rest:
                assert post_cancel(port, "tea") == 204
            cast(Callable[[Stream], object], leave)(stream)
            empty()
    assert caplog.records == []
