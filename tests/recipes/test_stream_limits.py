"""docs/recipes/stream_limits.md: every claim of the page, proved on the recipe."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import fastapi.sse
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer
from limits.aio.storage import MemoryStorage
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse
from starlette.middleware.sessions import SessionMiddleware

from cookbook.catalog import ROOT
from recipes import stream_limits
from recipes.stream_limits import Desk, Session, open_streams
from tests.kit import sse
from tests.kit.asgi import Run, drive, note
from tests.kit.servers import WAIT

KEY = "of the tests"
CARRIERS = ["bearer", "cookie", "ticket"]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def time(self) -> float:
        """Give the seconds since 1970."""
        return self.now

    def monotonic(self) -> float:
        """Give seconds of a clock of its own."""
        return self.now - 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the recipe and its libraries read a clock of the test."""
    clock = Clock()
    monkeypatch.setattr(stream_limits, "time", clock)
    monkeypatch.setattr("itsdangerous.timed.time", clock)
    monkeypatch.setattr("limits.aio.storage.memory.time", clock)
    return clock


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Desk]:  # noqa: ARG001
    """Give the desk that each run of the recipe has, with what it remembers."""
    storage = MemoryStorage()
    monkeypatch.setattr(stream_limits, "storage_from_string", lambda *_, **__: storage)
    monkeypatch.setenv("SESSION_KEY", KEY)
    monkeypatch.delenv("REDIS_URL", raising=False)
    open_streams.clear()
    yield Desk(KEY, storage)
    open_streams.clear()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing take time."""
    monkeypatch.setattr(stream_limits, "TICK", 0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[str | None]:
    """Let the shop tell these, a second each; then it ends."""
    news: list[str | None] = ['{"id":1}', None, '{"id":2}']

    async def orders() -> AsyncGenerator[str | None, None]:
        try:
            for order in news:
                note(f"made {order}")
                yield order
                await asyncio.sleep(0)
                clock.now += 1
        finally:
            note("source closed")

    monkeypatch.setattr(stream_limits, "orders", orders)
    return news


def get(headers: dict[str, str] | None = None, query: str = "", **how: Any) -> Run:  # noqa: ANN401
    """Ask for the events."""
    return drive(stream_limits.app, f"/events{query}", headers=headers, **how)


def bearer(desk: Desk, user: str = "ada") -> dict[str, str]:
    """Sign in, and write the header that says so."""
    return {"Authorization": f"Bearer {desk.sign_in(user)}"}


def carried(carrier: str, text: str, **how: Any) -> Run:  # noqa: ANN401
    """Ask for the events with this text as what lets one in."""
    if carrier == "bearer":
        return get({"Authorization": f"Bearer {text}"}, **how)
    if carrier == "cookie":
        return get({"Cookie": f"session={text}"}, **how)
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    return get({}, f"?ticket={quoted}", **how)


def right(desk: Desk, carrier: str) -> str:
    """Give a text that lets Ada in."""
    token = desk.sign_in("ada")
    if carrier != "ticket":
        return token
    return desk.make_ticket(asyncio.run(desk.check(desk.sessions, token, 30)))


def names(run: Run) -> list[str]:
    """Name the events, and the reason of the last one."""
    events = sse.parse(run.chunks).events
    found = [event.event for event in events]
    if found and found[-1] == "closed":
        found[-1] = json.loads(events[-1].data)["reason"]
    return found


def sample(name: str, **labels: str) -> float:
    """Read one number of the recipe's metrics."""
    return stream_limits.registry.get_sample_value(name, labels) or 0.0


# The stream


def test_each_order_is_one_event_and_one_chunk(
    desk: Desk, told: list[str | None]
) -> None:
    run = get(bearer(desk))
    assert run.status == 200
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["cache-control"] == "no-store"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.chunks == [
        b'event: order\ndata: {"id":1}\n\n',
        b'event: order\ndata: {"id":2}\n\n',
    ]
    assert told


@pytest.mark.usefixtures("told")
def test_the_first_chunk_is_out_before_the_second_order_is_made(desk: Desk) -> None:
    run = get(bearer(desk), stall_at=1, disconnect_at=1)
    assert 'made {"id":1}' in run.before("stall 1")
    assert 'made {"id":2}' not in run.journal
    assert "source closed" in run.before("returned")
    assert open_streams == []


def test_the_shop_tells_an_order_a_second_and_looks_up_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(stream_limits, "asyncio", SimpleNamespace(sleep=noted))

    async def first() -> list[str | None]:
        shop = stream_limits.orders()
        return [await anext(shop) for _ in range(5)]

    one, two, three = (f'{{"id":{number},"item":"tea"}}' for number in (1, 2, 3))
    assert asyncio.run(first()) == [one, None, two, None, three]
    assert waits == [0.5] * 4


# Who asks


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_token_a_cookie_or_a_ticket_opens_a_stream(desk: Desk, carrier: str) -> None:
    run = carried(carrier, right(desk, carrier))
    assert (run.status, names(run)) == (200, ["order", "order"])


@pytest.mark.usefixtures("told", "desk")
def test_attack_without_a_session_nothing_is_started() -> None:
    """Nobody without a session gets a stream: a 401, before any work is done."""
    for headers in ({}, {"Authorization": "Basic YWRhOg=="}, {"Cookie": "session="}):
        run = get(headers, "?ticket=")
        assert (run.status, run.body) == (401, b'{"detail":"Sign in again."}')
        assert run.headers["www-authenticate"] == "Bearer"
        assert not [line for line in run.journal if line.startswith("made")]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("carrier", CARRIERS)
def test_attack_a_forged_token_cookie_or_ticket_gets_a_401(
    desk: Desk, carrier: str
) -> None:
    """A token, cookie or ticket is changed, or signed with another key: a 401."""
    good = right(desk, carrier)
    data, stamp, signature = good.split(".")
    other = Desk("of somebody else", MemoryStorage())
    salt = "ticket" if carrier == "ticket" else "session"
    signer = URLSafeTimedSerializer(KEY, salt=salt)
    forged = [
        good[:-2],
        f"{good}0",
        good.swapcase(),
        f"{data}.{stamp}",
        f"{data}.{stamp}.",
        f"{data[:-2]}.{stamp}.{signature}",
        f"{data}.zzzzzz.{signature}",
        "ada",
        "..",
        "\xe9",
        "x" * 20_000,
        right(other, carrier),
        # Signed by us, as an older version might have done, but of another shape.
        str(signer.dumps("ada")),
        str(signer.dumps({"user": "ada"})),
        str(signer.dumps(None)),
    ]
    for text in forged:
        run = carried(carrier, text)
        assert (run.status, run.error) == (401, None), text
        assert run.body == b'{"detail":"Sign in again."}'
    assert carried(carrier, good).status == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(max_codepoint=255, exclude_characters=";,\r\n\0")))
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.usefixtures("desk")
def test_attack_no_token_cookie_or_ticket_is_a_500(carrier: str, text: str) -> None:
    """Any text is sent as a token, cookie or ticket: never a 500."""
    run = carried(carrier, text)
    assert (run.status, run.error) == (401, None)


@pytest.mark.usefixtures("told")
def test_attack_a_ticket_is_no_token_and_a_token_is_no_ticket(desk: Desk) -> None:
    """A ticket from an access log is sent as a token or a cookie: a 401."""
    ticket = right(desk, "ticket")
    assert carried("bearer", ticket).status == 401
    assert carried("cookie", ticket).status == 401
    assert carried("ticket", right(desk, "bearer")).status == 401
    assert carried("ticket", ticket).status == 200


@pytest.mark.usefixtures("told")
def test_attack_a_ticket_is_good_once(desk: Desk) -> None:
    """A ticket is used twice: the second time is a 401."""
    ticket = right(desk, "ticket")
    assert [carried("ticket", ticket).status for _ in range(3)] == [200, 401, 401]


def test_attack_of_many_who_use_a_ticket_at_once_one_is_let_in(desk: Desk) -> None:
    """A ticket is used ten times at the same moment: one of them is let in."""
    ticket = right(desk, "ticket")

    async def race() -> list[object]:
        tries = [desk.redeem(ticket) for _ in range(10)]
        return await asyncio.gather(*tries, return_exceptions=True)

    found = asyncio.run(race())
    assert sum(isinstance(each, Session) for each in found) == 1


@pytest.mark.usefixtures("told")
def test_attack_a_late_ticket_is_refused(desk: Desk, clock: Clock) -> None:
    """A ticket is used after its 15 seconds: a 401."""
    one, two = right(desk, "ticket"), right(desk, "ticket")
    clock.now += 15
    assert carried("ticket", one).status == 200
    clock.now += 1
    assert carried("ticket", two).status == 401


def test_a_used_ticket_is_remembered_for_longer_than_it_is_good(
    desk: Desk, clock: Clock
) -> None:
    ticket = right(desk, "ticket")
    asyncio.run(desk.redeem(ticket))
    (key,) = [key for key in desk.storage.storage if key.startswith("ticket/")]  # type: ignore[attr-defined]
    forgotten = asyncio.run(desk.storage.get_expiry(key))
    assert forgotten == clock.now + 30
    assert stream_limits.TICKET == 15


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_first_that_is_there_counts(desk: Desk, carrier: str) -> None:
    good = right(desk, "bearer")
    wrong = {"Authorization": "Bearer no", "Cookie": "session=no"}
    query = "?ticket=no"
    if carrier == "ticket":
        headers = {"Authorization": f"Bearer {good}", "Cookie": f"session={good}"}
        assert get(headers, query).status == 401
        query = f"?ticket={right(desk, 'ticket')}"
        assert get(wrong, query).status == 200
    if carrier == "bearer":
        assert get({**wrong, "Cookie": f"session={good}"}).status == 401
        assert get({**wrong, "Authorization": f"Bearer {good}"}).status == 200
    if carrier == "cookie":
        # An empty ticket and another scheme are as good as none.
        headers = {"Authorization": f"Basic {good}", "Cookie": f"session={good}"}
        assert get(headers, "?ticket=").status == 200


def test_nobody_guesses_an_id_of_128_bits(desk: Desk) -> None:
    token = desk.sign_in("ada")
    session = asyncio.run(desk.check(desk.sessions, token, 30))
    ticket = asyncio.run(desk.redeem(desk.make_ticket(session)))
    assert (ticket.user, ticket.id, ticket.ends) == ("ada", session.id, session.ends)
    assert [len(text) for text in (session.id, session.once, ticket.once)] == [
        22,
        0,
        22,
    ]


# Signing in and out


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:  # noqa: ARG001
    """Ask the recipe by https, so that a Secure cookie is kept."""
    with TestClient(stream_limits.app, base_url="https://testserver") as running:
        yield running


def test_who_signs_in_gets_a_cookie_that_no_script_can_read(
    client: TestClient,
) -> None:
    answer = client.post("/sign-in", json={"name": "ada"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    first, *attributes = answer.headers["set-cookie"].split("; ")
    assert first == f"session={answer.text}"
    wanted = {"HttpOnly", "Max-Age=60", "Path=/", "SameSite=lax", "Secure"}
    assert set(attributes) == wanted


@pytest.mark.parametrize("name", ["", "Ada", "a" * 21, "ada\n", "a.b", 7, None])
def test_a_name_has_1_to_20_small_letters(client: TestClient, name: object) -> None:
    answer = client.post("/sign-in", json={"name": name})
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers
    assert client.post("/sign-in", json={"name": "a" * 20}).status_code == 200


@pytest.mark.usefixtures("told")
def test_a_cookie_is_good_for_a_ticket_and_a_ticket_for_a_stream(
    client: TestClient,
) -> None:
    assert client.post("/tickets").status_code == 401
    client.post("/sign-in", json={"name": "ada"})
    ticket = client.post("/tickets").text
    client.cookies.clear()
    assert client.get("/events", params={"ticket": ticket}).status_code == 200
    # Nobody makes a ticket from a ticket.
    assert client.post("/tickets", params={"ticket": ticket}).status_code == 401


@pytest.mark.usefixtures("told")
def test_attack_a_session_that_was_signed_out_is_over_at_once(
    client: TestClient,
) -> None:
    """A copy of a cookie, or a ticket, is used after its user signed out: a 401."""
    token = client.post("/sign-in", json={"name": "ada"}).text
    ticket = client.post("/tickets").text
    other = client.post("/sign-in", json={"name": "ada"}).text
    client.cookies.clear()
    ours = {"Authorization": f"Bearer {token}"}
    assert client.post("/sign-out", headers=ours).status_code == 204
    for path in ("/sign-out", "/tickets"):
        assert client.post(path, headers=ours).status_code == 401
    assert client.get("/events", headers=ours).status_code == 401
    assert client.get("/events", params={"ticket": ticket}).status_code == 401
    # The same user's session on another machine goes on.
    theirs = {"Authorization": f"Bearer {other}"}
    assert client.get("/events", headers=theirs).status_code == 200


def test_what_is_revoked_is_remembered_as_long_as_the_session_would_last(
    desk: Desk, clock: Clock
) -> None:
    session = Session(user="ada", id="7", ends=int(clock.now) + 60)
    asyncio.run(desk.revoke(session))
    assert asyncio.run(desk.storage.get_expiry("revoked/7")) == clock.now + 60


def test_without_a_key_each_process_makes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def made() -> Desk:
        async with stream_limits.lifespan(stream_limits.app) as state:
            return state["desk"]

    for value in ("", None):
        if value is None:
            monkeypatch.delenv("SESSION_KEY", raising=False)
        else:
            monkeypatch.setenv("SESSION_KEY", value)
        one, two = asyncio.run(made()), asyncio.run(made())
        with pytest.raises(type(stream_limits.UNKNOWN)):
            asyncio.run(two.check(two.sessions, one.sign_in("ada"), 30))
        with pytest.raises(type(stream_limits.UNKNOWN)):
            asyncio.run(Desk("", MemoryStorage()).check(one.sessions, "x", 30))
        assert one.sessions.secret_keys != Desk("", one.storage).sessions.secret_keys
    monkeypatch.setenv("SESSION_KEY", "ours")
    one, two = asyncio.run(made()), asyncio.run(made())
    session = asyncio.run(two.check(two.sessions, one.sign_in("ada"), 30))
    assert session.user == "ada"


def test_starlettes_session_middleware_cannot_revoke() -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key=KEY)

    @app.post("/{what}")
    async def change(what: str, request: Request) -> str | None:
        if what == "in":
            request.session["user"] = "ada"
        if what == "out":
            request.session.clear()
        user: str | None = request.session.get("user")
        return user

    with TestClient(app) as visitor:
        visitor.post("/in")
        copied = visitor.cookies["session"]
        visitor.post("/out")
        assert "session" not in visitor.cookies
        headers = {"Cookie": f"session={copied}"}
        assert visitor.post("/who", headers=headers).json() == "ada"


@pytest.mark.parametrize("url", [None, "", "redis://127.0.0.1:6379/0"])
def test_the_counters_are_in_memory_unless_a_redis_is_named(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []

    def storage(uri: str, implementation: str) -> MemoryStorage:
        opened.append((uri, implementation))
        return MemoryStorage()

    monkeypatch.setattr(stream_limits, "storage_from_string", storage)
    monkeypatch.delenv("REDIS_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("REDIS_URL", url)
    drive(stream_limits.app, "/metrics")
    assert opened == [(f"async+{url or 'memory://'}", "redispy")]


# The end of a stream


@pytest.mark.parametrize("carrier", CARRIERS)
def test_attack_a_stream_does_not_outlast_its_session(
    desk: Desk, told: list[str | None], carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream is kept open to outlast its session: it is closed with `expired`."""
    monkeypatch.setattr(stream_limits, "LIFETIME", 900)
    told[:] = ['{"id":1}', *[None] * 100]
    run = carried(carrier, right(desk, carrier))
    assert names(run) == ["order", "expired"]
    # An order a second, from 0 on: it ended at the sixtieth, and in silence.
    assert len([line for line in run.journal if line.startswith("made")]) == 61
    assert run.journal[-2:] == ["end", "returned"]
    assert run.chunks[-1] == b'event: closed\ndata: {"reason":"expired"}\n\n'
    assert open_streams == []


def test_attack_signing_out_closes_the_streams_of_the_session(
    desk: Desk, told: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream goes on after its user signed out: it is closed with `revoked`."""
    token = desk.sign_in("ada")
    session = asyncio.run(desk.check(desk.sessions, token, 30))

    async def orders() -> AsyncGenerator[str | None, None]:
        yield told[0]
        await desk.revoke(session)
        yield told[0]
        note("too late")

    monkeypatch.setattr(stream_limits, "orders", orders)
    run = get({"Authorization": f"Bearer {token}"})
    assert names(run) == ["order", "revoked"]
    assert "too late" not in run.journal


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 20), (0.5, 18), (1.0, 16)])
def test_attack_a_stream_ends_after_20_seconds_or_up_to_a_fifth_earlier(
    desk: Desk,
    told: list[str | None],
    chance: float,
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream is held for as long as can be: it is closed with `lifetime`."""
    system = SimpleNamespace(random=lambda: chance)
    fake = SimpleNamespace(SystemRandom=lambda: system)
    told[:] = ['{"id":1}', *[None] * 100]
    headers = bearer(desk)
    monkeypatch.setattr(stream_limits, "secrets", fake)
    run = get(headers)
    assert names(run) == ["order", "lifetime"]
    made = [line for line in run.journal if line.startswith("made")]
    assert len(made) == seconds + 1


def test_who_takes_their_time_sees_a_lifetime_and_then_the_end_of_the_session(
    desk: Desk, clock: Clock, told: list[str | None]
) -> None:
    began = clock.now
    headers = bearer(desk)
    clock.now += 30  # Half a minute until the first stream.
    told[:] = ['{"id":1}', *[None] * 100]
    assert names(get(headers)) == ["order", "lifetime"]
    runs = [get(headers)]
    while names(runs[-1])[-1] == "lifetime":
        runs.append(get(headers))
    assert names(runs[-1])[-1] == "expired"
    assert clock.now == began + 60
    assert get(headers).body == b'{"detail":"Sign in again."}'


def test_when_both_are_over_the_session_is_the_reason(
    desk: Desk, told: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "LIFETIME", 0)
    assert names(get(bearer(desk))) == ["lifetime"]
    monkeypatch.setattr(stream_limits, "SESSION", 1)
    monkeypatch.setattr(stream_limits, "LIFETIME", 1)
    told[:] = [None] * 5
    assert names(get(bearer(desk))) == ["expired"]


@pytest.mark.parametrize("left", [1, 0, -1])
def test_a_session_is_over_in_the_second_it_ends(
    desk: Desk, clock: Clock, left: int
) -> None:
    session = Session(user="ada", id="7", ends=int(clock.now) + left)
    over = asyncio.run(desk.why_over(session))
    assert over == (None if left > 0 else "expired")


def test_while_redis_is_away_an_open_stream_goes_on_to_its_lifetime(
    desk: Desk, told: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = bearer(desk)
    asked = 0

    async def get_counter(key: str) -> int:
        nonlocal asked
        asked += bool(key)
        if asked > 1:
            raise RedisError
        return 0

    monkeypatch.setattr(desk.storage, "get", get_counter)
    monkeypatch.setattr(stream_limits, "JITTER", 0)
    told[:] = ['{"id":1}', *[None] * 100]
    assert names(get(headers)) == ["order", "lifetime"]
    assert asked == 22  # before the stream, and then each second


# How many streams


def test_attack_a_user_may_have_three_streams_and_all_a_thousand(
    desk: Desk, told: list[str | None]
) -> None:
    """More streams are opened than a user, or all, may have: the next is a 429."""
    assert told
    for before, status in [
        (["ada"] * 2, 200),
        (["ada"] * 3, 429),
        (["bob"] * 3, 200),
        (["bob"] * 999, 200),
        (["bob"] * 1000, 429),
    ]:
        open_streams[:] = before
        run = get(bearer(desk))
        assert run.status == status, before[:4]
        assert open_streams == before
        if status == 429:
            assert run.headers["retry-after"] == "5"
            assert not [line for line in run.journal if line.startswith("made")]
            yours = b'{"detail":"You have too many streams open."}'
            all_ = b'{"detail":"Too many streams are open."}'
            assert run.body == (yours if before[0] == "ada" else all_)


def test_attack_of_ten_who_come_at_once_three_get_a_place(
    desk: Desk, told: list[str | None]
) -> None:
    """Ten streams are opened at the same moment: no more get in than are allowed."""
    assert told
    session = Session(user="ada", id="7", ends=2**40)
    place = asynccontextmanager(stream_limits.admit)

    async def race() -> list[object]:
        async def one() -> None:
            async with place(desk, session):
                await asyncio.sleep(0.01)

        return await asyncio.gather(*(one() for _ in range(10)), return_exceptions=True)

    found = asyncio.run(race())
    assert found.count(None) == 3
    assert open_streams == []


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"disconnect_at": 0},
        {"disconnect_at": 1},
        {"stall_at": 0, "disconnect_at": 0},
        {"stall_at": 1, "disconnect_at": 1},
        {"cancel_at": 0},
        {"cancel_at": 1},
    ],
)
def test_attack_no_way_of_leaving_keeps_a_place(
    desk: Desk, how: dict[str, Any]
) -> None:
    """A client leaves before the first chunk, or later, or stalls: no place is lost."""
    run = get(bearer(desk), **how)
    assert open_streams == []
    assert run.status == (0 if how.get("stall_at") == 0 else 200)
    if any(line.startswith("made") for line in run.journal):
        assert "source closed" in run.journal


def test_a_failure_of_the_source_gives_the_place_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def orders() -> AsyncGenerator[str | None, None]:
        yield '{"id":1}'
        raise TimeoutError

    monkeypatch.setattr(stream_limits, "orders", orders)
    slow = sample("streams_closed_total", reason="slow")
    run = get(bearer(desk))
    # It is a failure, not a slow client.
    assert isinstance(run.error, TimeoutError)
    assert sample("streams_closed_total", reason="slow") == slow
    assert open_streams == []


# How often


@pytest.mark.usefixtures("told")
def test_attack_a_user_opens_no_more_than_20_streams_a_minute(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams are opened and left in a loop: after 20 in a minute it is a 429."""
    monkeypatch.setattr(stream_limits, "SESSION", 1000)
    headers = bearer(desk)
    for number in range(20):
        clock.now += number == 1  # The first was a second before the others.
        assert get(headers, disconnect_at=0).status == 200
    clock.now += 29.5
    run = get(headers)
    assert run.status == 429
    assert run.body == b'{"detail":"Too many new streams."}'
    assert run.headers["retry-after"] == "30"  # from 29.5 up
    assert get(bearer(desk, "bob"), disconnect_at=0).status == 200
    clock.now += 29.5
    assert get(headers).headers["retry-after"] == "1"
    clock.now += 1
    assert get(headers, disconnect_at=0).status == 200


def test_to_come_back_takes_at_least_a_second() -> None:
    for seconds, wait in [(-3, "1"), (0, "1"), (0.2, "1"), (1, "1"), (1.1, "2")]:
        refused = stream_limits.too_many("Why.", seconds)
        assert (refused.status_code, refused.detail) == (429, "Why.")
        assert refused.headers == {"Retry-After": wait}


# Slow clients


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("stall", [0, 1, 2])
def test_attack_a_client_that_does_not_read_is_let_go(
    desk: Desk, stall: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client does not read, not even the head: it loses its place after 10 s."""
    assert stream_limits.PATIENCE == 10
    monkeypatch.setattr(stream_limits, "PATIENCE", 0)
    slow = sample("streams_closed_total", reason="slow")
    run = get(bearer(desk), stall_at=stall)
    assert (run.error, len(run.chunks)) == (None, max(0, stall - 1))
    assert "end" not in run.journal
    assert sample("streams_closed_total", reason="slow") == slow + 1
    assert open_streams == []


def test_a_ping_comes_every_15_seconds_also_while_orders_come(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = EventSourceResponse
    assert library.DEFAULT_PING_INTERVAL == 15
    assert issubclass(stream_limits.PatientResponse, library)
    monkeypatch.setattr(library, "DEFAULT_PING_INTERVAL", 0.05)
    monkeypatch.setattr(stream_limits, "TICK", 0.001)
    run = get(bearer(desk), disconnect_at=400)
    pings = [at for at, chunk in enumerate(run.chunks) if chunk.startswith(b": ping")]
    assert pings
    after = run.chunks[pings[0] - 1], run.chunks[pings[0] + 1]
    assert all(chunk.startswith(b"event: order") for chunk in after)


def test_lines_end_with_cr_lf_unless_the_recipe_says_otherwise() -> None:
    async def stay() -> Any:  # noqa: ANN401
        await anyio.sleep_forever()

    async def sent(sep: str | None = None) -> bytes:
        async def one() -> AsyncIterator[dict[str, str]]:
            yield {"event": "order", "data": "7"}

        chunks: list[bytes] = []

        async def send(message: Any) -> None:  # noqa: ANN401
            chunks.append(message.get("body", b""))

        scope: Any = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}
        async with asyncio.timeout(WAIT):
            response = stream_limits.PatientResponse(one(), sep=sep)
            await response(scope, stay, send)
        return b"".join(chunks)

    assert asyncio.run(sent()) == b"event: order\r\ndata: 7\r\n\r\n"
    assert asyncio.run(sent(sep="\n")) == b"event: order\ndata: 7\n\n"
    client = (ROOT / "docs/clients/stream_limits.mjs").read_text("utf-8")
    assert r'.split("\n\n")' in client


def test_fastapi_makes_the_response_itself_so_no_class_of_ours_gets_in_between() -> (
    None
):
    app = FastAPI()

    class Patient(fastapi.sse.EventSourceResponse):
        async def __call__(self, *_: Any) -> None:  # noqa: ANN401
            note("ours")

    @app.get("/", response_class=Patient)
    async def stream() -> AsyncIterator[int]:
        yield 7

    run = drive(app, "/")
    assert run.body == b"data: 7\n\n"
    assert "ours" not in run.journal


def test_the_last_message_too_has_to_get_out_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def late(sent: list[Any], message: Any) -> None:  # noqa: ANN401
        if not message.get("more_body", True):
            await anyio.sleep_forever()
        sent.append(message)

    async def nothing() -> AsyncIterator[dict[str, str]]:
        yield {"data": "7"}

    async def stay() -> Any:  # noqa: ANN401
        await anyio.sleep_forever()

    monkeypatch.setattr(stream_limits, "PATIENCE", 0.01)
    sent: list[Any] = []
    scope: Any = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}

    async def run() -> None:
        response = stream_limits.PatientResponse(nothing(), sep="\n")
        async with asyncio.timeout(WAIT):
            await response(scope, stay, lambda message: late(sent, message))

    asyncio.run(run())
    assert len(sent) == 2


def test_who_reads_may_take_the_whole_lifetime(
    desk: Desk, told: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "PATIENCE", 0)
    told[:] = ['{"id":1}'] * 10
    assert names(get(bearer(desk))) == ["order"] * 10


# What Prometheus reads


def metrics(client: TestClient) -> dict[str, float]:
    """Read the metrics as Prometheus does."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_gauge_counts_open_streams(client: TestClient) -> None:
    assert metrics(client)["streams_open"] == 0
    client.post("/sign-in", json={"name": "ada"})
    with client.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: order"
        assert metrics(client)["streams_open"] == 1
    assert metrics(client)["streams_open"] == 0


def test_the_histogram_has_the_time_from_admission_to_the_first_event(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def orders() -> AsyncGenerator[str | None, None]:
        clock.now += 3
        yield None
        clock.now += 1
        yield '{"id":1}'
        clock.now += 10
        yield '{"id":2}'

    monkeypatch.setattr(stream_limits, "orders", orders)
    name = "stream_first_byte_seconds"
    total = sample(f"{name}_sum")
    number = sample(f"{name}_count")
    get(bearer(desk))
    assert sample(f"{name}_sum") == total + 4
    assert sample(f"{name}_count") == number + 1


def test_what_we_closed_is_counted_by_its_reason(
    desk: Desk, told: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sample("streams_closed_total", reason="lifetime")
    get(bearer(desk))
    assert sample("streams_closed_total", reason="lifetime") == before
    monkeypatch.setattr(stream_limits, "LIFETIME", 0)
    get(bearer(desk))
    assert sample("streams_closed_total", reason="lifetime") == before + 1
    assert told


def test_attack_the_metrics_and_the_refusals_name_nobody(client: TestClient) -> None:
    """The metrics are read by somebody else: they name no user, session or ticket."""
    client.post("/sign-in", json={"name": "ada"})
    with client.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: order"
        text = client.get("/metrics").text
    assert "ada" not in text
    assert "eyJ" not in text
    assert len([line for line in text.splitlines() if "reason=" in line]) <= 8


def test_the_api_documents_three_ways_in(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"].values()
    assert {scheme.get("name", scheme["type"]) for scheme in schemes} == {
        "session",
        "ticket",
        "http",
    }
