"""docs/assets/live.js: the panel's switch "through a buffering proxy"."""

import re
from collections.abc import Iterator
from functools import partial

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from cookbook import buffering
from cookbook.proxy import nginx
from tests.browser.test_live_panel import Site, fact, panels, run, serving, text
from tests.kit.servers import need, until
from tests.test_buffering import listens

pytestmark = pytest.mark.timeout(60)  # seconds; a browser is started

NO_INDEX = "404 (Not Found)"  # a static site has no live/index.json


@pytest.fixture
def site(page: Page) -> Iterator[Site]:
    with serving(live=True) as running:
        yield running
        page.close()


@pytest.fixture
def proxy(site: Site) -> Iterator[str]:
    """Give the address of a real nginx in front of the site."""
    if nginx() is None:
        need("nginx", "pip install -e '.[servers]', or apt-get install nginx")
    with buffering.running(site.listener.getsockname()[1]) as address:
        assert address is not None
        port = int(address.rpartition(":")[2])
        until(partial(listens, port), "nginx")
        yield address


def switch(panel: Locator) -> Locator:
    return panel.get_by_role("checkbox", name="through a buffering proxy")


def has_made(site: Site, number: int) -> bool:
    return site.gate.made == number


def nothing_comes_before_the_end(panel: Locator, site: Site) -> None:
    """Run the stream of the gate: both lines are shown when it has ended."""
    run(panel)
    for number, line in enumerate(("one\n", "two\n"), start=1):
        site.gate.make(line)
        until(partial(has_made, site, number), f"line {number}")
    expect(panel).to_have_attribute("data-state", "running")
    expect(fact(panel, "chunks")).to_have_text("0")
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")
    expect(text(panel)).to_have_text("one\ntwo\n")
    expect(fact(panel, "chunks")).to_have_text("1")


def test_through_a_real_nginx_everything_comes_at_the_end(
    page: Page, site: Site, proxy: str
) -> None:
    index = {"recipes": site.index, "provider": None, "buffering": proxy}
    page.route("**/live/index.json", lambda route: route.fulfill(json=index))
    (panel,) = panels(page, site, "gate /text")
    switch(panel).check()
    expect(panel.get_by_text("nginx stands between")).to_be_visible()
    nothing_comes_before_the_end(panel, site)


def test_without_a_proxy_the_panel_holds_the_stream_back_and_says_so(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /text")
    said = panel.get_by_text("No such proxy is here, so this panel holds the stream")
    expect(said).to_be_hidden()
    switch(panel).check()
    expect(said).to_be_visible()
    nothing_comes_before_the_end(panel, site)


def test_a_full_buffer_is_passed_on_although_the_stream_goes_on(
    page: Page, site: Site
) -> None:
    (panel,) = panels(page, site, "gate /text")
    switch(panel).check()
    run(panel)
    site.gate.make("x" * 600_000, "y" * 600_000)
    # How much of it is passed on depends on how fast the panel reads.
    expect(fact(panel, "bytes")).to_have_text(re.compile("[0-9]{3},[0-9]{3}"))
    expect(panel).to_have_attribute("data-state", "running")
    site.gate.make(None)
    expect(panel).to_have_attribute("data-state", "done")


def test_both_runs_stand_side_by_side(page: Page, site: Site) -> None:
    (panel,) = panels(page, site, "gate /text")
    run(panel)
    site.gate.make("one\n", None)
    expect(panel).to_have_attribute("data-state", "done")
    switch(panel).check()
    run(panel)
    site.gate.make("one\n", None)
    expect(panel).to_have_attribute("data-state", "done")
    titles = panel.locator(".lp-title code")
    expect(titles).to_have_text(["GET /text · through a buffering proxy", "GET /text"])


def test_a_recording_is_shown_as_it_would_arrive(
    page: Page, page_errors: list[str]
) -> None:
    with serving(live=False) as static:
        (panel,) = panels(page, static, "poem /poem")
        run(panel)
        expect(panel).to_have_attribute("data-state", "done")
        expect(fact(panel, "chunks")).to_have_text("4")
        whole = text(panel).text_content()
        switch(panel).check()
        run(panel)
        expect(panel).to_have_attribute("data-state", "done")
        expect(fact(panel, "chunks").first).to_have_text("1")
        assert text(panel).text_content() == whole
        page.close()
    page_errors[:] = [error for error in page_errors if NO_INDEX not in error]


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "http://127.0.0.1:1"]
)
def test_attack_another_page_asks_the_buffering_proxy(
    site: Site, proxy: str, origin: str | None
) -> None:
    """Another page asks the panel's proxy: 403, and no recipe is asked."""
    headers = {"Origin": origin} if origin else {}
    answer = httpx2.post(f"{proxy}/book/live/gate/text", headers=headers)
    assert answer.status_code == 403
    assert not answer.headers.get("access-control-allow-origin")
    assert site.gate.asked == []
    assert httpx2.get(f"{proxy}/book/page", headers=headers).status_code == 404
