"""docs/pitfalls/bytes.md: request.stream() inside StreamingResponse hangs."""

import asyncio

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from recipes import chunk_framing
from recipes.pitfalls.chunk_framing import request_read_twice as wrong
from tests.kit.upload import upload

LINES = [b"1\n", b"22\n", b"333\n"]


@pytest.mark.parametrize(
    ("app", "heard"), [(wrong.app, False), (chunk_framing.app, True)]
)
def test_only_one_may_read_the_request(app: FastAPI, heard: bool) -> None:
    # The driver keeps to uvicorn's order: what is asked for first is answered first.
    run = upload(app, "/orders", LINES, stall_at=99)
    assert (b"3" in run.body) == heard
    assert ("end" in run.before("left")) == heard


def test_without_a_response_around_it_the_generator_reads_the_request() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"1\n", "more_body": False}

    async def read() -> list[bytes]:
        request = Request({"type": "http", "headers": []}, receive)
        return [chunk async for chunk in wrong.take_orders(request)]

    assert asyncio.run(read())[0] == b"2 bytes\n"
