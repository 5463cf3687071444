"""docs/recipes/llm_text.md: every claim the page makes, proved against the recipe."""

import asyncio
import inspect
import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, get_args

import httpx2
import pytest
from fastapi.testclient import TestClient
from openai import AsyncOpenAI
from openai.types import ChatModel
from openai.types.shared import chat_model

from cookbook import catalog
from cookbook.llm import scripted
from recipes import llm_openai, llm_text
from tests.kit import sse
from tests.kit.asgi import Run, drive
from tests.kit.llm import ASK, AT_ONCE, SCENARIOS, WORDS, Play, provider_with, said
from tests.kit.servers import WAIT

KEY = "sk-canary-4711"
PAGE = catalog.ROOT / "docs/recipes/llm_text.md"
ODD = SCENARIOS["odd-shapes"].raw
# Half of a surrogate pair, which JSON can hold and UTF-8 cannot.
HALF = '{"choices": [{"delta": {"content": "\\ud83d"}}]}'
# A reason of the provider's own, with what nobody but the provider may read.
CANARY = '{"error": {"message": "sk-canary-4711", "type": "sk-canary-4711"}}'
MORE = f"""
[nested]
about = "An event of many lists, each in the next"
tokens = ["Tea", " is", " hot", "."]
after = 2
nested = 100_000

[half]
about = "Half of a surrogate pair"
tokens = ["Tea", " is", " hot", "."]
after = 2
raw = ['{HALF}']

[canary]
about = "An error that quotes the key"
tokens = ["Tea", " is", " hot", "."]
after = 2
raw = ['{CANARY}']
"""


@pytest.fixture(scope="module")
def running() -> Iterator[scripted.Provider]:
    odd = "".join(
        f'[odd-{n}]\nabout = ""\ntokens = ["Tea", " is", " hot", "."]\nafter = 2\n'
        f"raw = [{json.dumps(raw)}]\n"
        for n, raw in enumerate(ODD)
    )
    with provider_with(AT_ONCE + MORE + odd, pace=0) as provider:
        yield provider


@pytest.fixture
def play(provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(llm_text.app, provider, monkeypatch)


def is_whole(run: Run) -> bool:
    """Say how the body ended: properly, or by an error that breaks the connection."""
    if run.journal[-2:] == ["end", "returned"]:
        return True
    assert run.journal[-1] == "raised BrokenOffError", run.journal
    return False


# What is sent


def test_the_answer_is_the_text_of_its_tokens_a_chunk_each(play: Play) -> None:
    run = play("ok")
    assert run.chunks == [word.encode() for word in WORDS]
    assert run.status == 200
    assert is_whole(run)


def test_the_head_says_that_it_is_text_and_that_nobody_may_hold_it(play: Play) -> None:
    headers = play("ok").headers
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-length" not in headers


def test_the_first_token_is_out_before_the_second_is_made(
    play: Play, provider: scripted.Provider
) -> None:
    provider.go(1)
    run = play("gated", disconnect_at=1)
    assert run.chunks == [b"Tea"]
    assert provider.wait(1).tokens_made == 1


@pytest.mark.parametrize(
    "scenario", ["newlines", "framing", "hostile-markdown", "emoji", "huge-token"]
)
def test_any_token_arrives_as_it_was(play: Play, scenario: str) -> None:
    assert play(scenario).chunks == [token.encode() for token in said(scenario)]


@pytest.mark.parametrize(
    "scenario", ["crlf", "crlf-split", "utf8-split", "joined-events", "slow-body"]
)
def test_how_the_provider_cuts_its_bytes_does_not_matter(
    play: Play, scenario: str
) -> None:
    assert play(scenario).chunks == [token.encode() for token in said(scenario)]


def test_what_has_no_text_makes_no_chunk(play: Play) -> None:
    assert play("null-content").chunks == [b"Tea", b" is", b" hot", b"."]
    assert play("thinking").body == b"It is hot."


def test_a_refusal_is_text_like_any_other(play: Play) -> None:
    run = play("refusal")
    assert run.body == b"I cannot help with that."
    assert is_whole(run)


def test_an_answer_has_at_most_500_tokens_and_does_not_say_that_it_was_cut(
    play: Play, provider: scripted.Provider
) -> None:
    run = play("long")
    assert run.body == b"Tea is hot. " * 125
    assert is_whole(run)
    assert provider.wait(1).tokens_made == llm_text.LIMIT == 500


# What the text cannot say: the table of the page


def rows() -> list[list[str]]:
    """Read the table of the page, row by row, without the marks of code."""
    table = PAGE.read_text("utf-8").partition("| the provider … |")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1])
def test_the_reader_sees_what_the_table_says(
    row: list[str], play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, status, seen, error, events = row
    if model.startswith(("stall", "no-head")):
        # The provider's head, where one comes, has this time too.
        for recipe in (llm_text, llm_openai):
            monkeypatch.setattr(recipe, "SILENCE", 2.0)
    run = play(model)
    assert str(run.status) == status
    complete = "".join(said(model)).encode()
    match seen:
        case "the answer" | "the refusal":
            assert run.body == complete
        case "its first 500 tokens":
            assert run.body == complete[: len(run.body)]
            assert 0 < len(run.body) < len(complete)
        case "two tokens" | "one token":
            assert run.body == b"Tea is"[: None if seen == "two tokens" else 3]
        case "two tokens at most":
            assert b"Tea is".startswith(run.body)
        case "nothing":
            assert run.body == b""
        case _:
            assert json.loads(run.body) == {"detail": seen}
    assert error == ("no" if is_whole(run) else "yes")
    # The sibling says more.
    told = drive(llm_openai.app, ASK)
    if told.status != 200:
        assert events == f"{told.status}"
        return
    last = sse.parse(told.chunks).events[-1]
    reason = json.loads(last.data).get("finish_reason")
    kind = json.loads(last.data).get("type")
    told_in_short, _, _ = events.replace("`", "").partition(":")
    assert told_in_short == f"{last.event}, {reason or kind}"


def test_the_table_has_every_way_to_end_of_the_provider_that_a_text_can_show() -> None:
    shown = {row[1] for row in rows()}
    faults = {name for name, s in SCENARIOS.items() if s.fault}
    # These two end like those; the last two are for a reader with much memory.
    alike = {"truncated-at-the-end", "half-event", "endless-line", "gzip-bomb"}
    assert faults - alike <= shown


def test_a_failure_is_not_tried_again(play: Play, provider: scripted.Provider) -> None:
    play("overloaded-midstream")
    assert len(provider.requests()) == 1


def test_the_usage_is_not_asked_for(play: Play) -> None:
    # With usage asked for, the last chunk has no choice; without, each has one.
    assert play("usage").body == b"Four orders are open."
    assert "include_usage" not in inspect.getsource(llm_text)


# A provider is untrusted input


@pytest.mark.parametrize("number", range(len(ODD)), ids=lambda number: ODD[number])
def test_an_event_of_any_shape_is_passed_over_or_breaks_the_answer_off(
    number: int, play: Play
) -> None:
    run = play(f"odd-{number}")
    assert run.status == 200
    if is_whole(run):
        assert run.body in (b"Tea is hot.", b"Tea isNo hot.")
    else:
        assert run.body == b"Tea is"


@pytest.mark.parametrize(
    "raw",
    ["null", "7", '{"choices": 7}', '{"choices": [null]}', '{"error": 7}', "Tea"],
)
def test_what_is_no_chunk_breaks_the_answer_off(raw: str, play: Play) -> None:
    assert not is_whole(play(f"odd-{ODD.index(raw)}"))


@pytest.mark.parametrize("scenario", ["nested", "half"])
def test_what_cannot_be_read_or_written_breaks_the_answer_off(
    scenario: str, play: Play
) -> None:
    run = play(scenario)
    assert (run.body, is_whole(run)) == (b"Tea is", False)


def test_neither_the_key_nor_the_providers_words_reach_client_or_log(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: The provider's errors: no word of them, and no key, gets out."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for scenario in ("ok", "canary", "unauthorized", "server-error", "reset"):
        run = play(scenario)
        # What uvicorn logs is the traceback.
        logged = caplog.text + "".join(traceback.format_exception(run.error))
        assert KEY not in run.body.decode() + str(run.headers) + logged
        assert SCENARIOS.get(scenario, SCENARIOS["ok"]).about not in logged
    assert "No answer: <class 'openai.AuthenticationError'>" in caplog.text


def test_the_log_says_why_an_answer_broke_off(play: Play) -> None:
    reasons = {
        "overloaded-midstream": "<class 'openai.APIError'>",
        "reset": "<class 'openai.APIConnectionError'>",
        "truncated": "There is no finish_reason.",
        "half": "<class 'UnicodeEncodeError'>",
    }
    for scenario, reason in reasons.items():
        assert str(play(scenario).error) == reason


# Refused before the first byte


@pytest.mark.parametrize(
    "scenario", ["unauthorized", "rate-limited", "server-error", "overloaded"]
)
def test_what_the_provider_refuses_is_a_502_and_is_asked_once(
    play: Play, provider: scripted.Provider, scenario: str
) -> None:
    run = play(scenario)
    sentence = "The provider did not answer."
    assert (run.status, json.loads(run.body)) == (502, {"detail": sentence})
    assert len(provider.requests()) == 1


def test_a_provider_that_is_not_there_is_a_502(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    assert play("ok").status == 502


def test_a_provider_that_sends_no_head_is_a_502_after_the_silence(
    play: Play, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_text, "SILENCE", 2.0)
    assert play("no-head").status == 502
    assert provider.wait(1).hung_up_after == 0


@contextmanager
def dripping() -> Iterator[str]:
    """Serve a response whose head never ends, a header field every now and then."""
    stopped = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stopped.wait(0.01):
                connection.sendall(b"X-More: to come\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        stopped.set()
        thread.join(WAIT)


def test_a_head_that_drips_is_a_502_after_the_silence(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_text, "SILENCE", 0.2)
    with dripping() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert play("ok").status == 502


@pytest.mark.parametrize("prompt", ["", "x" * 2001])
def test_a_bad_prompt_is_refused_and_costs_nothing(
    prompt: str, provider: scripted.Provider
) -> None:
    with TestClient(llm_text.app) as client:
        assert client.get("/answer", params={"prompt": prompt}).status_code == 422
        assert client.get("/answer").status_code == 422
        assert provider.requests() == []
        assert client.get("/answer", params={"prompt": "?"}).status_code == 200
        assert client.get("/answer", params={"prompt": "x" * 2000}).status_code == 200
    assert len(provider.requests()) == 2


@pytest.mark.parametrize(
    "raw", ["%00", "%ff%fe", "%ed%a0%bd", "%F0%9F%8D%B5", "[" * 99]
)
def test_any_bytes_are_a_prompt(raw: str, provider: scripted.Provider) -> None:
    run = drive(llm_text.app, f"/answer?prompt={raw}")
    assert (run.status, run.body) == (200, "".join(WORDS).encode())
    assert len(provider.requests()) == 1


# Configuration


def test_without_a_key_or_a_provider_it_says_what_to_do(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    run = drive(llm_text.app, ASK)
    sentence = "No model: run `cookbook llm` and type its exports."
    assert (run.status, json.loads(run.body)) == (503, {"detail": sentence})
    assert provider.requests() == []


def test_a_provider_of_your_own_needs_no_key(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert play("ok").body == "".join(WORDS).encode()


def test_with_a_key_it_asks_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked: list[httpx2.Request] = []

    def client(**options: Any) -> AsyncOpenAI:  # noqa: ANN401 - they are the SDK's
        def answer(request: httpx2.Request) -> httpx2.Response:
            asked.append(request)
            return httpx2.Response(503)

        mock = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        return AsyncOpenAI(http_client=mock, **options)

    monkeypatch.setattr(llm_text, "AsyncOpenAI", client)
    assert drive(llm_text.app, ASK).status == 502
    (request,) = asked
    assert str(request.url) == "https://api.openai.com/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {
        "model": llm_text.DEFAULT_MODEL,
        "messages": [{"role": "user", "content": "Why is tea hot"}],
        "max_completion_tokens": 500,
        "stream": True,
    }


def test_the_model_is_the_one_in_the_environment_or_the_one_named_in_the_recipe(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(llm_text.app, ASK)
    monkeypatch.setenv("OPENAI_MODEL", "usage")
    drive(llm_text.app, ASK)
    models = [request.model for request in provider.requests()]
    assert models == [llm_text.DEFAULT_MODEL, "usage"]


def test_the_sdk_knows_the_model_and_does_not_call_it_deprecated() -> None:
    known, _, deprecated = inspect.getsource(chat_model).partition("Deprecated")
    assert llm_text.DEFAULT_MODEL in get_args(ChatModel)
    assert f'"{llm_text.DEFAULT_MODEL}"' in known
    assert f'"{llm_text.DEFAULT_MODEL}"' not in deprecated


def test_all_requests_share_one_client(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AsyncOpenAI] = []

    def client(**options: Any) -> AsyncOpenAI:  # noqa: ANN401 - they are the SDK's
        made.append(AsyncOpenAI(**options))
        return made[-1]

    monkeypatch.setattr(llm_text, "AsyncOpenAI", client)
    with TestClient(llm_text.app) as asking:
        for _ in range(3):
            asking.get(ASK)
        assert not made[0].is_closed()
    assert len(provider.requests()) == 3
    assert [one.is_closed() for one in made] == [True]


def test_the_description_says_that_it_is_text() -> None:
    operation = llm_text.app.openapi()["paths"]["/answer"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["text/plain"]


def test_the_page_names_the_numbers_of_the_recipe() -> None:
    page = PAGE.read_text("utf-8")
    assert f"`{llm_text.DEFAULT_MODEL}`" in page
    assert f"{llm_text.SILENCE:g} seconds" in page
    assert f"{llm_text.LIMIT} tokens" in page


# The client leaves


@pytest.mark.usefixtures("noted_close")
@pytest.mark.parametrize("slow", [False, True], ids=["", "while it is slow"])
@pytest.mark.parametrize("by", ["the client leaves", "the server stops"])
def test_the_providers_stream_is_closed_before_the_request_is_over(
    play: Play, provider: scripted.Provider, by: str, slow: bool
) -> None:
    scenario, made, stall_at = ("at-once", 19, 3) if slow else ("gated", 3, None)
    provider.go(made)
    if by == "the client leaves":
        run = play(scenario, stall_at=stall_at, disconnect_at=3)
    else:
        run = play(scenario, stall_at=stall_at, cancel_at=3)
    assert "closed" in run.before(run.journal[-1])
    assert provider.wait(1).hung_up_after == made
    assert isinstance(run.error, asyncio.CancelledError | None)


def test_a_client_that_leaves_is_no_error(
    play: Play, provider: scripted.Provider
) -> None:
    provider.go(2)
    run = play("gated", disconnect_at=2)
    assert run.error is None
    assert run.journal[-1] == "returned"


def test_a_client_that_leaves_before_the_providers_head_is_not_noticed(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_text, "SILENCE", 1.0)
    monkeypatch.setenv("OPENAI_MODEL", "no-head")
    ended: list[str | None] = []

    def leave() -> None:
        provider.wait(1, until=lambda request: request.id == 1)
        ended.append(provider.requests()[0].ended)

    run = drive(llm_text.app, ASK, leave_after=leave)
    assert ended == [None]
    assert run.journal[:1] == ["disconnect"]
    # The silence ends it.
    assert provider.wait(1).ended == scripted.LEFT
