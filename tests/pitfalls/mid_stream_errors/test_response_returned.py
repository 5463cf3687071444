"""docs/pitfalls/events.md: TypeError: 'coroutine' object is not iterable."""

import asyncio
import gc

import pytest
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient

from recipes.pitfalls.mid_stream_errors.response_returned import app, feed
from tests.kit.asgi import Run, drive


def check_and_collect(run: Run) -> None:
    """See that the answer is empty, and why; then forget it."""
    assert (run.status, run.body) == (200, b"")
    assert "end" not in run.journal
    assert isinstance(run.error, ExceptionGroup)
    said = [str(error) for error in run.error.exceptions]
    assert said == ["'coroutine' object is not iterable"]
    run.error = None
    gc.collect()


def test_a_response_that_is_returned_is_never_sent() -> None:
    # Nobody awaits the endpoint, and Python says so when the coroutine is collected.
    with pytest.warns(RuntimeWarning, match="never awaited"):
        check_and_collect(drive(app, "/events"))


def test_what_is_yielded_is_sent() -> None:
    answer = TestClient(app).get("/yielded-events")
    assert answer.text == 'data: "green tea"\n\n'


def test_called_by_hand_the_endpoint_would_give_a_response() -> None:
    assert isinstance(asyncio.run(feed()), EventSourceResponse)
