"""docs/recipes/llm_gateway.md: the official client, real servers, and who leaves."""

import asyncio
import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from cookbook.llm import scripted
from tests.kit import clients, servers, sse
from tests.kit.changed import changed
from tests.kit.servers import Answer, Server, granian, hypercorn, uvicorn

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_gateway:app"
PATH = "/v1/chat/completions"
KEY = "sk-canary-4711"
MESSAGES: list[ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "Why is tea hot?"}
]
SAID = "Tea is hot because the water was."


@pytest.fixture(scope="module")
def env(provider: scripted.Provider) -> dict[str, str]:
    """The environment of a gateway that has all of the provider's models."""
    names = " ".join(f"{name}={name}" for name in provider.scenarios)
    return {
        **provider.env,
        "GATEWAY_MODELS": f"small=ok {names}",
        "GATEWAY_KEYS": f"sha256:{sha256(KEY.encode()).hexdigest()}",
    }


@pytest.fixture(scope="module")
def server(env: dict[str, str]) -> Iterator[Server]:
    with uvicorn(APP, "--timeout-graceful-shutdown", "1", env=env) as running:
        yield running


@pytest.fixture
def client(server: Server, provider: scripted.Provider) -> Iterator[openai.OpenAI]:
    """The official client; only its address and its key are ours."""
    provider.reset()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@asynccontextmanager
async def asynchronous(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official asynchronous client."""
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=KEY, max_retries=0
    ) as made:
        yield made


def used(server: Server) -> dict[str, int]:
    """Ask what the key has used."""
    headers = {"authorization": f"Bearer {KEY}"}
    return dict(httpx2.get(f"{server.url}/usage", headers=headers).json())


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    """Put the text of the first choice of each chunk together, as clients do."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


# The official client


def test_the_official_client_lists_the_models(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert models[0].model_dump() == {
        "id": "small",
        "object": "model",
        "created": 0,
        "owned_by": "llm_gateway",
    } | {name: None for name in models[0].model_dump() if name not in BASIC}


BASIC = {"id", "object", "created", "owned_by"}


def test_the_official_client_reads_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="small", messages=MESSAGES, stream=True
    )
    chunks = list(stream)
    assert text_of(chunks) == SAID
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.model for chunk in chunks} == {"ok"}


def test_the_official_client_gets_the_usage_that_it_asks_for(
    client: openai.OpenAI,
) -> None:
    stream = client.chat.completions.create(
        model="usage",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    last = list(stream)[-1]
    assert last.choices == []
    assert last.usage
    assert last.usage.total_tokens == 2005


def test_the_official_client_reads_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=MESSAGES)
    assert answer.choices[0].message.content == SAID
    assert answer.usage
    assert answer.usage.total_tokens == 20


async def everything(server: Server) -> None:
    """Do with the asynchronous client what the other tests do with the other."""
    async with asynchronous(server) as client:
        assert (await client.models.list()).data[0].id == "small"
        stream = await client.chat.completions.create(
            model="small", messages=MESSAGES, stream=True
        )
        assert text_of([chunk async for chunk in stream]) == SAID
        answer = await client.chat.completions.create(model="small", messages=MESSAGES)
        assert answer.choices[0].message.content == SAID
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="none", messages=MESSAGES)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in await client.chat.completions.create(
                model="truncated", messages=MESSAGES, stream=True
            ):
                pass


def test_the_official_asynchronous_client_does_all_of_it(server: Server) -> None:
    asyncio.run(everything(server))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("none", openai.NotFoundError, 404),
        ("rate-limited", openai.RateLimitError, 429),
        ("unauthorized", openai.InternalServerError, 503),
        ("server-error", openai.InternalServerError, 502),
    ],
)
def test_the_official_client_raises_its_own_exceptions(
    client: openai.OpenAI,
    model: str,
    error: type[openai.APIStatusError],
    status: int,
    stream: bool,
) -> None:
    with pytest.raises(error) as raised:
        client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert raised.value.status_code == status
    assert raised.value.type
    assert raised.value.message.startswith(f"Error code: {status} - ")


def test_a_wrong_key_raises_an_authentication_error(server: Server) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong") as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.models.list()
    assert raised.value.code == "invalid_api_key"
    assert "sk-wrong" not in server.output()


def test_a_path_that_is_not_there_raises_a_not_found_error(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="small", input="x")


@pytest.mark.parametrize("model", ["truncated", "truncated-at-the-end", "half-event"])
def test_a_stream_that_was_cut_raises_an_error_in_the_client(
    client: openai.OpenAI, model: str
) -> None:
    with pytest.raises(openai.APIError, match=r"The answer broke off\."):
        list(
            client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        )


def test_the_official_client_tries_again_by_itself(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        stream = client.chat.completions.create(
            model="rate-limited-once", messages=MESSAGES, stream=True
        )
        assert text_of(list(stream)) == "Tea is hot."
    assert len(provider.requests()) == 2


# Clients that leave


def post(port: int, model: str) -> Answer:
    """Ask for a stream over a socket of its own, and read the head of the answer."""
    return Answer(sent(port, model))


def sent(port: int, model: str, **more: object) -> socket.socket:
    """Send a request over a socket of its own."""
    asked = {"model": model, "messages": MESSAGES, "stream": True, **more}
    body = json.dumps(asked)
    connection = socket.create_connection((servers.HOST, port), servers.WAIT)
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    connection.sendall("\r\n".join([*lines, "", body]).encode())
    return connection


def until(answer: Answer, text: bytes) -> None:
    """Read up to a chunk that holds a text."""
    while text not in answer.chunk():
        pass


def free(server: Server) -> None:
    """Wait until no place is taken."""
    servers.until(lambda: used(server)["open"] == 0, "a free place")


def test_a_token_is_read_before_the_next_may_be_made(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    provider.go(1)
    answer = post(server.port, "gated")
    until(answer, b'"content":"Tea"')
    for number, text in enumerate([b" is", b" hot"], start=2):
        provider.go(1)
        until(answer, b'"content":"%s"' % text)
        assert provider.requests()[0].tokens_made == number
    answer.close()
    assert provider.wait(1).hung_up_after == 3
    free(server)


def test_a_hundred_resets_leave_nothing_behind(
    server: Server, provider: scripted.Provider
) -> None:
    """Attack: A hundred clients reset their connection: nothing is left."""
    provider.reset()
    for number in range(1, 101):
        answer = post(server.port, "gated")
        answer.abort()
        assert provider.wait(number).hung_up_after == 0
    free(server)
    assert "Traceback" not in server.output()
    assert "never retrieved" not in server.output()


def test_a_client_that_never_reads_and_leaves_frees_its_place(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    connection = sent(server.port, "huge-token")
    provider.wait(1, lambda request: request.tokens_made == 1)
    connection.close()
    free(server)


def test_who_leaves_before_the_providers_head_is_noticed(env: dict[str, str]) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server((servers.HOST, 0)))
        silent.settimeout(servers.WAIT)
        url = f"http://{servers.HOST}:{silent.getsockname()[1]}/v1"
        server = stack.enter_context(uvicorn(APP, env={**env, "OPENAI_BASE_URL": url}))
        for stream in (True, False):
            client = sent(server.port, "small", stream=stream)
            call, _ = silent.accept()
            call.settimeout(servers.WAIT)
            assert call.recv(65536).startswith(b"POST /v1/chat/completions")
            client.close()
            while call.recv(65536):
                pass  # Without a hang-up this would wait, and the test fail.
            call.close()
        free(server)
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("serve", [hypercorn, granian])
def test_other_servers_stop_the_provider_too(
    serve: Callable[..., AbstractContextManager[Server]],
    env: dict[str, str],
    provider: scripted.Provider,
) -> None:
    provider.reset()
    with serve(APP, env=env) as running:
        answer = post(running.port, "gated")
        answer.close()
        assert provider.wait(1).hung_up_after == 0


# The clients of the page, and its own application


@pytest.fixture(scope="module")
def answering(provider: scripted.Provider) -> Iterator[Callable[[str], Server]]:
    """Serve the recipe with a model of your choice, each server once."""
    with ExitStack() as stack:

        @cache
        def with_model(model: str) -> Server:
            env = {**provider.env, "GATEWAY_MODELS": f"small={model}"}
            return stack.enter_context(uvicorn(APP, env=env))

        yield with_model


@pytest.mark.parametrize("name", ["llm_gateway.py", "llm_gateway.mjs"])
@pytest.mark.parametrize(
    ("model", "code", "out", "err"),
    [
        ("ok", 0, f"{SAID}\nComplete.\n", ""),
        ("truncated", 1, "Tea is", "The answer broke off."),
    ],
)
def test_a_client_prints_the_answer_and_whether_it_is_complete(
    answering: Callable[[str], Server],
    tmp_path: Path,
    name: str,
    model: str,
    code: int,
    out: str,
    err: str,
) -> None:
    done = clients.run(name, answering(model).url, tmp_path)
    listed = "Models: small\n" if name.endswith(".py") else ""
    assert (done.returncode, done.stdout) == (code, listed + out)
    assert err in done.stderr


def test_the_application_of_the_page_asks_the_gateway(
    answering: Callable[[str], Server], tmp_path: Path
) -> None:
    path = clients.copied("llm_gateway_page.py", answering("ok").url, tmp_path)
    # Variables of other recipes do not lead it past the gateway.
    env = {"OPENAI_API_KEY": "other", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    with uvicorn(f"{path.stem}:app", cwd=tmp_path, env=env) as page:
        body = httpx2.get(f"{page.url}/answer?prompt=Why+is+tea+hot").content
    events = sse.parse([body]).events
    texts = [json.loads(e.data)["text"] for e in events if e.event == "token"]
    assert ("".join(texts), events[-1].event) == (SAID, "done")


def test_break_it_without_the_check_a_cut_answer_looks_complete(
    provider: scripted.Provider,
    answering: Callable[[str], Server],
    tmp_path: Path,
) -> None:
    done = clients.run("llm_gateway.py", answering("truncated").url, tmp_path)
    assert "Not complete. APIError: The answer broke off." in done.stderr
    old, new = "if notes.kind == STREAM and not notes.ended:", "if False:"
    folder = changed(tmp_path, "llm_gateway", old, new)
    env = {**provider.env, "GATEWAY_MODELS": "small=truncated"}
    with uvicorn(APP, cwd=folder, env=env) as server:
        done = clients.run("llm_gateway.py", server.url, tmp_path)
    assert (done.returncode, done.stdout) == (0, "Models: small\nTea is\nComplete.\n")


def test_the_digest_of_a_key_is_made_as_the_page_says() -> None:
    page = (servers.ROOT / "docs/recipes/llm_gateway.md").read_text("utf-8")
    found = re.search(r"`printf (\S+) \| sha256sum`", page)
    assert found
    made = subprocess.check_output(["sha256sum"], input=found[1].encode())
    assert made.split()[0].decode() == sha256(found[1].encode()).hexdigest()
