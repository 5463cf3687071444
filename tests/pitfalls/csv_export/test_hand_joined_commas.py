"""docs/pitfalls/bytes.md: CSV columns shift to the right."""

import csv
import io

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.csv_export.hand_joined_commas import app


@pytest.mark.parametrize(
    ("path", "columns"), [("/orders.csv", {3, 4, 5, 6, 7, 8}), ("/quoted.csv", {6})]
)
def test_only_the_writer_keeps_a_cell_in_its_column(
    path: str, columns: set[int]
) -> None:
    text = TestClient(app).get(f"{path}?rows=100").text
    rows = csv.reader(io.StringIO(text, newline=""))
    assert {len(row) for row in rows} == columns
