"""docs/pitfalls/events.md: HTTPException gives status 200 and an empty body."""

from fastapi.testclient import TestClient

from recipes.pitfalls.mid_stream_errors.http_exception_in_generator import app
from tests.kit.asgi import drive

client = TestClient(app, raise_server_exceptions=False)


def test_raised_in_the_generator_it_is_a_200_that_says_nothing() -> None:
    run = drive(app, "/events/zoe")
    assert (run.status, run.body) == (200, b"")
    assert "end" not in run.journal
    assert run.error is not None


def test_raised_in_a_dependency_it_is_a_404_that_says_why() -> None:
    answer = client.get("/checked/zoe")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "There is no such customer."}


def test_both_send_the_orders_of_a_customer_that_is_known() -> None:
    wrong = client.get("/events/ada")
    assert wrong.text == client.get("/checked/ada").text
    assert wrong.text.startswith('data: "green tea"\n\n')
