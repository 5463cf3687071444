"""docs/pitfalls.md: StreamingResponse is slow with many small rows."""

import pytest

from recipes import csv_export
from recipes.pitfalls import row_per_yield as wrong
from tests.kit.asgi import drive


@pytest.mark.parametrize(("app", "chunks"), [(wrong.app, 500), (csv_export.app, 2)])
def test_500_rows_are_500_chunks_or_two(app: object, chunks: int) -> None:
    assert app in (wrong.app, csv_export.app)
    right = app is csv_export.app
    run = drive(csv_export.app if right else wrong.app, "/orders.csv?rows=500")
    assert len(run.chunks) == chunks
