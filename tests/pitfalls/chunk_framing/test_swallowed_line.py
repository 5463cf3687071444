"""docs/pitfalls/bytes.md: some lines of my NDJSON upload are missing."""

import pytest
from fastapi import FastAPI

from cookbook.catalog import ROOT
from recipes import chunk_framing
from recipes.pitfalls.chunk_framing import swallowed_line as wrong
from tests.kit.upload import upload

ORDERS = (ROOT / "docs/clients/orders.ndjson").read_bytes()


@pytest.mark.parametrize(
    ("app", "heard"), [(wrong.app, False), (chunk_framing.app, True)]
)
def test_the_sender_hears_of_a_line_that_was_not_taken(
    app: FastAPI, heard: bool
) -> None:
    body = upload(app, "/orders", [ORDERS]).body
    assert body.count(b"8") == 1
    assert (b'"line":2,"error"' in body) == heard
    assert (b'"line":3,"error"' in body) == heard


def test_without_a_line_feed_at_its_end_the_last_order_is_lost_too() -> None:
    assert upload(wrong.app, "/orders", [ORDERS[:-1]]).body == b'{"taken":[5]}'
    assert b'"taken":8' in upload(chunk_framing.app, "/orders", [ORDERS[:-1]]).body
