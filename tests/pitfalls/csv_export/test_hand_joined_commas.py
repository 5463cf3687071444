"""docs/pitfalls/bytes.md: CSV columns shift to the right."""

import csv
import io
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from recipes.csv_export import CHUNK
from recipes.pitfalls.csv_export.hand_joined_commas import app, to_csv, to_quoted_csv


@pytest.mark.parametrize(
    ("path", "columns"), [("/orders.csv", {3, 4, 5, 6, 7, 8}), ("/quoted.csv", {6})]
)
def test_only_the_writer_keeps_a_cell_in_its_column(
    path: str, columns: set[int]
) -> None:
    text = TestClient(app).get(f"{path}?rows=100").text
    rows = csv.reader(io.StringIO(text, newline=""))
    assert {len(row) for row in rows} == columns


@pytest.mark.parametrize("producer", [to_csv, to_quoted_csv])
def test_neither_holds_the_table(
    producer: Callable[[int], Iterator[str] | Iterator[bytes]],
) -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            assert sum(map(len, producer(rows))) > rows * 40
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < peak(2_000) + CHUNK
