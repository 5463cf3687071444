"""recipes.csv_export with a second chunk that no buffer on the way can hold."""

from collections.abc import Generator, Iterator
from unittest import mock

from recipes import csv_export
from recipes.csv_export import Order, to_csv

FLOOD = bytes(16 * 1024 * 1024)

app = csv_export.app


def flooding_csv(table: Iterator[Order], *, bom: bool) -> Generator[bytes]:
    """Give the header, and then more than a client that does not read can take."""
    chunks = to_csv(table, bom=bom)
    yield next(chunks)
    yield FLOOD
    yield from chunks


mock.patch.object(csv_export, "to_csv", flooding_csv).start()
