# /// script
# requires-python = ">=3.11"
# dependencies = ["aiohttp>=3.14", "fastapi>=0.165", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""Serve models under OpenAI's API, with keys and limits of your own.

Run it:   uvicorn recipes.llm_gateway:app
Try it:   curl -N http://127.0.0.1:8000/v1/chat/completions \
            -H 'Authorization: Bearer not-needed' --json '{"model": "small", \
            "stream": true, "messages": [{"role": "user", "content": "Why?"}]}'
          curl http://127.0.0.1:8000/v1/models -H 'Authorization: Bearer not-needed'
          curl http://127.0.0.1:8000/usage -H 'Authorization: Bearer not-needed'
"""

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Any

import aiohttp
import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Send

SILENCE = 60.0  # seconds that the provider may be silent
TOTAL = 600.0  # seconds for an answer
SIZE = 4_000_000  # bytes of a request, of a line, and of an answer that is no stream
STREAMS = 10  # answers at a time for one key, in this process
TOKENS = 100_000  # tokens a minute for one key, in this process
STREAM = "text/event-stream"
Pieces = AsyncGenerator[bytes, None]


# --8<-- [start:keys]
class Account(BaseModel):
    """What belongs to one key; its holder sees all but what is excluded."""

    digest: Annotated[bytes, Field(exclude=True)]  # the key itself is kept nowhere
    open: int = 0  # answers, at this moment
    tokens: int = 0  # since this process has started
    estimated: int = 0  # how many of them the provider has not counted
    paid_off: Annotated[float, Field(exclude=True)] = 0.0  # seconds, of our clock


def read_keys(own_key: str) -> Iterator[Account]:
    """Read the keys: each as it is, or as `sha256:` and its digest in hexadecimal.

    Without GATEWAY_KEYS, only the gateway's own key at the provider opens it.

    Raises:
        ValueError: a digest is not hexadecimal.
    """
    for key in (os.environ.get("GATEWAY_KEYS") or own_key).split():
        digest = sha256(key.encode()).digest()
        if key.startswith("sha256:"):
            digest = bytes.fromhex(key.removeprefix("sha256:"))
        yield Account(digest=digest)


def account_of(request: Request) -> Account:
    """Find the account of a request's key; raises HTTPException if there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    digest = sha256(key.encode("latin-1")).digest()
    # All are compared, and each takes the same time, however much of it is right.
    accounts: list[Account] = request.state.accounts
    found = [one for one in accounts if compare_digest(one.digest, digest)]
    if not found or scheme.lower() != "bearer":
        raise HTTPException(401, "This key is unknown.", {"WWW-Authenticate": "Bearer"})
    return found[0]


# --8<-- [end:keys]
# --8<-- [start:notes]
# A quote in a string of JSON has a backslash: no word of the model's looks like these.
COUNTED = re.compile(rb'"total_tokens"\s*:\s*(\d{1,8})\b')
ERROR = re.compile(rb'"error"\s*:\s*[^\sn]')
NO_CHOICE = re.compile(rb'data:[^\n]*"choices"\s*:\s*\[\s*\][^\n]*\n')


@dataclass
class Notes:
    """What is asked, and what is noted of the answer while it passes."""

    asked: dict[str, Any]
    kind: str  # of the answer: its content type
    estimated: int  # tokens: four bytes of the request make one, or a chunk
    hides_usage: bool = False  # from a client that has not asked for it
    counted: int | None = None  # tokens, by the provider
    ended: bool = False  # as it should

    def take(self, piece: bytes) -> bytes:
        """Note what is in a piece of whole lines; give what the client gets of it.

        Raises:
            ValueError: the provider reports an error.
        """
        if ERROR.search(piece):
            raise ValueError("an error of the provider's")
        self.estimated += piece.count(b'"delta"')
        for tokens in COUNTED.findall(piece):
            self.counted = int(tokens)
        self.ended = self.ended or piece.rstrip().endswith(b"[DONE]")
        if self.hides_usage:  # It comes in a chunk of its own, which has no choice.
            return NO_CHOICE.sub(b"", piece)
        return piece


def charge(account: Account, notes: Notes) -> None:
    """Write the tokens down, and how many of them are an estimate."""
    if notes.counted is None:
        notes.counted = notes.estimated
        account.estimated += notes.estimated
    account.tokens += notes.counted
    account.paid_off = max(account.paid_off, time.monotonic())
    account.paid_off += notes.counted * 60 / TOKENS


# --8<-- [end:notes]
# --8<-- [start:asking]
STATUSES = {400: 400, 401: 503, 403: 503, 404: 503, 413: 400, 422: 400, 429: 429}
BROKE_OFF = b'\ndata: {"error":{"message":"The answer broke off."}}\n\ndata: [DONE]\n\n'


def check(response: aiohttp.ClientResponse, kind: str) -> None:
    """Raise HTTPException, in words of our own, if it is not an answer."""
    # Nobody has asked for a compressed body: it may be a bomb.
    plain = "content-encoding" not in response.headers
    if response.status == 200 and response.content_type == kind and plain:
        return
    after = response.headers.get("Retry-After", "")
    headers = {"Retry-After": after} if after.isascii() and after.isdigit() else None
    message = f"The provider has answered with status {response.status}."
    raise HTTPException(STATUSES.get(response.status, 502), message, headers)


async def pieces_of(response: aiohttp.ClientResponse, kind: str) -> Pieces:
    """Give the lines of a stream, as many as have come at once; anything else whole.

    Raises:
        ValueError: a line, or the whole, is too long; or the whole is not JSON.
    """
    rest = b""
    async for chunk in response.content.iter_any():
        rest += chunk
        if kind == STREAM and b"\n" in chunk:
            whole, end, rest = rest.rpartition(b"\n")
            yield whole + end
        if len(rest) > SIZE:
            raise ValueError("too long")
    if kind != STREAM:
        json.loads(rest)
        yield rest


# --8<-- [end:asking]
# --8<-- [start:passing]
async def pass_on(request: Request, account: Account, notes: Notes) -> Pieces:
    """Ask the provider, and give what the client gets of its answer.

    Raises:
        HTTPException: before the first piece; the status says why.
    """
    if account.paid_off > time.monotonic() + 60 or account.open >= STREAMS:
        raise HTTPException(429, "Too much for this key.", {"Retry-After": "10"})
    started = False
    account.open += 1
    try:
        async with request.state.ask(json=notes.asked) as response:
            check(response, notes.kind)
            async for piece in pieces_of(response, notes.kind):
                passed = notes.take(piece)
                started = True
                yield passed
    except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
        logging.getLogger(__name__).warning("Broke off: %s", type(error))
    finally:
        account.open -= 1
        if started:
            charge(account, notes)
    if not started:
        raise HTTPException(502, "The provider did not answer.")
    if notes.kind == STREAM and not notes.ended:
        yield BROKE_OFF


class Answer(StreamingResponse):
    """Sends its head with the first piece, so that a failure before it has a status.

    Its parent, Starlette's, cancels `stream_response` when the client leaves.
    """

    async def stream_response(self, send: Send) -> None:
        """Send it; raises TimeoutError if the client does not read it in time."""
        pieces: Any = self.body_iterator
        async with asyncio.timeout(TOTAL), aclosing(pieces):
            first = await anext(pieces)
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": self.raw_headers})
            part = {"type": "http.response.body", "more_body": True}
            await send({**part, "body": first})
            async for piece in pieces:
                await send({**part, "body": piece})
        await send({"type": "http.response.body"})


# --8<-- [end:passing]
# --8<-- [start:routes]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep the connections to the provider while the application runs."""
    url = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    key = os.environ.get("OPENAI_API_KEY", "")
    names = os.environ.get("GATEWAY_MODELS") or "small=gpt-5.6-luna"
    async with aiohttp.ClientSession(
        url.rstrip("/") + "/",
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0),
        headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(TOTAL, sock_connect=5.0, sock_read=SILENCE),
    ) as session:
        models = dict(name.split("=", 1) for name in names.split())
        ask = partial(session.post, "chat/completions", allow_redirects=False)
        yield {"accounts": list(read_keys(key)), "models": models, "ask": ask}


app = FastAPI(title="llm_gateway", lifespan=lifespan, max_body_size=SIZE)
Known = Annotated[Account, Depends(account_of)]
LIVE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
MODEL = {"object": "model", "created": 0, "owned_by": "llm_gateway"}


@app.exception_handler(HTTPException)
@app.exception_handler(RequestValidationError)
async def tell(_: Request, error: Exception) -> JSONResponse:
    """Say what is wrong, in OpenAI's form; nothing of the request is repeated."""
    status = getattr(error, "status_code", 400)
    message = getattr(error, "detail", "The body is not an object in JSON.")
    kind = "server_error" if status >= 500 else "invalid_request_error"
    told = {"message": message, "type": kind, "param": None, "code": CODES.get(status)}
    return JSONResponse({"error": told}, status, getattr(error, "headers", None))


@app.get("/v1/models")
async def list_models(request: Request, _: Known) -> dict[str, Any]:
    """List the models that a client may ask for."""
    found = [{"id": name, **MODEL} for name in request.state.models]
    return {"object": "list", "data": found}


@app.post("/v1/chat/completions")
async def complete(request: Request, account: Known, asked: dict[str, Any]) -> Answer:
    """Change the model's name, and ask for the usage; pass on the rest as it is."""
    model = request.state.models.get(str(asked.get("model")))
    if model is None:
        raise HTTPException(404, "There is no such model. /v1/models lists them.")
    kind = STREAM if asked.get("stream") is True else "application/json"
    notes = Notes({**asked, "model": model}, kind, len(await request.body()) // 4)
    options = asked.get("stream_options") or {}
    if kind == STREAM and isinstance(options, dict):
        notes.hides_usage = not options.get("include_usage")
        notes.asked["stream_options"] = {**options, "include_usage": True}
    return Answer(pass_on(request, account, notes), headers=LIVE, media_type=kind)


@app.get("/usage")
async def usage(account: Known) -> Account:
    """Tell what has been used with this key."""
    return account


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
