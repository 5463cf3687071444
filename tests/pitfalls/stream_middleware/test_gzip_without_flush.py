"""docs/pitfalls/around.md: With compression all chunks arrive at once."""

import asyncio
import gzip
import zlib
from types import SimpleNamespace

import pytest
from starlette.types import ASGIApp

from recipes import stream_middleware as recipe
from recipes.pitfalls.stream_middleware import gzip_without_flush as wrong
from tests.kit.asgi import drive

PACKED = {"accept-encoding": "gzip"}


@pytest.mark.parametrize(
    ("app", "count", "first"),
    [(wrong.app, 5, b""), (recipe.app, 6, b'{"id":1,"item":"tea","state":"placed"}\n')],
    ids=["wrong", "right"],
)
def test_no_chunk_but_the_last_can_be_unpacked(
    app: ASGIApp, count: int, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = SimpleNamespace(sleep=lambda _: asyncio.sleep(0))
    monkeypatch.setattr(wrong, "asyncio", pause)
    monkeypatch.setattr(recipe, "PAUSE", 0)
    run = drive(app, "/orders", headers=PACKED)
    assert run.headers["content-encoding"] == "gzip"
    assert zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(run.chunks[0]) == first
    assert gzip.decompress(run.body).count(b"\n") == count
    if app is wrong.app:
        # The first chunk is what curl counts: the header of the gzip format.
        assert len(run.chunks[0]) == 10
        assert len(run.chunks) == 2


def test_a_length_that_no_longer_holds_is_left_out() -> None:
    run = drive(wrong.app, "/openapi.json")
    assert "content-length" not in run.headers
    assert b"openapi" in gzip.decompress(run.body)
