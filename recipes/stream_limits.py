# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "fastapi>=0.165",
#   "itsdangerous>=2.2",
#   "limits>=5.8",
#   "prometheus-client>=0.26",
#   "redis>=8.1",
#   "sse-starlette>=3.7",
#   "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# application = true
# ///
"""Decide who may stream, how many streams there may be, and for how long.

Run it:   uvicorn recipes.stream_limits:app
Try it:   curl -c jar.txt --json '{"name": "ada"}' http://127.0.0.1:8000/sign-in
          curl -b jar.txt -N --max-time 60 http://127.0.0.1:8000/events
          curl -b jar.txt -X POST http://127.0.0.1:8000/tickets
          curl -b jar.txt -X POST http://127.0.0.1:8000/sign-out
"""

import asyncio
import math
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyCookie, APIKeyQuery, HTTPBearer
from fastapi.security import HTTPAuthorizationCredentials as Credentials
from itsdangerous import BadData
from itsdangerous import URLSafeTimedSerializer as Signer
from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

# --8<-- [start:sessions]
SESSION = 60  # seconds; short, so that you see its end: an hour is usual
TICKET = 15  # seconds in which a ticket must be used
LIFETIME = 20.0  # seconds of a stream at most; short, too: 15 minutes are usual
JITTER = 0.2  # of a lifetime, by which a stream may end earlier
PATIENCE = 10.0  # seconds that a client may take until it lets the next chunk in
EACH = 3  # open streams of one user, in this process
ALL = 1000  # open streams of all users, in this process
RATE = RateLimitItemPerMinute(20)  # new streams of one user
TICK = 0.5  # seconds from one look at the session to the next

Reason = Literal["expired", "revoked", "lifetime"]
UNKNOWN = HTTPException(401, "Sign in again.", {"WWW-Authenticate": "Bearer"})


class Session(BaseModel):
    """Who has signed in; `ends` is in seconds since 1970."""

    user: str
    id: str
    ends: int
    once: str = ""  # makes each ticket of a session another


class Desk:
    """Signs what clients carry, and knows what has been revoked or used."""

    def __init__(self, key: str, storage: Storage) -> None:
        # The salts differ, so that nobody can use a ticket as a session.
        self.sessions = Signer(key, salt="session")
        self.tickets = Signer(key, salt="ticket")
        self.storage = storage  # counters, each of which is forgotten in time
        self.limiter = MovingWindowRateLimiter(storage)

    def sign_in(self, user: str) -> str:
        """Begin a session; whoever has this text has the session."""
        ends = int(time.time()) + SESSION
        session = Session(user=user, id=secrets.token_urlsafe(16), ends=ends)
        return str(self.sessions.dumps(session.model_dump()))

    def make_ticket(self, session: Session) -> str:
        """Make a ticket, with which the session can open one stream."""
        ticket = session.model_copy(update={"once": secrets.token_urlsafe(16)})
        return str(self.tickets.dumps(ticket.model_dump()))

    async def check(self, signer: Signer, signed: str, age: int) -> Session:
        """Give the session; 401 if it is not signed, too old in seconds, or over."""
        try:
            session = Session.model_validate(signer.loads(signed, max_age=age))
        except (BadData, ValueError):
            raise UNKNOWN from None
        if await self.why_over(session):
            raise UNKNOWN
        return session

    async def redeem(self, signed: str) -> Session:
        """Give the session of a ticket; 401 if it is late or has been used."""
        ticket = await self.check(self.tickets, signed, TICKET)
        uses = await self.storage.incr(f"ticket/{ticket.once}", 2 * TICKET)
        if uses > 1:
            raise UNKNOWN
        return ticket

    async def revoke(self, session: Session) -> None:
        """End a session before its time."""
        await self.storage.incr(f"revoked/{session.id}", SESSION)

    async def why_over(self, session: Session) -> Reason | None:
        """Say why a session is no longer good, or None."""
        if time.time() >= session.ends:
            return "expired"
        if await self.storage.get(f"revoked/{session.id}"):
            return "revoked"
        return None


# --8<-- [end:sessions]
# --8<-- [start:who]
Cookie = Annotated[str | None, Depends(APIKeyCookie(name="session", auto_error=False))]
Bearer = Annotated[Credentials | None, Depends(HTTPBearer(auto_error=False))]
Once = Annotated[str | None, Depends(APIKeyQuery(name="ticket", auto_error=False))]


async def the_desk(request: Request) -> Desk:
    """Give the desk of this process."""
    desk: Desk = request.state.desk
    return desk


TheDesk = Annotated[Desk, Depends(the_desk)]


async def signed_in(desk: TheDesk, bearer: Bearer, cookie: Cookie) -> Session:
    """Name who asks, by the header Authorization or by a cookie; else 401."""
    signed = bearer.credentials if bearer else cookie
    return await desk.check(desk.sessions, signed or "", SESSION)


async def visitor(desk: TheDesk, once: Once, bearer: Bearer, cookie: Cookie) -> Session:
    """Name who asks, also by a ticket in the address; else 401."""
    if once:
        return await desk.redeem(once)
    return await signed_in(desk, bearer, cookie)


SignedIn = Annotated[Session, Depends(signed_in)]
Visitor = Annotated[Session, Depends(visitor)]


# --8<-- [end:who]
# --8<-- [start:stream]
registry = CollectorRegistry()
CLOSED = Counter("streams_closed", "Streams we closed.", ["reason"], registry=registry)
FIRST = Histogram("stream_first_byte_seconds", "Until it is out.", registry=registry)
Events = AsyncGenerator[dict[str, str], None]


async def orders() -> AsyncGenerator[str | None, None]:
    """Give each new order as JSON, and None when there is none for a while."""
    numbers = count(1)
    while True:
        yield f'{{"id":{next(numbers)},"item":"tea"}}'
        await asyncio.sleep(TICK)
        yield None
        await asyncio.sleep(TICK)


async def guarded(desk: Desk, session: Session, begun: float) -> Events:
    """Tell the orders as long as the session is good, then why no more come."""
    ends = begun + LIFETIME * (1 - JITTER * secrets.SystemRandom().random())
    first = True
    async with aclosing(orders()) as news:
        async for order in news:
            try:
                reason = await desk.why_over(session)
            except RedisError:
                reason = None  # Nobody knows. The lifetime is the limit of that.
            if reason is None and time.monotonic() >= ends:
                reason = "lifetime"
            if reason:
                CLOSED.labels(reason).inc()
                yield {"event": "closed", "data": f'{{"reason":"{reason}"}}'}
                return
            if order:
                yield {"event": "order", "data": order}
                if first:  # The server has taken it.
                    FIRST.observe(time.monotonic() - begun)
                    first = False


# --8<-- [end:stream]
# --8<-- [start:limits]
open_streams: list[str] = []  # the user of each
OPEN = Gauge("streams_open", "Streams that are open.", registry=registry)
OPEN.set_function(lambda: len(open_streams))


def too_many(why: str, seconds: float) -> HTTPException:
    """Refuse a stream, and say when to come back."""
    wait = max(1, math.ceil(seconds))
    return HTTPException(429, why, {"Retry-After": str(wait)})


async def admit(desk: TheDesk, session: Visitor) -> AsyncIterator[Events]:
    """Take a place for a stream while a status can still say no; free it in the end."""
    begun = time.monotonic()
    if not await desk.limiter.hit(RATE, session.user):
        window = await desk.limiter.get_window_stats(RATE, session.user)
        raise too_many("Too many new streams.", window.reset_time - time.time())
    # No `await` from here to `append`: two requests cannot take the same place.
    if open_streams.count(session.user) >= EACH:
        raise too_many("You have too many streams open.", 5)
    if len(open_streams) >= ALL:
        raise too_many("Too many streams are open.", 5)
    open_streams.append(session.user)
    try:
        async with aclosing(guarded(desk, session, begun)) as events:
            yield events
    finally:  # FastAPI comes here when the response has ended, however it ended.
        open_streams.remove(session.user)


class TooSlowError(Exception):
    """The client did not let the next chunk in."""


class PatientResponse(EventSourceResponse):
    """Sends events, and lets a client go that reads too slowly."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give each message its time, the head and the end included."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(PATIENCE):
                    await send(message)
            except TimeoutError:
                raise TooSlowError from None

        try:
            await super().__call__(scope, receive, send_in_time)
        except TooSlowError:
            CLOSED.labels("slow").inc()


# --8<-- [end:limits]
# --8<-- [start:app]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Desk]]:
    """Keep the key and the counters; several workers need the same of both."""
    key = os.environ.get("SESSION_KEY") or secrets.token_hex()
    url = os.environ.get("REDIS_URL") or "memory://"
    storage: Any = storage_from_string(f"async+{url}", implementation="redispy")
    yield {"desk": Desk(key, storage)}


app = FastAPI(title="stream_limits", lifespan=lifespan)


class SignIn(BaseModel):
    """Who signs in; here nobody asks for a password."""

    name: str = Field(pattern="^[a-z]{1,20}$")


@app.post("/sign-in", response_class=PlainTextResponse)
async def sign_in(who: SignIn, desk: TheDesk, response: Response) -> str:
    """Give a program its token, and a browser a cookie that no script can read."""
    token = desk.sign_in(who.name)
    response.set_cookie("session", token, SESSION, httponly=True, secure=True)
    return token


@app.post("/tickets", response_class=PlainTextResponse)
async def make_ticket(desk: TheDesk, session: SignedIn) -> str:
    """Give a page a ticket for the address of one EventSource."""
    return desk.make_ticket(session)


@app.post("/sign-out", status_code=204)
async def sign_out(desk: TheDesk, session: SignedIn) -> None:
    """End a session, and with it its streams."""
    await desk.revoke(session)


@app.get("/events")
async def events(admitted: Annotated[Events, Depends(admit)]) -> PatientResponse:
    """Send the events; the dependency owns them."""
    return PatientResponse(admitted, sep="\n")


@app.get("/metrics")
async def metrics() -> Response:
    """Tell Prometheus; keep this path for your own network."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


# --8<-- [end:app]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
