"""docs/recipes/cross_origin.md: every claim of the page, proved on the recipe."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from cookbook.catalog import ROOT
from recipes import cross_origin
from recipes.cross_origin import ITEMS, ORIGINS, STATES, Order, signature
from tests.kit import sse
from tests.kit.asgi import Run, drive, note

PAGE = (ROOT / "docs/recipes/cross_origin.md").read_text("utf-8")
LISTED = "http://127.0.0.1:8003"
STRANGE = "https://evil.example"
FROM = {"Origin": LISTED}
ASKED = {**FROM, "Access-Control-Request-Method": "POST"}
JSON = {"Content-Type": "application/json"}
SEARCH = b'{"text": "tea"}'
# Origins that look like the one on the list, or that anybody can have.
STRANGERS = [
    STRANGE,
    "null",
    "",
    "*",
    f"{LISTED}/",
    f"{LISTED}.evil.example",
    "http://127.0.0.1:80030",
    "http://127.0.0.1:8000",
    "https://127.0.0.1:8003",
    "http://localhost:8003",
    "HTTP://127.0.0.1:8003",
    f"{LISTED}, {STRANGE}",
    f" {LISTED}",
    "\xff\xfe",
    "http://" + "a" * 10_000,
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing take time."""
    monkeypatch.setattr(cross_origin, "PAUSE", 0)
    monkeypatch.setenv("COOKIE_KEY", "of the tests")


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Ask the recipe by https, so that a Secure cookie is kept."""
    with TestClient(cross_origin.app, base_url="https://testserver") as running:
        yield running


def get(headers: Mapping[str, str]) -> Run:
    """Ask for the feed."""
    return drive(cross_origin.app, "/events", headers=headers)


def orders(run: Run) -> list[Order]:
    """Read what a feed has told."""
    events = sse.parse(run.chunks).events
    return [Order.model_validate_json(event.data) for event in events]


def cookie(name: str, key: str = "of the tests") -> dict[str, str]:
    """Write the header of a customer who has signed in."""
    return {"Cookie": f"customer={name}.{signature(key.encode(), name)}"}


# The streams


def test_each_state_is_one_event_and_one_chunk() -> None:
    run = get(FROM)
    assert run.status == 200
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.chunks == [
        f'data: {{"customer":"guest","state":"{state}"}}\nid: {state}\n\n'.encode()
        for state in STATES
    ]


def test_each_item_is_one_line_and_one_chunk() -> None:
    run = drive(cross_origin.app, "/search", method="POST", headers=JSON, body=SEARCH)
    assert run.status == 200
    assert run.headers["content-type"] == "application/x-ndjson"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.headers["cache-control"] == "no-store"
    assert run.headers["x-total"] == "4"
    found = ["tea", "teapot", "teaspoon", "iced tea"]
    assert run.chunks == [f'{{"item": "{item}"}}\n'.encode() for item in found]


def test_every_item_is_json() -> None:
    run = drive(
        cross_origin.app, "/search", method="POST", headers=JSON, body=b'{"text": ""}'
    )
    assert [json.loads(line)["item"] for line in run.chunks] == ITEMS


@pytest.mark.parametrize("path", ["/events", "/search"])
def test_the_first_chunk_is_out_before_the_second_is_made_and_leaving_ends_the_work(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def one(*_: object) -> AsyncIterator[object]:
        try:
            yield Order(customer="ada", state="paid") if path == "/events" else "{}\n"
            note("asked for more")
            await anyio.sleep_forever()
        finally:
            note("ended")

    monkeypatch.setattr(cross_origin, "order_states", one)
    monkeypatch.setattr(cross_origin, "found_items", one)
    how = {"method": "POST", "headers": JSON, "body": SEARCH}
    run = drive(
        cross_origin.app,
        path,
        disconnect_at=1,
        **(how if path == "/search" else {}),  # type: ignore[arg-type]
    )
    assert run.journal.index("chunk 1") < run.journal.index("disconnect")
    assert run.before("returned")[-1] == "ended"


def test_between_two_messages_it_waits_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    get(FROM)
    drive(cross_origin.app, "/search", method="POST", headers=JSON, body=SEARCH)
    assert [wait for wait in waits if wait] == [0.5] * 9


# Resuming


@pytest.mark.parametrize("number", range(4))
def test_a_reader_that_comes_back_gets_what_it_has_not_seen(number: int) -> None:
    run = get({**FROM, "Last-Event-ID": STATES[number]})
    assert [order.state for order in orders(run)] == STATES[number + 1 :]


def test_after_the_end_it_is_told_to_stay_away_and_may_read_that() -> None:
    run = get({**FROM, "Last-Event-ID": "delivered"})
    assert (run.status, run.body) == (204, b"")
    # Without it the browser would see a network error instead of the 204.
    assert run.headers["access-control-allow-origin"] == LISTED


@pytest.mark.parametrize("odd", ["", "7", "PAID", "paid ", "\xff", "x" * 20_000])
def test_an_id_that_it_never_sent_means_from_the_beginning(odd: str) -> None:
    run = get({**FROM, "Last-Event-ID": odd})
    assert [order.state for order in orders(run)] == STATES


def test_ids_are_short_and_ascii() -> None:
    ids = [event.id for event in sse.parse(get(FROM).chunks).events]
    assert ids == STATES
    assert all(name.isascii() and len(name) < 20 for name in ids)


# Who asks


def test_a_customer_who_signed_in_is_known(client: TestClient) -> None:
    answer = client.post("/sign-in", json={"name": "ada"}, headers=FROM)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-credentials"] == "true"
    first, *attributes = answer.headers["set-cookie"].split("; ")
    assert first == f"customer=ada.{signature(b'of the tests', 'ada')}"
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=lax", "Secure"}
    assert '"customer":"ada"' in client.get("/events", headers=FROM).text
    found = client.post("/search", json={"text": "cup"}, headers=FROM)
    assert (found.headers["x-customer"], found.headers["x-total"]) == ("ada", "1")


def test_one_without_a_cookie_is_a_guest() -> None:
    assert {order.customer for order in orders(get(FROM))} == {"guest"}


def test_attack_a_forged_cookie_gets_a_401_before_the_stream() -> None:
    """A forged cookie: 401 before the stream."""
    right = cookie("ada")["Cookie"]
    assert {order.customer for order in orders(get({"Cookie": right}))} == {"ada"}
    forged = [
        right.replace("ada", "bob"),
        right[:-1],
        f"{right}0",
        right.upper().replace("CUSTOMER", "customer"),
        "customer=ada",
        "customer=ada.",
        "customer=",
        "customer=.",
        "customer=ada.\xe9\xff",
        "customer=\xe9." + "0" * 64,
        "customer=ada." + "0" * 64,
        "customer=" + "x" * 20_000,
        cookie("ada", "of somebody else")["Cookie"],
    ]
    for value in forged:
        run = get({**FROM, "Cookie": value})
        assert (run.status, run.error) == (401, None), value
        assert run.body == b'{"detail":"Sign in again."}'
        # A page of the list can read why.
        assert run.headers["access-control-allow-origin"] == LISTED


@given(st.text(st.characters(max_codepoint=255, exclude_characters=";,\r\n\0")))
def test_attack_no_cookie_is_a_500(value: str) -> None:
    """A cookie of any bytes: never a 500."""
    run = get({"Cookie": f"customer={value}"})
    assert run.error is None
    assert run.status in {200, 401}
    assert {order.customer for order in orders(run)} <= {"guest"}


def test_the_signature_is_64_digits_and_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    assert len(signature(b"key", "ada")) == 64
    monkeypatch.setattr("hmac.compare_digest", noted)
    assert get(cookie("ada")).status == 401
    assert compared[0][0] == compared[0][1]


def test_without_a_key_it_makes_one_for_each_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def made() -> bytes:
        async with cross_origin.lifespan(cross_origin.app) as state:
            return state["key"]

    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("COOKIE_KEY")
        else:
            monkeypatch.setenv("COOKIE_KEY", value)
        keys = {asyncio.run(made()) for _ in range(3)}
        assert len(keys) == 3
        assert all(len(key) == 64 for key in keys)
    monkeypatch.setenv("COOKIE_KEY", "ours")
    assert asyncio.run(made()) == b"ours"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sign-in", {"name": ""}),
        ("/sign-in", {"name": "Ada"}),
        ("/sign-in", {"name": "a" * 21}),
        ("/sign-in", {"name": "ada.x"}),
        ("/sign-in", {"name": "ada\n"}),
        ("/sign-in", {"name": 7}),
        ("/sign-in", {}),
        ("/search", {"text": "x" * 41}),
        ("/search", {}),
        ("/search", []),
    ],
)
def test_bad_input_gets_a_422_before_the_stream(
    client: TestClient, path: str, body: object
) -> None:
    answer = client.post(path, json=body, headers=FROM)
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == LISTED


def test_the_limits_of_what_is_sent_are_what_they_say(client: TestClient) -> None:
    assert client.post("/sign-in", json={"name": "a" * 20}).status_code == 204
    assert client.post("/search", json={"text": "x" * 40}).status_code == 200


# Which page asks


def test_a_page_of_the_list_may_read_with_cookies() -> None:
    run = get(FROM)
    assert run.headers["access-control-allow-origin"] == LISTED
    assert run.headers["access-control-allow-credentials"] == "true"
    assert run.headers["access-control-expose-headers"] == "X-Total"
    # A cache must not give this answer to another page.
    assert "Origin" in run.headers["vary"]


@pytest.mark.parametrize("origin", STRANGERS)
def test_attack_a_strange_page_gets_a_403_and_no_work_is_done(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is not on the list asks: 403, and no work is done."""

    async def none(*_: object) -> AsyncIterator[object]:
        note("work")
        yield Order(customer="ada", state="paid")

    monkeypatch.setattr(cross_origin, "order_states", none)
    monkeypatch.setattr(cross_origin, "found_items", none)
    run = get({"Origin": origin, **cookie("ada")})
    assert (run.status, run.error) == (403, None)
    assert run.body == b'{"detail":"This page is not on the list."}'
    assert "access-control-allow-origin" not in run.headers
    for path, body in (("/search", SEARCH), ("/sign-in", b'{"name": "eve"}')):
        run = drive(
            cross_origin.app,
            path,
            method="POST",
            headers={**JSON, "Origin": origin},
            body=body,
        )
        assert run.status == 403
        assert "set-cookie" not in run.headers
        assert "work" not in run.journal


@pytest.mark.parametrize("site", ["cross-site", "same-site", "odd", ""])
def test_attack_an_image_or_a_link_on_another_page_starts_no_work(site: str) -> None:
    """An image or a link on another page asks: no work is done."""
    # Such a request has no Origin, but it carries the cookies.
    run = get({"Sec-Fetch-Site": site, **cookie("ada")})
    assert run.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, or a program
        {"Sec-Fetch-Site": "none"},  # typed into the browser's address bar
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "same-site", "Origin": LISTED},
        {"Sec-Fetch-Site": "cross-site", "Origin": LISTED},
    ],
)
def test_its_own_pages_and_programs_need_not_be_on_the_list(
    headers: dict[str, str],
) -> None:
    assert get(headers).status == 200


@pytest.mark.parametrize(
    "type_", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_attack_json_under_a_type_that_needs_no_preflight_is_refused(
    type_: str, client: TestClient
) -> None:
    """JSON under a type that needs no preflight: it is refused."""
    answer = client.post("/search", content=SEARCH, headers={"Content-Type": type_})
    assert answer.status_code == 422


# Preflights


def preflight(headers: Mapping[str, str], path: str = "/search") -> Run:
    """Ask what may be asked."""
    return drive(cross_origin.app, path, method="OPTIONS", headers=headers)


def test_a_preflight_is_answered_for_two_hours() -> None:
    run = preflight({**ASKED, "Access-Control-Request-Headers": "content-type"})
    assert (run.status, run.body) == (200, b"OK")
    assert run.headers["access-control-allow-origin"] == LISTED
    assert run.headers["access-control-allow-credentials"] == "true"
    assert run.headers["access-control-allow-methods"] == "GET, POST"
    assert run.headers["access-control-max-age"] == "7200"
    ordinary = {"Accept", "Accept-Language", "Content-Language", "Content-Type"}
    assert all(f"`{name}`" in PAGE for name in ordinary)
    allowed = run.headers["access-control-allow-headers"].split(", ")
    assert {*allowed} == ordinary | {"Last-Event-ID"}
    assert "Origin" in run.headers["vary"]


def test_starlette_by_itself_says_ten_minutes() -> None:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=ORIGINS, allow_methods=["POST"])
    run = drive(app, "/", method="OPTIONS", headers=ASKED)
    assert run.headers["access-control-max-age"] == "600"


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({**ASKED, "Origin": STRANGE}, b"Disallowed CORS origin"),
        ({**FROM, "Access-Control-Request-Method": "PUT"}, b"Disallowed CORS method"),
        (
            {**ASKED, "Access-Control-Request-Headers": "authorization"},
            b"Disallowed CORS headers",
        ),
        (
            {**ASKED, "Access-Control-Request-Private-Network": "true"},
            b"Disallowed CORS private-network",
        ),
    ],
)
def test_a_preflight_for_more_is_a_400_that_says_what(
    headers: dict[str, str], what: bytes
) -> None:
    run = preflight(headers)
    assert (run.status, run.body) == (400, what)


def test_a_preflight_needs_no_cookie_and_does_no_work() -> None:
    run = preflight({**ASKED, "Cookie": "customer=forged.0"})
    assert run.status == 200


# What the page says of Starlette


def starlette(allow_origins: list[str], *, allow_credentials: bool) -> Run:
    """Ask an application with other settings, as a strange page with cookies."""
    app = FastAPI()
    app.add_middleware(
        CORSMiddleware, allow_origins=allow_origins, allow_credentials=allow_credentials
    )
    return drive(app, "/openapi.json", headers={"Origin": STRANGE, "Cookie": "a=b"})


def test_a_star_alone_is_sent_as_a_star() -> None:
    run = starlette(["*"], allow_credentials=False)
    assert run.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in run.headers


def test_attack_a_star_with_credentials_reflects_any_origin() -> None:
    """Wrong: a star with credentials lets every origin in."""
    run = starlette(["*"], allow_credentials=True)
    assert run.headers["access-control-allow-origin"] == STRANGE
    assert run.headers["access-control-allow-credentials"] == "true"


def test_only_python_3_14_knows_partitioned_cookies() -> None:
    response = Response()
    printed = 'set_cookie(…, samesite="none", secure=True, partitioned=True)'
    assert f"From Python 3.14 on, `{printed}`" in " ".join(PAGE.split())

    def set_cookie() -> None:
        response.set_cookie("name", "1", samesite="none", secure=True, partitioned=True)

    if sys.version_info >= (3, 14):
        set_cookie()
    else:
        with pytest.raises(ValueError, match=r"Python 3\.14"):
            set_cookie()
        cookie = "name=1; Path=/; SameSite=None; Secure; Partitioned"
        response.headers.append("Set-Cookie", cookie)
    assert "Partitioned" in response.headers["set-cookie"]


def test_the_lifespan_runs_once_and_each_request_finds_what_it_yields() -> None:
    runs: list[bytes] = []
    found: list[bytes] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, bytes]]:
        async with cross_origin.lifespan(app) as state:
            runs.append(state["key"])
            yield state

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def key(request: Request) -> None:
        found.append(request.state.key)

    with TestClient(app) as client:
        client.get("/")
        client.get("/")
    assert runs == [b"of the tests"]
    assert found == runs * 2


def test_an_error_that_nobody_caught_has_no_cors_headers() -> None:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=ORIGINS)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    run = drive(app, "/broken", headers=FROM)
    assert run.status == 500
    assert "access-control-allow-origin" not in run.headers


def test_the_error_that_fastapi_raises_for_a_slow_client_is_dropped() -> None:
    guard = asynccontextmanager(cross_origin.slow_client_may_leave)

    async def use(error: Exception) -> None:
        async with guard():
            raise ExceptionGroup("", [error])

    asyncio.run(use(anyio.BrokenResourceError()))
    with pytest.raises(ExceptionGroup):
        asyncio.run(use(ValueError()))
