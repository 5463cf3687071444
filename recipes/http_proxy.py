# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "httpx2>=2.16", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["upstream"]
# application = true
# ///
"""Pass on another service's response while it arrives.

Run it:   uvicorn recipes.http_proxy:app
Try it:   curl -N http://127.0.0.1:8000/shop/async/1
          curl -i http://127.0.0.1:8000/shop/async/3
          curl -i http://127.0.0.1:8000/nobody/async/1
"""

import asyncio
import os
import re
from asyncio import FIRST_COMPLETED, create_task, wait
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from ipaddress import ip_address
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import httpx2
import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

CONNECT = 5.0  # seconds until a connection to the service must be open
FIRST_BYTE = 30.0  # seconds from the end of the request to the service's headers
IDLE = 60.0  # seconds without a byte, from the client or from the service
TOTAL = 3600.0  # seconds for a whole request, and again for a whole response
UPLOAD = 100 * 1024 * 1024  # bytes that the body of a request may have


# --8<-- [start:target]
class Upstream(NamedTuple):
    """A service that clients may reach through this one."""

    variable: str  # in the environment: an address that replaces `url`
    url: str
    internal: bool  # whether it may have a private address


UPSTREAMS = {
    "shop": Upstream("SHOP_URL", "http://127.0.0.1:8002", internal=True),
    "partner": Upstream("PARTNER_URL", "https://api.example.com", internal=False),
}

# Servers disagree on what these mean: dots, an empty segment, a backslash, a percent
# sign that was encoded itself, a control character, and bytes that are no text.
UNSAFE = re.compile(r"(^|/)\.\.?(;|/|$)|^/|//|[\\%\0-\x1f\x7f\ud800-\udfff\ufffd]")


def target(request: Request, address: httpx2.URL, path: str) -> bytes:
    """Give what stands in the first line of the request: a path, and the query.

    Raises:
        HTTPException: 400, the path is not safe.
    """
    # In `path` a slash that was written as `%2f` looks like any other.
    if UNSAFE.search(path) or b"%2f" in request.scope["raw_path"].lower():
        raise HTTPException(400, "This path is not passed on.")
    encoded = quote(path, safe="/:@!$&'()*+,;=").encode()
    wanted = address.raw_path.rstrip(b"/") + b"/" + encoded
    if request.scope["query_string"]:
        wanted += b"?" + request.scope["query_string"]
    return wanted


# --8<-- [end:target]
# --8<-- [start:fields]
Fields = list[tuple[bytes, bytes]]  # header fields, as they are on the wire

REQUEST_FIELDS = b"""accept accept-encoding accept-language cache-control
    content-encoding content-language content-length content-type if-match
    if-modified-since if-none-match if-range if-unmodified-since last-event-id range
    user-agent""".split()
RESPONSE_FIELDS = b"""accept-ranges age allow cache-control content-disposition
    content-encoding content-language content-length content-range content-type etag
    expires last-modified retry-after vary x-accel-buffering""".split()
CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")  # servers refuse to send these


def passed_on(fields: Fields, allowed: list[bytes]) -> Fields:
    """Keep the fields that are allowed and not meant for one hop (RFC 9110, 7.6.1)."""
    one_hop = set()
    for field, value in fields:
        if field.lower() == b"connection":
            one_hop.update(re.split(rb"[,\s]+", value.lower()))
        elif field.lower() == b"transfer-encoding":
            one_hop.add(b"content-length")  # It no longer counts (RFC 9112, 6.3).
    kept = []
    for field, value in fields:
        name = field.lower()
        if name in allowed and name not in one_hop and not CONTROL.search(value):
            kept.append((name, value))
    return kept


# --8<-- [end:fields]
# --8<-- [start:bodies]
async def lively(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give the chunks as they come; TimeoutError after `IDLE` seconds without one."""
    while True:
        async with asyncio.timeout(IDLE):
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk


async def upload(request: Request, sent: asyncio.Event) -> AsyncIterator[bytes]:
    """Give the body of the client's request, and set `sent` after it."""
    try:
        async for chunk in lively(request.stream()):
            yield chunk
    finally:
        sent.set()


class Relay(StreamingResponse):
    """A response that breaks off when its time is over, also if nobody reads it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; raises TimeoutError after `TOTAL` seconds."""
        async with asyncio.timeout(TOTAL):
            await super().__call__(scope, receive, send)


# --8<-- [end:bodies]
# --8<-- [start:asking]
async def only_public(event: str, info: dict[str, Any]) -> None:
    """Hang up on a private address; httpx2 calls this at every step of a request."""
    if event == "connection.connect_tcp.complete":
        connection = info["return_value"]
        host = connection.get_extra_info("server_addr")[0]
        if not ip_address(host.removeprefix("::ffff:")).is_global:
            await connection.aclose()
            raise httpx2.ConnectError("This service may not have a private address.")


async def ask(
    request: Request, name: str, path: str, sent: asyncio.Event
) -> httpx2.Response:
    """Send the request on; give the response as soon as its headers are here.

    Raises:
        HTTPException: there will be no response, and the status says why.
    """
    if name not in UPSTREAMS:
        raise HTTPException(404, "There is no service of this name.")
    address = request.state.addresses[name]
    extensions: dict[str, Any] = {"target": target(request, address, path)}
    extensions["timeout"] = {"connect": CONNECT, "pool": CONNECT, "write": IDLE}
    if not UPSTREAMS[name].internal:
        extensions["trace"] = only_public
    fields = passed_on(request.headers.raw, REQUEST_FIELDS)
    fields.append((b"via", b"1.1 http_proxy"))  # A gateway must say so (RFC 9110).
    body = None
    if "content-length" in request.headers or "transfer-encoding" in request.headers:
        body = upload(request, sent)
    else:
        sent.set()
    outgoing = httpx2.Request(
        request.method, address, headers=fields, content=body, extensions=extensions
    )
    transport: httpx2.AsyncHTTPTransport = request.state.transport
    try:
        return await transport.handle_async_request(outgoing)
    except httpx2.PoolTimeout:
        raise HTTPException(503, "Too many requests are open.") from None
    except httpx2.TimeoutException:
        raise HTTPException(504, "The service did not answer in time.") from None
    except httpx2.LocalProtocolError:
        raise HTTPException(400, "The request is not valid HTTP.") from None
    except httpx2.HTTPError:
        raise HTTPException(502, "The service did not answer.") from None
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, "The request was never completed.") from None


async def no_use_to_wait(request: Request, sent: asyncio.Event) -> None:
    """Return when the client has left, or the service has had time for its headers."""
    await sent.wait()
    with suppress(TimeoutError, HTTPException):  # The body may be too large.
        async with asyncio.timeout(FIRST_BYTE):
            while (await request.receive())["type"] != "http.disconnect":
                pass


async def open_response(
    request: Request, name: str, path: str
) -> AsyncIterator[httpx2.Response]:
    """Open the service's response, and close it in any case."""
    sent = asyncio.Event()
    asking = create_task(ask(request, name, path, sent))
    waiting = create_task(no_use_to_wait(request, sent))
    try:
        await wait([asking, waiting], timeout=TOTAL, return_when=FIRST_COMPLETED)
        if not asking.done():
            raise HTTPException(504, "The service did not answer in time.")
    finally:
        waiting.cancel()
        asking.cancel()  # If it still waits, this closes the connection.
    response = asking.result()
    try:
        if response.has_redirect_location or not 200 <= response.status_code < 600:
            raise HTTPException(502, "The service's status is not passed on.")
        yield response
    finally:
        await response.aclose()


# --8<-- [end:asking]
# --8<-- [start:route]
# uvicorn closes a connection that is idle for five seconds: be earlier.
LIMITS = httpx2.Limits(max_connections=1000, keepalive_expiry=2.0)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep the connections, and the services' addresses, while the application runs."""
    addresses = {}
    for name, upstream in UPSTREAMS.items():
        address = os.environ.get(upstream.variable) or upstream.url
        addresses[name] = httpx2.URL(address)
    async with httpx2.AsyncHTTPTransport(limits=LIMITS) as transport:
        yield {"transport": transport, "addresses": addresses}


app = FastAPI(title="http_proxy", lifespan=lifespan, max_body_size=UPLOAD)


@app.exception_handler(HTTPException)
async def problem(_: Request, error: HTTPException) -> JSONResponse:
    """Say what went wrong, in the format of RFC 9457."""
    status = error.status_code
    title = HTTPStatus(status).phrase
    details = {"title": title, "status": status, "detail": error.detail}
    return JSONResponse(details, status, error.headers, "application/problem+json")


@app.get("/{name}/{path:path}")
@app.head("/{name}/{path:path}")
@app.post("/{name}/{path:path}")
@app.put("/{name}/{path:path}")
@app.patch("/{name}/{path:path}")
@app.delete("/{name}/{path:path}")
async def pass_on(
    response: Annotated[httpx2.Response, Depends(open_response)],
) -> Relay:
    """Send the service's status, the header fields that are allowed, and its bytes."""
    allowed = RESPONSE_FIELDS
    if response.status_code in (204, 304):
        allowed = [field for field in RESPONSE_FIELDS if field != b"content-length"]
    answer = Relay(lively(response.aiter_raw()), response.status_code)
    answer.raw_headers = passed_on(response.headers.raw, allowed)
    return answer


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
