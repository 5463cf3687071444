"""recipes.csv_export with a table that breaks when it has given 2,000 rows."""

from collections.abc import Iterator
from unittest import mock

from recipes import csv_export
from recipes.csv_export import Order, orders

app = csv_export.app


def failing_orders(rows: int) -> Iterator[Order]:
    """Read the table as far as it can be read."""
    for order in orders(rows):
        if order.id > 2000:
            raise OSError("the table is gone")
        yield order


mock.patch.object(csv_export, "orders", failing_orders).start()
