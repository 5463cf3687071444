"""The recipe and the plain one, asked alike: one GET starts an answer and reads it."""

import itertools
import os
import tempfile
from pathlib import Path
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.versions.llm_openai import PROVIDER, with_provider
from recipes import llm_durable, llm_openai

PROVIDER[-1] = "benchmarks.versions.llm_durable_provider:app"
numbers = itertools.count(1)


def in_one_request(app: ASGIApp) -> ASGIApp:
    """Start an answer under a key of its own, and read its events at once."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with tempfile.TemporaryDirectory() as folder:
                if not os.environ.get("DATABASE_URL"):
                    file = Path(folder) / "answers.sqlite"
                    os.environ["DATABASE_URL"] = f"sqlite:///{file}"
                await app(scope, receive, send)
            return
        key = f"{os.getpid()}-{next(numbers)}"
        prompt = parse_qs(scope["query_string"].decode())["prompt"][0]
        await llm_durable.start(prompt, key)
        path = f"/answers/{key}/events"
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return asked


recipe_app = with_provider(in_one_request(llm_durable.app))
plain_app = with_provider(llm_openai.app)
