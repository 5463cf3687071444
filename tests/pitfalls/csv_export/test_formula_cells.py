"""docs/pitfalls/bytes.md: Excel runs a formula from my export."""

import csv
import io

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from recipes import csv_export
from recipes.pitfalls.csv_export import formula_cells as wrong


@pytest.mark.parametrize(("app", "runs"), [(wrong.app, True), (csv_export.app, False)])
def test_quoting_alone_leaves_a_formula_a_formula(app: FastAPI, runs: bool) -> None:
    """Attack: Wrong: quoting alone leaves a formula a formula."""
    text = TestClient(app).get("/orders.csv?rows=2000").text
    rows = csv.reader(io.StringIO(text, newline=""))
    typed = [cell for row in rows for cell in row[2:4]]
    assert any(cell.startswith(("=", "-")) for cell in typed) == runs
