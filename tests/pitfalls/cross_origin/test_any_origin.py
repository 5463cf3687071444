"""docs/pitfalls/around.md: must not be the wildcard '*'."""

import pytest
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from recipes import cross_origin
from recipes.pitfalls.cross_origin import any_origin as wrong
from tests.kit.asgi import drive

STRANGE = "https://evil.example"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing take time."""
    monkeypatch.setattr(cross_origin, "PAUSE", 0)
    monkeypatch.setenv("COOKIE_KEY", "of the tests")


@pytest.mark.parametrize(
    ("app", "right"), [(wrong.app, False), (cross_origin.app, True)]
)
def test_any_page_may_read_what_a_customers_cookie_opens(
    app: FastAPI, right: bool
) -> None:
    signed = f"ada.{cross_origin.signature(b'of the tests', 'ada')}"
    headers = {"Origin": STRANGE, "Cookie": f"customer={signed}"}
    run = drive(app, "/events", headers=headers)
    allowed = run.headers.get("access-control-allow-origin")
    assert allowed == (None if right else STRANGE)
    assert (b'"customer":"ada"' in run.body) != right


def test_a_page_whose_requests_have_no_cookie_reads_a_guests_feed() -> None:
    run = drive(wrong.app, "/events", headers={"Origin": STRANGE})
    assert run.headers["access-control-allow-origin"] == STRANGE
    assert b'"customer":"guest"' in run.body


def test_so_it_does_for_its_preflights() -> None:
    headers = {"Origin": STRANGE, "Access-Control-Request-Method": "POST"}
    run = drive(wrong.app, "/sign-in", method="OPTIONS", headers=headers)
    assert run.status == 200
    assert run.headers["access-control-allow-origin"] == STRANGE


def without_credentials() -> ASGIApp:
    """Make what people have before they add `allow_credentials=True`."""
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    return app


def test_before_it_the_browser_refuses_the_star() -> None:
    run = drive(without_credentials(), "/openapi.json", headers={"Origin": STRANGE})
    assert run.headers["access-control-allow-origin"] == "*"
