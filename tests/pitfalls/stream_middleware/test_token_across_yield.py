"""docs/pitfalls/around.md: ValueError: Token was created in a different Context."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from recipes.pitfalls.stream_middleware import token_across_yield as pitfall
from tests.kit.asgi import drive

ROWS = [f"order {number} of ada\n".encode() for number in (1, 2, 3)]


@pytest.mark.parametrize(("path", "fails"), [("/orders", True), ("/right", False)])
def test_the_generator_that_put_its_token_back_fails_at_its_end(
    path: str, fails: bool
) -> None:
    run = drive(pitfall.app, path)
    assert run.chunks == ROWS
    assert ("end" in run.journal) == (not fails)
    assert isinstance(run.error, ValueError) == fails
    if fails:
        assert "was created in a different Context" in str(run.error)


def test_the_variable_is_gone_when_the_request_is_over() -> None:
    drive(pitfall.app, "/right")
    assert pitfall.user.get() == "nobody"


def test_opentelemetry_logs_it_and_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = TracerProvider()
    tracer = provider.get_tracer("test")

    async def rows() -> AsyncIterator[int]:
        with tracer.start_as_current_span("rows"):
            yield 1
            yield 2

    async def read() -> list[int]:
        feed = rows()
        first = await anext(feed)
        # The generator's span is current here too, where nobody asked for it.
        assert trace.get_current_span().is_recording()

        async def rest() -> list[int]:
            return [row async for row in feed]

        return [first, *await asyncio.create_task(rest())]

    with caplog.at_level(logging.ERROR, "opentelemetry"):
        assert asyncio.run(read()) == [1, 2]
    assert "Failed to detach context" in caplog.text
    assert "was created in a different Context" in caplog.text
    provider.shutdown()
