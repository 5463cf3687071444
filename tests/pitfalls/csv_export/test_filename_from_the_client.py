"""docs/pitfalls/bytes.md: UnicodeEncodeError in Content-Disposition."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from recipes import csv_export
from recipes.pitfalls.csv_export import filename_from_the_client as wrong
from tests.kit.asgi import drive

APPS = [(wrong.app, False), (csv_export.app, True)]


@pytest.mark.parametrize(("app", "right"), APPS)
def test_a_euro_sign_in_the_name_is_an_error_500(app: FastAPI, right: bool) -> None:
    client = TestClient(app, raise_server_exceptions=False)
    response = client.get("/orders.csv", params={"rows": 1, "name": "100 €"})
    assert response.status_code == (200 if right else 500)


@pytest.mark.parametrize(("app", "right"), APPS)
def test_a_quote_in_the_name_forges_a_second_one(app: FastAPI, right: bool) -> None:
    """Attack: Wrong: a quote in a file name forges a second name."""
    params = {"rows": "1", "name": 'orders"; filename="evil.exe'}
    value = (
        TestClient(app).get("/orders.csv", params=params).headers["content-disposition"]
    )
    assert ('filename="evil.exe' in value) != right


@pytest.mark.parametrize(("app", "right"), APPS)
def test_a_line_end_in_the_name_reaches_the_server_raw(
    app: FastAPI, right: bool
) -> None:
    """Attack: Wrong: a line end in a file name reaches the server raw."""
    run = drive(app, "/orders.csv?rows=1&name=x%0D%0ASet-Cookie:%20a=b")
    assert ("\r\n" in run.headers["content-disposition"]) != right
