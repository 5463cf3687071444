"""Serve the recipes of language models to tests and to the clients of their pages."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache

import httpx2

from cookbook.llm import local
from tests.kit import sse
from tests.kit.llm import ASK
from tests.kit.servers import HOST, POLL, WAIT, Answer, Server, raw_get, uvicorn

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
)
GOOD = b"""event: start
data: {"id":"1","model":"m"}

: ping

event: token
data: {"text":"T\xc3\xa9a \xf0\x9f\xab\x96"}

event: done
data: {"finish_reason":"stop","usage":null}

"""


@contextmanager
def by_model(
    app: str, env: Mapping[str, str], variable: str = "OPENAI_MODEL"
) -> Iterator[Callable[[str], Server]]:
    """Serve a recipe with a model of your choice, each server once."""
    with ExitStack() as stack:

        @cache
        def with_model(model: str) -> Server:
            return stack.enter_context(uvicorn(app, env={**env, variable: model}))

        yield with_model


def event(answer: Answer) -> tuple[str, dict[str, object]]:
    """Read one chunk, which must be one event."""
    (found,) = sse.parse([answer.chunk()]).events
    return found.event, json.loads(found.data)


def ask(server: Server, path: str = ASK) -> tuple[str, list[sse.Event]]:
    """Ask for a whole answer: its text and its events."""
    with raw_get(server.port, path) as answer:
        events = sse.parse([answer.rest()]).events
    tokens = [json.loads(e.data)["text"] for e in events if e.event == "token"]
    return "".join(tokens), events


@contextmanager
def saying(head: bytes, *pieces: bytes) -> Iterator[str]:
    """Serve one answer, a piece a write, and then close the connection."""

    def serve_one() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            for piece in (head, *pieces):
                connection.sendall(piece)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        yield f"http://{HOST}:{listener.getsockname()[1]}"
        thread.join(WAIT)


def printed(text: str) -> str:
    """Give text as `subprocess` does, which reads every line end as a line feed."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def predicted(model: local.Local) -> int:
    """Wait until nobody is answered; tell how many tokens were made in all."""
    with httpx2.Client(base_url=model.url) as client:
        while any(slot["is_processing"] for slot in client.get("/slots").json()):
            time.sleep(POLL)
        metrics = client.get("/metrics").text
    return int(re.findall(r"^llamacpp:tokens_predicted_total (\d+)", metrics, re.M)[0])
