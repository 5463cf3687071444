# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "uvicorn>=0.54",
# ]
# ///
"""Stream to pages of another origin, with their cookies, and to no other page.

Run it:   uvicorn recipes.cross_origin:app
Try it:   curl -N -H 'Origin: http://127.0.0.1:8003' http://127.0.0.1:8000/events
          curl -N --json '{"text": "tea"}' http://127.0.0.1:8000/search
          curl -i --json '{"name": "ada"}' http://127.0.0.1:8000/sign-in
"""

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import uvicorn
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

ORIGINS = ["http://127.0.0.1:8003"]  # whose pages may ask, as browsers write it
PREFLIGHT = 7200  # seconds that a browser remembers a preflight; Chromium's limit
PAUSE = 0.5  # seconds between two messages
STATES = ["placed", "paid", "packed", "shipped", "delivered"]
ITEMS = ["tea", "teapot", "cup", "teaspoon", "kettle", "iced tea"]


# --8<-- [start:producers]
class Order(BaseModel):
    """What the shop tells a customer about the order."""

    customer: str
    state: str


async def order_states(customer: str, states: list[str]) -> AsyncIterator[Order]:
    """Tell each state as the order comes to it."""
    for state in states:
        yield Order(customer=customer, state=state)
        await asyncio.sleep(PAUSE)


async def found_items(items: list[str]) -> AsyncIterator[str]:
    """Give each item as a line of JSON; these stand for a slow search."""
    for item in items:
        yield json.dumps({"item": item}) + "\n"
        await asyncio.sleep(PAUSE)


# --8<-- [end:producers]
# --8<-- [start:customer]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, bytes]]:
    """Keep the key that signs cookies; several workers need the same one."""
    key = os.environ.get("COOKIE_KEY") or secrets.token_hex()
    yield {"key": key.encode()}


def signature(key: bytes, name: str) -> str:
    """Sign a customer's name, in 64 hexadecimal digits."""
    return hmac.new(key, name.encode(), "sha256").hexdigest()


async def who_asks(
    request: Request, customer: Annotated[str | None, Cookie()] = None
) -> str:
    """Name the customer of the cookie, or a guest; 401 if we did not sign it."""
    if customer is None:
        return "guest"
    name, _, signed = customer.partition(".")
    right = signature(request.state.key, name)
    if not hmac.compare_digest(signed.encode(), right.encode()):
        raise HTTPException(401, "Sign in again.")
    return name


Customer = Annotated[str, Depends(who_asks)]


# --8<-- [end:customer]
# --8<-- [start:guards]
async def page_is_known(request: Request) -> None:
    """Refuse a page that is not on the list, before any work is done: 403.

    A browser says which page asks; other clients need not, and have no cookie to steal.
    """
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if origin in ORIGINS or site == "same-origin":
        return
    if origin is not None or site != "none":
        raise HTTPException(403, "This page is not on the list.")


async def slow_client_may_leave() -> AsyncIterator[None]:
    """Drop the error that FastAPI raises when a slow client leaves, and no other."""
    try:
        yield
    except* anyio.BrokenResourceError:
        pass  # An event was waiting for a client that is gone.


async def states_to_come(last_event_id: Annotated[str, Header()] = "") -> list[str]:
    """List the states that a client has not seen; 204 makes a browser stay away."""
    if last_event_id not in STATES:
        return STATES
    left = STATES[STATES.index(last_event_id) + 1 :]
    if not left:
        raise HTTPException(204)
    return left


# --8<-- [end:guards]
# --8<-- [start:app]
GUARDS = [Depends(page_is_known), Depends(slow_client_may_leave)]
app = FastAPI(title="cross_origin", lifespan=lifespan, dependencies=GUARDS)
app.add_middleware(
    CORSMiddleware,
    allow_origins=ORIGINS,
    allow_credentials=True,
    allow_methods=["GET", "POST"],
    allow_headers=["Last-Event-ID"],
    expose_headers=["X-Total"],
    max_age=PREFLIGHT,
)


# --8<-- [end:app]
# --8<-- [start:routes]
class SignIn(BaseModel):
    """Who signs in; here nobody asks for a password."""

    name: str = Field(pattern="^[a-z]{1,20}$")


class Search(BaseModel):
    """What a customer looks for."""

    text: str = Field(max_length=40)


@app.post("/sign-in", status_code=204)
async def sign_in(who: SignIn, request: Request, response: Response) -> None:
    """Give the browser a cookie that no script can read."""
    value = f"{who.name}.{signature(request.state.key, who.name)}"
    response.set_cookie("customer", value, httponly=True, secure=True, samesite="lax")


@app.get("/events", response_class=EventSourceResponse)
async def events(
    customer: Customer, states: Annotated[list[str], Depends(states_to_come)]
) -> AsyncIterator[ServerSentEvent]:
    """Send the order's states; the id of an event is the state's name."""
    async for order in order_states(customer, states):
        yield ServerSentEvent(data=order, id=order.state)


@app.post("/search")
async def search(wanted: Search, customer: Customer) -> StreamingResponse:
    """Send what is found as NDJSON, and in a header how much that is."""
    found = [item for item in ITEMS if wanted.text in item]
    headers = {"X-Total": str(len(found)), "X-Customer": customer}
    headers |= {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = found_items(found)
    return StreamingResponse(lines, headers=headers, media_type="application/x-ndjson")


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
