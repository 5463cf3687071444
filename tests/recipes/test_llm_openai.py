"""docs/recipes/llm_openai.md: every claim the page makes, proved against the recipe."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

import fastapi.sse
import httpx2
import openai
import pytest
from fastapi.testclient import TestClient
from openai.types import ChatModel
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta
from pydantic import BaseModel

from cookbook import catalog
from cookbook.llm import scripted
from recipes import llm_openai
from recipes.llm_openai import Done, Failed, Start, Token
from tests.kit import sse
from tests.kit.asgi import Run, drive, note

ASK = "/answer?prompt=Why+is+tea+hot"
WORDS = ["Tea", " is", " hot", " because", " the", " water", " was", "."]
MODELS: dict[str, type[BaseModel]] = {
    "start": Start,
    "token": Token,
    "done": Done,
    "failed": Failed,
}
KEY = "sk-canary-4711"
# Twenty events come in one chunk: who reads them stands at a `yield`, not an `await`.
AT_ONCE = """
[at-once]
about = "Nineteen tokens at once, and more only when they are asked for"
tokens = ["Tea "]
repeat = 1000
gate = true
join = 20
"""
LAST = (
    "yield Done(finish_reason=finish_reason, usage=usage) if finish_reason else failed"
)


# --8<-- [start:client]
def ask(client: httpx2.Client, prompt: str) -> Iterator[str]:
    """Give the answer as it is written; RuntimeError if it does not come to its end."""
    with client.sse("/answer", params={"prompt": prompt}) as events:
        events.response.raise_for_status()
        for event in events:
            data = json.loads(event.data)
            match event.event:
                case "token":
                    yield data["text"]
                case "failed":
                    raise RuntimeError(data["message"])
                case "done":
                    return
    raise RuntimeError("The connection broke off.")


# --8<-- [end:client]
@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scripted.Provider]:
    scenarios = tmp_path_factory.mktemp("llm") / "scenarios.toml"
    scenarios.write_text(scripted.SCENARIOS.read_text("utf-8") + AT_ONCE, "utf-8")
    with scripted.running(scenarios, pace=0) as provider:
        yield provider


@pytest.fixture
def provider(
    running: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> scripted.Provider:
    """Lead the SDK to the scripted provider; between its attempts it does not wait."""
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    monkeypatch.setattr(
        openai.AsyncOpenAI, "_calculate_retry_timeout", lambda *_, **__: 0
    )
    running.reset()
    return running


@pytest.fixture
def play(provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch) -> "Play":
    return Play(provider, monkeypatch)


class Play:
    """Ask the recipe while the provider plays a scenario."""

    def __init__(
        self, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.provider, self.monkeypatch = provider, monkeypatch

    def __call__(
        self,
        scenario: str,
        *,
        stall_at: int | None = None,
        disconnect_at: int | None = None,
        cancel_at: int | None = None,
        module: ModuleType = llm_openai,
    ) -> Run:
        """Run one request for an answer."""
        self.monkeypatch.setenv("OPENAI_MODEL", scenario)
        return drive(
            module.app,
            ASK,
            stall_at=stall_at,
            disconnect_at=disconnect_at,
            cancel_at=cancel_at,
        )


def events(run: Run) -> list[sse.Event]:
    return sse.parse(run.chunks).events


def texts(run: Run) -> list[str]:
    return [json.loads(e.data)["text"] for e in events(run) if e.event == "token"]


def last(run: Run) -> tuple[str, object]:
    """Give the last event, which must be the only one of its kind."""
    *before, end = events(run)
    assert not {"done", "failed"} & {event.event for event in before}
    return end.event, json.loads(end.data)


def said(scenario: str) -> list[str]:
    """Say what the script has, read without the provider."""
    return [token.text for token in scripted.load()[scenario].said()]


# The four events


def test_an_answer_is_a_start_its_tokens_and_done(play: Play) -> None:
    run = play("ok")
    names = [event.event for event in events(run)]
    assert names == ["start", *["token"] * len(WORDS), "done"]
    assert texts(run) == WORDS


def test_each_event_is_one_of_the_four_models(play: Play) -> None:
    for scenario in ("ok", "truncated"):
        for event in events(play(scenario)):
            model = MODELS[event.event].model_validate_json(event.data, strict=True)
            assert json.loads(event.data) == model.model_dump()


def test_these_are_the_bytes_of_the_start_and_of_a_token(play: Play) -> None:
    assert play("ok").chunks[:2] == [
        b'event: start\ndata: {"id":"chatcmpl-1","model":"ok"}\n\n',
        b'event: token\ndata: {"text":"Tea"}\n\n',
    ]


def test_done_has_the_reason_and_the_bill(play: Play) -> None:
    name, data = last(play("usage"))
    done = Done.model_validate(data)
    assert (name, done.finish_reason) == ("done", "stop")
    assert done.usage
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (2000, 5)
    assert done.usage.prompt_tokens_details
    assert done.usage.prompt_tokens_details.cached_tokens == 1536


def test_it_is_an_event_stream_that_a_proxy_must_not_hold(play: Play) -> None:
    headers = play("ok").headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


def test_the_first_token_is_out_before_the_second_is_made(
    play: Play, provider: scripted.Provider
) -> None:
    provider.go(1)
    run = play("gated", disconnect_at=2)
    assert texts(run) == ["Tea"]
    assert provider.wait(1).tokens_made == 1


# What tokens may be


@pytest.mark.parametrize(
    "scenario", ["newlines", "framing", "hostile-markdown", "emoji", "huge-token"]
)
def test_any_token_arrives_as_it_was_and_forges_nothing(
    play: Play, scenario: str
) -> None:
    run = play(scenario)
    assert texts(run) == said(scenario)
    assert {event.event for event in events(run)} == {"start", "token", "done"}
    assert all(chunk.count(b"\n\n") == 1 for chunk in run.chunks)


@pytest.mark.parametrize(
    "scenario", ["crlf", "crlf-split", "utf8-split", "joined-events", "slow-body"]
)
def test_how_the_provider_cuts_its_bytes_does_not_matter(
    play: Play, scenario: str
) -> None:
    assert texts(play(scenario)) == said(scenario)


def test_content_that_is_none_makes_no_event(play: Play) -> None:
    assert texts(play("null-content")) == ["Tea", " is", " hot", "."]


def test_a_refusal_is_an_answer_too(play: Play) -> None:
    run = play("refusal")
    assert "".join(texts(run)) == "I cannot help with that."
    assert last(run)[0] == "done"


# What goes wrong

CUT = ("truncated", "truncated-at-the-end", "half-event")
BROKEN = ("overloaded-midstream", "reset", "stall-before-first", "stall-after-first")


@pytest.mark.parametrize("scenario", CUT + BROKEN)
def test_an_answer_that_broke_off_ends_with_failed_and_never_with_done(
    play: Play, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_openai, "SILENCE", 0.2)
    run = play(scenario)
    failed = Failed(
        type="truncated" if scenario in CUT else "provider",
        message="The answer broke off.",
        retryable=True,
    )
    assert last(run) == ("failed", failed.model_dump())
    # A reset may overtake what the provider had sent before it.
    complete = scripted.load()[scenario].after if scenario != "reset" else 0
    assert texts(run)[:complete] == said(scenario)[:complete]
    assert run.journal[-2:] == ["end", "returned"]


@pytest.mark.parametrize("chunk", [None, [], {"choices": None}, ValueError("no JSON")])
def test_whatever_a_provider_may_send_the_last_event_tells_of_it(
    chunk: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def odd() -> AsyncIterator[object]:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk

    async def collect() -> list[object]:
        return [event async for event in llm_openai.answer(cast(Any, odd()))]

    (failed,) = asyncio.run(collect())
    assert isinstance(failed, Failed)
    assert failed.type == "provider"
    # The error is named, but what it says is the provider's, and may be anything.
    assert "The answer broke off: " in caplog.text
    assert "no JSON" not in caplog.text + failed.message


@pytest.mark.parametrize(
    ("scenario", "attempts"),
    [("unauthorized", 1), ("rate-limited", 3), ("server-error", 3), ("overloaded", 3)],
)
def test_what_fails_before_the_first_byte_is_a_502(
    play: Play, provider: scripted.Provider, scenario: str, attempts: int
) -> None:
    run = play(scenario)
    assert run.status == 502
    assert json.loads(run.body) == {"detail": "The provider did not answer."}
    # The SDK tries again by itself, though only as long as nothing has come.
    assert len(provider.requests()) == attempts


def test_the_sdk_hides_a_rate_limit_that_passes(
    play: Play, provider: scripted.Provider
) -> None:
    assert last(play("rate-limited-once"))[0] == "done"
    assert len(provider.requests()) == 2


def test_a_failure_in_mid_stream_is_not_tried_again(
    play: Play, provider: scripted.Provider
) -> None:
    play("overloaded-midstream")
    assert len(provider.requests()) == 1


@pytest.mark.parametrize("prompt", ["", "x" * 2001])
def test_a_bad_prompt_is_refused_and_costs_nothing(
    prompt: str, provider: scripted.Provider
) -> None:
    with TestClient(llm_openai.app) as client:
        assert client.get("/answer", params={"prompt": prompt}).status_code == 422
        assert client.get("/answer").status_code == 422
    assert provider.requests() == []


def test_an_answer_that_met_its_limit_is_done_and_says_so() -> None:
    async def chunks() -> AsyncIterator[ChatCompletionChunk]:
        choice = Choice(delta=ChoiceDelta(), finish_reason="length", index=0)
        yield ChatCompletionChunk(
            id="1",
            choices=[choice],
            created=0,
            model="any",
            object="chat.completion.chunk",
        )

    async def collect() -> list[object]:
        return [event async for event in llm_openai.answer(cast(Any, chunks()))]

    start, done = asyncio.run(collect())
    assert start == Start(id="1", model="any")
    assert done == Done(finish_reason="length", usage=None)


# Configuration


def test_without_a_key_or_a_provider_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    run = drive(llm_openai.app, ASK)
    sentence = "No model: run `cookbook llm`, or set OPENAI_API_KEY."
    assert (run.status, json.loads(run.body)) == (503, {"detail": sentence})


def test_a_provider_of_your_own_needs_no_key(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert texts(play("ok")) == WORDS


def test_the_model_is_the_one_in_the_environment_or_the_first_that_the_sdk_knows(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(llm_openai.app, ASK)
    monkeypatch.setenv("OPENAI_MODEL", "usage")
    drive(llm_openai.app, ASK)
    models = [request.model for request in provider.requests()]
    assert models == [get_args(ChatModel)[0], "usage"]


def test_the_key_is_in_no_response_and_in_no_log(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for scenario in ("ok", "unauthorized", "server-error", "reset", "truncated"):
        run = play(scenario)
        assert KEY not in run.body.decode() + str(run.headers)
    assert "The answer broke off: " in caplog.text
    assert KEY not in caplog.text


# The client leaves


@pytest.fixture
def noted_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note when the provider's response is closed, whoever does it."""
    close = httpx2.Response.aclose

    async def noted(response: httpx2.Response) -> None:
        await close(response)
        note("closed")

    monkeypatch.setattr(httpx2.Response, "aclose", noted)


@pytest.mark.usefixtures("noted_close")
@pytest.mark.parametrize("slow", [False, True], ids=["", "while it is slow"])
@pytest.mark.parametrize("by", ["the client leaves", "the server stops"])
def test_the_providers_stream_is_closed_before_the_request_is_over(
    play: Play, provider: scripted.Provider, by: str, slow: bool
) -> None:
    scenario, made, stall_at = ("at-once", 19, 4) if slow else ("gated", 3, None)
    provider.go(made)
    if by == "the client leaves":
        run = play(scenario, stall_at=stall_at, disconnect_at=4)
    else:
        run = play(scenario, stall_at=stall_at, cancel_at=4)
    assert "closed" in run.before(run.journal[-1])
    assert provider.wait(1).hung_up_after == made


def test_break_it_an_answer_that_is_always_done_is_done_when_it_is_cut(
    play: Play,
) -> None:
    source = Path(llm_openai.__file__).read_text("utf-8")
    assert source.count(LAST) == 1
    always = 'yield Done(finish_reason=finish_reason or "stop", usage=usage)'
    broken = ModuleType("broken")
    exec(source.replace(LAST, always), vars(broken))  # noqa: S102 - that is the page's task
    run = play("truncated", module=broken)
    assert texts(run) == ["Tea", " is"]
    assert last(run) == ("done", {"finish_reason": "stop", "usage": None})


def test_one_client_keeps_its_connection_for_the_next_answer(
    provider: scripted.Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with TestClient(llm_openai.app) as client:
        assert [client.get(ASK).status_code for _ in range(3)] == [200] * 3
    assert len(provider.requests()) == 3
    connects = [m for m in caplog.messages if m.startswith("connect_tcp.complete")]
    assert len(connects) == 1


# What it costs


def test_the_bench_on_the_page_has_met_its_targets() -> None:
    file = catalog.ROOT / "docs/benchmarks/llm_openai.json"
    targets = json.loads(file.read_text("utf-8"))["targets"]
    measured = [target["measured"] for target in targets]
    assert all(target["met"] for target in targets)
    added, p50, p99, chats, hangs_up = measured
    assert added < 1000
    assert p50 < p99 < 5
    assert chats > 30
    assert hangs_up < 10


# The client on the page


def test_httpx2_gives_up_before_fastapi_pings() -> None:
    with httpx2.Client() as client:
        silence = client.timeout.read
    assert silence is not None
    assert silence < fastapi.sse._PING_INTERVAL < llm_openai.SILENCE


@pytest.mark.usefixtures("provider")
def test_the_python_client_gives_the_whole_answer() -> None:
    with TestClient(llm_openai.app) as client:
        assert list(ask(client, "Why is tea hot")) == WORDS


def test_the_python_client_raises_if_the_answer_is_not_whole(play: Play) -> None:
    play.monkeypatch.setenv("OPENAI_MODEL", "truncated")
    with TestClient(llm_openai.app) as client:
        answer = ask(client, "Why is tea hot")
        assert [next(answer), next(answer)] == ["Tea", " is"]
        with pytest.raises(RuntimeError, match="broke off"):
            next(answer)


def test_the_python_client_raises_if_the_answer_does_not_begin(play: Play) -> None:
    play.monkeypatch.setenv("OPENAI_MODEL", "unauthorized")
    with (
        TestClient(llm_openai.app) as client,
        pytest.raises(httpx2.HTTPStatusError, match="502"),
    ):
        next(ask(client, "Why is tea hot"))


def test_the_python_client_raises_if_the_connection_ends_too_soon() -> None:
    kind = {"content-type": "text/event-stream"}
    answer = httpx2.Response(200, headers=kind, content=b": ping\n\n")
    transport = httpx2.MockTransport(lambda _: answer)
    with (
        httpx2.Client(transport=transport, base_url="http://127.0.0.1") as client,
        pytest.raises(RuntimeError, match="connection"),
    ):
        list(ask(client, "Why is tea hot"))
