"""docs/pitfalls/bytes.md: json.decoder.JSONDecodeError: Extra data."""

import json

import pytest

from cookbook.catalog import ROOT
from recipes import chunk_framing
from recipes.pitfalls.chunk_framing import parse_per_chunk as wrong
from tests.kit.upload import upload

ORDERS = (ROOT / "docs/clients/orders.ndjson").read_bytes()
LINES = ORDERS.splitlines(keepends=True)
TWO = LINES[0] + LINES[-1]


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ([LINES[0], LINES[-1]], ["taken: 5", "taken: 8"]),
        ([TWO], ["Extra data: line 2 column 1 (char 44)"]),
        (
            [TWO[:10], TWO[10:]],
            [
                "Expecting property name enclosed in double quotes: "
                "line 1 column 11 (char 10)",
                "Extra data: line 1 column 7 (char 6)",
            ],
        ),
    ],
)
def test_what_it_reads_depends_on_where_the_chunks_end(
    chunks: list[bytes], told: list[str]
) -> None:
    run = upload(wrong.app, "/orders", chunks)
    assert json.loads(run.body)["told"] == told
    right = upload(chunk_framing.app, "/orders", chunks)
    taken = [json.loads(line).get("taken") for line in right.body.splitlines()]
    assert taken == [5, 8, None]
