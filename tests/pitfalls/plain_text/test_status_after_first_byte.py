"""docs/pitfalls/bytes.md: Caught handled exception, but response already started."""

import pytest
from fastapi.testclient import TestClient

from recipes import plain_text
from recipes.pitfalls.plain_text import status_after_first_byte as wrong


@pytest.mark.parametrize("right", [False, True])
def test_a_missing_order_is_a_404_only_if_it_is_looked_up_before(right: bool) -> None:
    app, path = (plain_text.app, "/async/7") if right else (wrong.app, "/slip/7")
    response = TestClient(app, raise_server_exceptions=False).get(path)
    assert response.status_code == (404 if right else 200)
    assert bool(response.content) == right


def test_an_order_that_exists_hides_the_mistake() -> None:
    assert TestClient(wrong.app).get("/slip/1").text == "green tea\n"


def test_the_server_reports_that_the_answer_had_begun() -> None:
    message = "Caught handled exception, but response already started"
    with pytest.raises(RuntimeError, match=message):
        TestClient(wrong.app).get("/slip/7")
