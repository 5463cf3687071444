"""What the scripted provider tells of the requests that it got."""

import http.client
import re
from contextlib import suppress

import anthropic
import pytest

from cookbook.llm import record as kept_record
from cookbook.llm import scripted
from cookbook.llm.scripted import Provider
from tests.llm.asking import (
    ASK_CLAUDE,
    CANARY,
    call,
    chunks,
    claude,
    gpt,
    has_made,
    raw,
    said,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the asynchronous tests on asyncio alone."""
    return "asyncio"


def test_the_record_can_be_read_and_reset_over_http(provider: Provider) -> None:
    for _ in range(2):
        with raw(provider, "ok") as answer:
            answer.rest()
    status, told = call(provider, "GET", "/scripted/requests")
    assert status == 200
    assert told[1] == {
        "id": 2,
        "path": "/v1/chat/completions",
        "scenario": "ok",
        "model": "ok",
        "stream": True,
        "has_key": False,
        "tokens_made": len(said("ok")),
        "hung_up_after": None,
        "finished": True,
        "ended": "complete",
    }
    assert call(provider, "DELETE", "/scripted/requests") == (200, [])
    assert call(provider, "GET", "/scripted/requests") == (200, [])
    with raw(provider, "ok") as answer:
        assert b'"chatcmpl-1"' in answer.rest()


def record(provider: Provider) -> str:
    """Read the record as people do, over HTTP."""
    client = http.client.HTTPConnection(provider.url[7:], timeout=scripted.WAIT)
    client.request("GET", "/scripted/record")
    response = client.getresponse()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    try:
        return response.read().decode()
    finally:
        client.close()


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("ok", "complete"),
        ("unauthorized", "refused with status 401"),
        ("overloaded-midstream", "broken off: error"),
        ("truncated", "broken off: truncate"),
        ("half-event", "broken off: half-event"),
        ("reset", "broken off: reset"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_record_says_how_an_answer_ended(
    provider: Provider, name: str, ended: str, stream: bool
) -> None:
    with suppress(EOFError, ConnectionResetError), raw(provider, name, stream=stream):
        assert provider.wait(1).ended == ended
    row = re.split("  +", record(provider).splitlines()[1])
    assert (row[1], row[-2]) == (ended, "yes" if stream else "no")


def test_the_record_is_a_table_that_also_shows_who_left_and_who_is_still_there(
    provider: Provider,
) -> None:
    assert record(provider).split() == [
        *("request", "ended", "tokens", "model", "scenario", "stream", "path")
    ]
    with raw(provider, "gated") as answer:
        answer.chunk()
    provider.wait(1)
    with raw(provider, "tea\x1b[31m\n" + "x" * 80) as answer:
        answer.rest()
    provider.wait(2)
    with raw(provider, "stall-after-first"):
        provider.wait(3, has_made(1))
        rows = record(provider).splitlines()
    path = "/v1/chat/completions"
    assert [re.split("  +", row) for row in rows[1:]] == [
        ["1", "closed by the client", "0", "gated", "gated", "yes", path],
        ["2", "complete", "8", "tea�[31m�" + "x" * 31, "ok", "yes", path],
        ["3", "still open", "1", *["stall-after-first"] * 2, "yes", path],
    ]
    assert len({row.index("yes") for row in rows[1:]}) == 1


async def test_a_key_is_noticed_but_kept_nowhere(
    provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    async with gpt(provider) as client, claude(provider) as other:
        got = str(await chunks(client, "ok"))
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await other.messages.create(
                model="unauthorized", messages=ASK_CLAUDE, max_tokens=10
            )
    got += str(caught.value) + str(caught.value.response.headers)
    with raw(provider, "ok") as answer:
        answer.rest()
    told = str(call(provider, "GET", f"/scripted/requests?key={CANARY}"))
    call(provider, "POST", f"/v1/messages?key={CANARY}", **{"x-api-key": CANARY})
    assert [request.has_key for request in provider.requests()] == [True, True, False]
    kept = f"{vars(provider)}{provider.requests()}"
    assert CANARY not in got + told + kept + "".join(capfd.readouterr())


def test_a_wait_that_is_in_vain_says_what_came_instead(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_record, "WAIT", 0.01)
    with pytest.raises(TimeoutError, match=r"request 1 to be over.* came: \[\]"):
        provider.wait(1)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", "{}", "model: Field required"),
        ("/v1/chat/completions", '{"model": "ok"}', "messages: Field required"),
        ("/v1/responses", '{"model": "ok"}', "input: Field required"),
        ("/v1/messages", '{"model": "ok", "messages": []}', "max_tokens: Field req"),
        ("/v1/responses", "tea", "Invalid JSON"),
        ("/scripted/go", '{"tokens": 0}', "tokens: Input should be greater"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    provider: Provider, path: str, body: str, message: str
) -> None:
    status, told = call(provider, "POST", path, body)
    assert status == 400
    assert message in told["error"]["message"]
    assert provider.requests() == []


def test_an_unknown_path_is_not_found(provider: Provider) -> None:
    assert call(provider, "GET", "/v1/chat/completions")[0] == 404
    assert call(provider, "POST", "/v2/messages")[0] == 404
