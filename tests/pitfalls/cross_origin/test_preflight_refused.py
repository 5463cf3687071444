"""docs/pitfalls/around.md: It does not have HTTP ok status."""

import pytest
from fastapi import FastAPI

from recipes import cross_origin
from recipes.pitfalls.cross_origin import preflight_refused as wrong
from tests.kit.asgi import drive

FROM = {"Origin": "http://127.0.0.1:8003"}
ASKED = {
    **FROM,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}
# What the program's docstring asks.
TRIED = {**FROM, "Access-Control-Request-Method": "POST"}
VERSIONS = [(wrong.app, False), (cross_origin.app, True)]


@pytest.mark.parametrize(("app", "right"), VERSIONS)
def test_the_preflight_is_asked_for_a_cookie(app: FastAPI, right: bool) -> None:
    run = drive(app, "/search", method="OPTIONS", headers=ASKED)
    assert run.status == (200 if right else 401)
    assert ("access-control-allow-origin" in run.headers) == right


def test_with_cors_outermost_the_printed_command_gets_a_200(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(
        f"-H '{name}: {value}'" in str(wrong.__doc__) for name, value in TRIED.items()
    )
    guard, cors = wrong.app.user_middleware
    for order, status in (([guard, cors], 401), ([cors, guard], 200)):
        monkeypatch.setattr(wrong.app, "user_middleware", order)
        monkeypatch.setattr(wrong.app, "middleware_stack", None)
        assert (
            drive(wrong.app, "/search", method="OPTIONS", headers=TRIED).status
            == status
        )
        # Without the method Starlette takes it for no preflight.
        assert drive(wrong.app, "/search", method="OPTIONS", headers=FROM).status == 401


@pytest.mark.parametrize(("app", "right"), VERSIONS)
def test_a_page_cannot_read_why_it_was_refused(app: FastAPI, right: bool) -> None:
    # The recipe refuses a cookie that it did not sign, where CORS is around it.
    cookie = {"Cookie": "customer=ada.0"} if right else {}
    json = {"Content-Type": "application/json"}
    body = b'{"text": "tea"}'
    headers = {**FROM, **json, **cookie}
    run = drive(app, "/search", method="POST", headers=headers, body=body)
    assert run.status == 401
    assert ("access-control-allow-origin" in run.headers) == right


def test_with_a_cookie_the_request_itself_would_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross_origin, "PAUSE", 0)
    monkeypatch.setenv("COOKIE_KEY", "of the tests")
    signed = f"ada.{cross_origin.signature(b'of the tests', 'ada')}"
    headers = {**FROM, "Cookie": f"customer={signed}"}
    headers["Content-Type"] = "application/json"
    run = drive(
        wrong.app, "/search", method="POST", headers=headers, body=b'{"text": "tea"}'
    )
    assert run.status == 200
    assert run.headers["access-control-allow-origin"] == FROM["Origin"]


def test_and_it_lets_people_sign_in() -> None:
    run = drive(
        wrong.app,
        "/sign-in",
        method="POST",
        headers={**FROM, "Content-Type": "application/json"},
        body=b'{"name": "ada"}',
    )
    assert run.status == 204
