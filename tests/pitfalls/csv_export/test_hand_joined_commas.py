"""docs/pitfalls/bytes.md: CSV columns shift to the right."""

import csv
import io

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from recipes import csv_export
from recipes.pitfalls.csv_export import hand_joined_commas


@pytest.mark.parametrize(
    ("app", "columns"),
    [(hand_joined_commas.app, {3, 4, 5, 6, 7, 8}), (csv_export.app, {6})],
    ids=["wrong", "right"],
)
def test_only_the_writer_keeps_a_cell_in_its_column(
    app: FastAPI, columns: set[int]
) -> None:
    text = TestClient(app).get("/orders.csv?rows=100").text
    rows = csv.reader(io.StringIO(text, newline=""))
    assert {len(row) for row in rows} == columns
