"""docs/pitfalls/bytes.md: StreamingResponse is slow with many small rows."""

import pytest
from fastapi import FastAPI

from recipes import csv_export
from recipes.pitfalls.csv_export import row_per_yield as wrong
from tests.kit.asgi import drive


@pytest.mark.parametrize(("app", "chunks"), [(wrong.app, 500), (csv_export.app, 2)])
def test_500_rows_are_500_chunks_or_two(app: FastAPI, chunks: int) -> None:
    run = drive(app, "/orders.csv?rows=500")
    assert len(run.chunks) == chunks
