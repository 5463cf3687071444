"""docs/recipes/cross_origin.md: pages of other origins, in a browser."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.changed import changed
from tests.kit.cross_origin import bare_page, site
from tests.kit.nginx import nginx
from tests.kit.servers import Server, free_port, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

WATCHED = "tests.servers.watched_cross_origin"
WRONG = "recipes.pitfalls.cross_origin"
HERE = "cross_origin.html"
JSON = {"method": "POST", "body": '{"text": "tea"}'}
JSON |= {"headers": {"content-type": "application/json"}}  # type: ignore[dict-item]
# What a page gets: the status and the body, or the error that it is told.
FETCH = """async ([url, init]) => {
    try {
        const response = await fetch(url, init);
        return [response.status, await response.text()];
    } catch (error) { return String(error); }
}"""
# The first messages of a feed, or the state of the EventSource that failed.
LISTEN = """([url, withCredentials, many]) => new Promise((done) => {
    const got = [];
    const source = new EventSource(url, { withCredentials });
    source.onmessage = (event) => {
        got.push(event.data);
        if (got.length === many) { source.close(); done(got); }
    };
    source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) done("closed");
    };
})"""
# The same in a frame that may run scripts, but has no origin: any page can make one.
FRAMED = """([url, withCredentials]) => new Promise((done) => {
    onmessage = (event) => done([event.origin, event.data]);
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>
        const source = new EventSource("${url}", {withCredentials: ${withCredentials}});
        source.onmessage = (event) => parent.postMessage(event.data, "*");
        source.onerror = () => parent.postMessage("refused", "*");
    <\\/script>`;
    document.body.append(frame);
})"""
BLOCKED = "has been blocked by CORS policy"
FAILED = "TypeError: Failed to fetch"
ADA = '{"customer":"ada","state":"placed"}'
GUEST = '{"customer":"guest","state":"placed"}'


@dataclass
class Origins:
    """The recipe, a page of its list, and pages that are strangers."""

    api: Server
    other: Server  # the same list, but other answers
    any_origin: Server  # the wrong version
    null_origin: Server
    listed: str
    strange: str  # of the same site, because a site has no port

    @property
    def elsewhere(self) -> str:
        """A stranger of another site."""
        return self.strange.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origins]:
    """Run them all, once."""
    folder = tmp_path_factory.mktemp("pages")
    ports = free_port(), free_port()
    listed, strange = (f"http://127.0.0.1:{port}" for port in ports)
    elsewhere = listed.replace("127.0.0.1", "localhost")
    with ExitStack() as stack:
        run = stack.enter_context
        api = run(uvicorn(f"{WATCHED}:app", env={"ORIGINS": listed}))
        both = {"ORIGINS": f"{listed} {elsewhere}"}
        other = run(uvicorn(f"{WATCHED}:other", env=both))
        any_origin = run(uvicorn(f"{WRONG}.any_origin:app"))
        null_origin = run(uvicorn(f"{WRONG}.null_origin:app"))
        for port in ports:
            run(site(folder / str(port), port, api.url))
        yield Origins(api, other, any_origin, null_origin, listed, strange)


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """Give a page without cookies; the test expects what its console says."""
    with bare_page(chromium) as (page, _):
        yield page


def asked(server: Server, what: str) -> int:
    """Count the requests of a kind in the server's log."""
    return server.output().count(f'"{what} ')


def sign_in(page: Page, listed: str, api: str) -> None:
    """Sign in as Ada on a page of the list."""
    page.goto(f"{listed}/{HERE}")
    init = {**JSON, "body": '{"name": "ada"}', "credentials": "include"}
    status, _ = page.evaluate(FETCH, [f"{api}/sign-in", init])
    assert status == 204


# The page of the list


def test_the_page_hears_the_customers_feed_only_with_cookies(
    origins: Origins, tab: Page
) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    tab.get_by_role("button", name="Events with cookies").click()
    expect(tab.locator("#status")).to_have_text("The feed is complete.")
    expect(tab.locator("li").first).to_have_text("guest: placed")
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.locator("#status")).to_have_text("Signed in.")
    for button, name in (("Events with cookies", "ada"), ("Events without", "guest")):
        tab.get_by_role("button", name=button).click()
        expect(tab.locator("#status")).to_have_text("The feed is complete.")
        states = ["placed", "paid", "packed", "shipped", "delivered"]
        expect(tab.locator("li")).to_have_text([f"{name}: {state}" for state in states])


def test_the_page_reads_a_search_and_its_exposed_header(
    origins: Origins, tab: Page
) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    tab.get_by_role("button", name="Search").click()
    expect(tab.locator("#status")).to_have_text("4 of 4")
    expect(tab.locator("li")).to_have_text(["tea", "teapot", "teaspoon", "iced tea"])


def test_it_shows_what_has_arrived_while_the_rest_is_not_made(
    tab: Page, tmp_path: Path
) -> None:
    port = free_port()
    env = {"ORIGINS": f"http://127.0.0.1:{port}", "PAUSE": "3600"}
    with (
        uvicorn(f"{WATCHED}:app", env=env) as slow,
        site(tmp_path / "site", port, slow.url),
    ):
        tab.goto(f"http://127.0.0.1:{port}/{HERE}")
        tab.get_by_role("button", name="Search").click()
        expect(tab.locator("#status")).to_have_text("1 of 4")
        expect(tab.locator("li")).to_have_text(["tea"])
        tab.get_by_role("button", name="Events without").click()
        expect(tab.locator("#status")).to_have_text("Connected.")
        expect(tab.locator("li")).to_have_text(["guest: placed"])
        tab.goto("about:blank")  # else the page would report that the server is gone


def test_other_headers_are_hidden_from_it(origins: Origins, tab: Page) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    names = tab.evaluate(
        "async ([url, init]) => [...(await fetch(url, init)).headers.keys()]",
        [f"{origins.api.url}/search", JSON],
    )
    # These are always readable (Fetch standard, CORS-safelisted response-header name).
    assert names == ["cache-control", "content-type", "x-total"]


def test_fetch_leaves_the_cookie_at_home_unless_told(
    origins: Origins, tab: Page
) -> None:
    sign_in(tab, origins.listed, origins.api.url)
    url = f"{origins.api.url}/events"
    assert GUEST in tab.evaluate(FETCH, [url, {}])[1]
    assert ADA in tab.evaluate(FETCH, [url, {"credentials": "include"}])[1]


def test_no_script_can_read_the_cookie(origins: Origins, tab: Page) -> None:
    sign_in(tab, origins.listed, origins.api.url)
    assert tab.evaluate("document.cookie") == ""
    (cookie,) = tab.context.cookies()
    assert (cookie["httpOnly"], cookie["secure"]) == (True, True)
    assert cookie["sameSite"] == "Lax"


def test_a_cookie_goes_to_every_port_of_its_host(origins: Origins, tab: Page) -> None:
    sign_in(tab, origins.listed, origins.api.url)
    init = {"credentials": "include"}
    url = f"{origins.any_origin.url}/events"
    # Another process, which has signed with another key.
    assert tab.evaluate(FETCH, [url, init]) == [401, '{"detail":"Sign in again."}']
    sign_in(tab, origins.listed, origins.any_origin.url)
    assert ADA in tab.evaluate(FETCH, [url, init])[1]
    (only,) = tab.context.cookies()
    assert only["domain"] == "127.0.0.1"


# Strange pages


def test_attack_a_strange_page_reads_nothing(
    origins: Origins, chromium: Browser
) -> None:
    """A strange page asks from the browser: it reads nothing."""
    url = f"{origins.api.url}/events"
    with bare_page(chromium) as (page, said):
        sign_in(page, origins.listed, origins.api.url)
        for stranger in (origins.strange, origins.elsewhere):
            page.goto(f"{stranger}/{HERE}")
            assert page.evaluate(LISTEN, [url, True, 1]) == "closed"
            assert page.evaluate(FETCH, [url, {"credentials": "include"}]) == FAILED
            refused = [line for line in said if BLOCKED in line]
            assert len(refused) == 2
            assert all("No 'Access-Control-Allow-Origin' header" in x for x in refused)
            said.clear()
        page.goto(f"{origins.strange}/{HERE}")
        page.get_by_role("button", name="Events with cookies").click()
        expect(page.locator("#status")).to_have_text("Refused. The console says why.")


def test_attack_a_star_with_credentials_gives_it_the_customers_feed(
    origins: Origins, tab: Page
) -> None:
    """Wrong: with a star and credentials a strange page reads the customer's feed."""
    url = f"{origins.any_origin.url}/events"
    sign_in(tab, origins.listed, origins.any_origin.url)
    tab.goto(f"{origins.strange}/{HERE}")
    assert tab.evaluate(LISTEN, [url, True, 1]) == [ADA]
    assert ADA in tab.evaluate(FETCH, [url, {"credentials": "include"}])[1]


def test_a_lax_cookie_stays_in_its_site_but_a_site_has_no_port(
    origins: Origins, tab: Page
) -> None:
    url = f"{origins.any_origin.url}/events"
    sign_in(tab, origins.listed, origins.any_origin.url)
    tab.goto(f"{origins.elsewhere}/{HERE}")
    # The star lets it read, but Lax has kept the cookie back.
    assert tab.evaluate(LISTEN, [url, True, 1]) == [GUEST]


def test_attack_a_request_that_is_no_cors_request_gets_a_403(
    origins: Origins, tab: Page
) -> None:
    """A request without CORS from a strange page: 403."""
    sign_in(tab, origins.listed, origins.api.url)
    tab.goto(f"{origins.strange}/{HERE}")
    before = asked(origins.api, "GET /events")
    url = f"{origins.api.url}/events"
    init = {"mode": "no-cors", "credentials": "include"}
    assert tab.evaluate(FETCH, [url, init]) == [0, ""]
    assert asked(origins.api, "GET /events") == before + 1
    assert origins.api.output().rstrip().endswith("403 Forbidden")
    with tab.expect_navigation() as link:
        tab.evaluate("url => { location.href = url; }", url)
    assert link.value.status == 403


@pytest.mark.parametrize("signed_in", [False, True])
def test_attack_a_sandboxed_frame_has_the_origin_null(
    origins: Origins, tab: Page, signed_in: bool
) -> None:
    """A sandboxed frame asks as `null`: refused, unless it is listed."""
    if signed_in:
        sign_in(tab, origins.listed, origins.api.url)
    tab.goto(f"{origins.strange}/{HERE}")
    right, wrong = f"{origins.api.url}/events", f"{origins.null_origin.url}/events"
    assert tab.evaluate(FRAMED, [right, "true"]) == ["null", "refused"]
    got = tab.evaluate(FRAMED, [wrong, "false"])
    assert got == ["null", '{"customer":"office","state":"placed"}']


def test_a_page_that_is_opened_from_disk_has_it_too(
    origins: Origins, tab: Page, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><link rel=icon href='data:,'>", "utf-8")
    tab.goto(path.as_uri())
    assert tab.evaluate(LISTEN, [f"{origins.api.url}/events", False, 1]) == "closed"
    url = f"{origins.null_origin.url}/events"
    assert "office" in tab.evaluate(LISTEN, [url, False, 1])[0]


# Cookies of another site


def test_only_a_partitioned_cookie_goes_along_from_another_site(
    origins: Origins, tab: Page
) -> None:
    url = f"{origins.other.url}/cookies"
    ask, post = {"credentials": "include"}, {"credentials": "include", "method": "POST"}
    tab.goto(f"{origins.listed}/{HERE}")
    assert tab.evaluate(FETCH, [url, post])[0] == 200
    assert tab.evaluate(FETCH, [url, ask]) == [200, '["apart","lax","none"]']
    # From another site none of them goes along; it has a jar of its own.
    tab.goto(f"{origins.listed.replace('127.0.0.1', 'localhost')}/{HERE}")
    assert tab.evaluate(FETCH, [url, ask]) == [200, "[]"]
    assert tab.evaluate(FETCH, [url, post])[0] == 200
    assert tab.evaluate(FETCH, [url, ask]) == [200, '["apart"]']


def test_a_browser_refuses_a_star_for_a_request_with_cookies(
    origins: Origins, chromium: Browser
) -> None:
    env = {"ORIGINS": "*", "CREDENTIALS": "no"}
    with (
        uvicorn(f"{WATCHED}:other", env=env) as server,
        bare_page(chromium) as (page, said),
    ):
        page.goto(f"{origins.listed}/{HERE}")
        url = f"{server.url}/id?id_=1"
        assert page.evaluate(FETCH, [url, {}])[0] == 200
        assert page.evaluate(FETCH, [url, {"credentials": "include"}]) == FAILED
        # The heading of the page of pitfalls is the browser's own sentence.
        pitfalls = (ROOT / "docs/pitfalls/around.md").read_text("utf-8")
        headings = [x[3:] for x in pitfalls.splitlines() if x.startswith("## ")]
        assert headings[0] in said[0]
        assert page.evaluate(LISTEN, [url, True, 1]) == "closed"


def test_without_allow_credentials_the_cookie_is_sent_and_the_answer_hidden(
    origins: Origins, chromium: Browser
) -> None:
    env = {"ORIGINS": origins.listed, "CREDENTIALS": "no"}
    with (
        uvicorn(f"{WATCHED}:other", env=env) as server,
        bare_page(chromium) as (page, said),
    ):
        sign_in(page, origins.listed, origins.api.url)
        url = f"{server.url}/cookies"
        assert page.evaluate(FETCH, [url, {"credentials": "include"}]) == FAILED
        assert "'Access-Control-Allow-Credentials' header" in said[0]
        assert asked(server, "GET /cookies") == 1


def test_a_proxy_that_adds_the_header_again_spoils_it(
    origins: Origins, chromium: Browser
) -> None:
    again = f"add_header Access-Control-Allow-Origin {origins.listed} always;"
    location = f"location / {{ proxy_pass {origins.api.url}; {again} }}"
    with nginx(location) as proxy, bare_page(chromium) as (page, said):
        page.goto(f"{origins.listed}/{HERE}")
        assert page.evaluate(FETCH, [f"{proxy.url}/events", {}]) == FAILED
        assert "contains multiple values" in said[0]


# Preflights


def test_a_browser_asks_once_in_two_hours(origins: Origins, tab: Page) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    before = asked(origins.api, "OPTIONS /search"), asked(origins.api, "POST /search")
    for _ in range(3):
        assert tab.evaluate(FETCH, [f"{origins.api.url}/search", JSON])[0] == 200
    assert asked(origins.api, "OPTIONS /search") == before[0] + 1
    assert asked(origins.api, "POST /search") == before[1] + 3
    # For each address, and with or without cookies, it asks anew.
    tab.evaluate(
        FETCH, [f"{origins.api.url}/search", {**JSON, "credentials": "include"}]
    )
    assert asked(origins.api, "OPTIONS /search") == before[0] + 2
    tab.evaluate(FETCH, [f"{origins.api.url}/search?page=2", JSON])
    assert asked(origins.api, "OPTIONS /search?page=2") == 1


def test_without_the_max_age_it_asks_each_time(origins: Origins, tab: Page) -> None:
    env = {"ORIGINS": origins.listed, "MAX_AGE": "0"}
    with uvicorn(f"{WATCHED}:other", env=env) as server:
        tab.goto(f"{origins.listed}/{HERE}")
        for _ in range(3):
            tab.evaluate(FETCH, [f"{server.url}/json", JSON])
        assert asked(server, "OPTIONS /json") == 3
        assert asked(server, "POST /json") == 3


def test_a_get_and_an_event_source_need_none(origins: Origins, tab: Page) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    url = f"{origins.api.url}/events"
    before = asked(origins.api, "OPTIONS /events")
    tab.evaluate(FETCH, [url, {"credentials": "include"}])
    tab.evaluate(LISTEN, [url, True, 1])
    assert asked(origins.api, "OPTIONS /events") == before


def test_a_refused_preflight_keeps_the_request_at_home(
    origins: Origins, chromium: Browser
) -> None:
    with bare_page(chromium) as (page, said):
        page.goto(f"{origins.listed}/{HERE}")
        before = asked(origins.api, "GET /events")
        init = {"headers": {"Authorization": "Bearer x"}}
        url = f"{origins.api.url}/events"
        assert page.evaluate(FETCH, [url, init]) == FAILED
        assert asked(origins.api, "GET /events") == before
        assert "It does not have HTTP ok status" in said[0]


# Last-Event-ID


def test_an_event_source_sends_any_id_without_a_preflight(
    origins: Origins, tab: Page
) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    for sent in ("paid", "x" * 128, "x" * 129, "x" * 20_000, "Zoë", "注文", 'a"(b)'):
        url = f"{origins.other.url}/id?id_={sent}"
        _, came = tab.evaluate(LISTEN, [url, False, 2])
        assert tab.evaluate("JSON.parse", came) == sent
    assert asked(origins.other, "OPTIONS /id") == 0


def test_after_a_proxy_refused_a_long_id_it_does_not_connect_again(
    origins: Origins, tab: Page
) -> None:
    with nginx(f"location / {{ proxy_pass {origins.other.url}; }}") as proxy:
        tab.goto(f"{origins.listed}/{HERE}")
        url = f"{proxy.url}/id?id_=x&times="
        assert len(tab.evaluate(LISTEN, [f"{url}7000", False, 2])) == 2
        assert tab.evaluate(LISTEN, [f"{url}9000", False, 2]) == "closed"


def test_fetch_needs_a_preflight_for_it_and_the_servers_leave(
    origins: Origins, tab: Page
) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    init = {"headers": {"Last-Event-ID": "shipped"}}
    before = asked(origins.api, "OPTIONS /events")
    status, body = tab.evaluate(FETCH, [f"{origins.api.url}/events", init])
    assert (status, body.count("data:")) == (200, 1)
    assert asked(origins.api, "OPTIONS /events") == before + 1
    assert tab.evaluate(FETCH, [f"{origins.other.url}/id?id_=1", init]) == FAILED


def test_after_the_end_an_event_source_stays_away(origins: Origins, tab: Page) -> None:
    tab.goto(f"{origins.listed}/{HERE}")
    # It asks for a sixth message, so it connects again after the fifth.
    url = f"{origins.api.url}/events"
    assert tab.evaluate(LISTEN, [url, False, 6]) == "closed"
    assert origins.api.output().count("204 No Content") >= 1


# Private networks


@pytest.mark.parametrize("allowed", [False, True])
def test_a_public_page_may_ask_this_machine_only_if_the_user_agrees(
    origins: Origins, chromium: Browser, allowed: bool
) -> None:
    permissions = ["local-network-access"] if allowed else []
    with bare_page(chromium, permissions) as (page, said):
        # Chromium treats a page with this policy as one of a public address.
        page.route(
            "**/public",
            lambda route: route.fulfill(
                body="<!doctype html><link rel=icon href='data:,'>",
                headers={
                    "content-type": "text/html",
                    "content-security-policy": "treat-as-public-address",
                },
            ),
        )
        page.goto(f"{origins.listed}/public")
        page.unroute_all()
        before = asked(origins.api, "GET /events")
        preflights = asked(origins.api, "OPTIONS /events")
        url = f"{origins.api.url}/events"
        found = page.evaluate(FETCH, [url, {}])
        if allowed:
            assert found[0] == 200
            # It asks the user, and no longer the server.
            assert asked(origins.api, "OPTIONS /events") == preflights
        else:
            assert found == FAILED
            assert "access the `loopback` address space" in said[0]
            assert asked(origins.api, "GET /events") == before


# Break it


@pytest.mark.parametrize("is_broken", [False, True])
def test_break_it_the_list_is_not_what_decides_about_cookies(
    is_broken: bool, tab: Page, tmp_path: Path
) -> None:
    old = 'ORIGINS = ["http://127.0.0.1:8003"]'
    new = 'ORIGINS = ["http://localhost:8003"]'
    folder = changed(tmp_path, "cross_origin", old, new if is_broken else old)
    port = free_port()
    recipe = folder / "recipes/cross_origin.py"
    recipe.write_text(recipe.read_text("utf-8").replace("8003", str(port)), "utf-8")
    host = "localhost" if is_broken else "127.0.0.1"
    with (
        uvicorn("recipes.cross_origin:app", cwd=folder) as api,
        site(tmp_path / "site", port, api.url),
    ):
        tab.goto(f"http://{host}:{port}/{HERE}")
        tab.get_by_role("button", name="Sign in").click()
        expect(tab.locator("#status")).to_have_text("Signed in.")
        tab.get_by_role("button", name="Events with cookies").click()
        name = "guest" if is_broken else "ada"
        expect(tab.locator("li").first).to_have_text(f"{name}: placed")
