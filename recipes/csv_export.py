# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "uvicorn>=0.54"]
# ///
"""Export a table as CSV, any size, in constant memory.

Run it:   uvicorn recipes.csv_export:app
Try it:   curl -N 'http://127.0.0.1:8000/orders.csv?rows=5000'
"""

import csv
import io
import re
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, NamedTuple
from urllib.parse import quote

import uvicorn
from fastapi import Depends, FastAPI, Query, Response
from fastapi.responses import StreamingResponse

app = FastAPI(title="csv_export")


# --8<-- [start:table]
class Order(NamedTuple):
    """One row of the table."""

    id: int
    placed_at: datetime
    customer: str
    item: str
    quantity: int
    price: Decimal


CUSTOMERS = ("Ada", "Zoë", "O'Brien, Pat", '=HYPERLINK("http://evil.example")')
ITEMS = ("green tea", 'tea pot, 12" wide', "honey\n(two jars)", "crème brûlée", "-20%")
PRICES = [Decimal(price) for price in ("3.50", "24.99", "7.80", "4.15", "-5.00")]


def orders(rows: int) -> Generator[Order]:
    """Read the table, a row at a time; put your database cursor here."""
    placed_at = datetime(2026, 1, 1, 9, tzinfo=UTC)
    for number in range(rows):
        customer = CUSTOMERS[number % len(CUSTOMERS)]
        item = ITEMS[number % len(ITEMS)]
        price = PRICES[number % len(PRICES)]
        yield Order(number + 1, placed_at, customer, item, number % 9 + 1, price)
        placed_at += timedelta(seconds=1)


# --8<-- [end:table]
# --8<-- [start:cells]
FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")  # with their wide forms (OWASP)
SEPARATOR = re.compile("([,;|\t\r\n])")  # where some spreadsheet starts a new cell
SKIPPED = ' "\0'  # what a spreadsheet may drop in front of a formula


def as_text(cell: str) -> str:
    """Put an apostrophe before each part of a cell that a spreadsheet could run."""
    if FORMULA.isdisjoint(cell):
        return cell
    safe = ""
    for part in SEPARATOR.split(cell):
        if part.lstrip(SKIPPED)[:1] in FORMULA:
            safe += "'"
        safe += part
    return safe


def cells(order: Order) -> list[object]:
    """Give a row's cells; only what people typed can hold a formula."""
    placed_at = order.placed_at.isoformat()
    customer = as_text(order.customer)
    item = as_text(order.item)
    return [order.id, placed_at, customer, item, order.quantity, order.price]


# --8<-- [end:cells]
# --8<-- [start:producer]
CHUNK = 64 * 1024  # characters gathered before a chunk is sent


def take(buffer: io.StringIO) -> bytes:
    r"""Empty the buffer, and give what it held in UTF-8.

    Half a surrogate pair has no UTF-8: it becomes visible text such as `\ud83c`.
    """
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode("utf-8", "backslashreplace")


def to_csv(table: Iterator[Order], *, bom: bool) -> Generator[bytes]:
    """Give the header, then chunks of about 64 KiB of rows; CSV by RFC 4180."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    if bom:
        buffer.write("\ufeff")
    writer.writerow(Order._fields)
    yield take(buffer)
    for order in table:
        writer.writerow(cells(order))
        if buffer.tell() >= CHUNK:
            yield take(buffer)
    if buffer.tell():
        yield take(buffer)


# --8<-- [end:producer]
# --8<-- [start:filename]
UNSAFE = frozenset('/\\"%:*?<>|')  # in a header field, or in a file's name
LEADING = (".", "-", "~", " ")  # a hidden file, an option, a home folder
DEVICE = re.compile(  # what Windows takes for a device, whatever the ending
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\.|$)", re.IGNORECASE
)


def attachment(name: str) -> str:
    """Say that `name`.csv is to be saved; give the value of Content-Disposition.

    `filename` is for old clients, `filename*` for all others (RFC 6266).
    """
    safe = ""
    for character in name:
        if character in UNSAFE or not character.isprintable():
            safe += "_"
        else:
            safe += character
    if safe.startswith(LEADING) or DEVICE.match(safe):
        safe = "_" + safe
    plain = re.sub("[^ -~]", "_", safe)  # all that is not ASCII
    encoded = quote(safe, safe="")
    return f"attachment; filename=\"{plain}.csv\"; filename*=UTF-8''{encoded}.csv"


# --8<-- [end:filename]
# --8<-- [start:route]
Rows = Annotated[int, Query(ge=1, le=10_000_000)]
# A file's name may have 255 bytes on most systems; a character takes up to four.
Name = Annotated[str, Query(min_length=1, max_length=60)]


class CSVResponse(StreamingResponse):
    """A stream of CSV."""

    media_type = "text/csv"


async def open_export(
    answer: Response, rows: Rows = 1_000_000, name: Name = "orders", bom: bool = False
) -> AsyncIterator[Iterator[bytes]]:
    """Give the chunks; close table and producer with the response, complete or not."""
    answer.headers["Content-Disposition"] = attachment(name)
    with closing(orders(rows)) as table, closing(to_csv(table, bom=bom)) as chunks:
        yield chunks


@app.get("/orders.csv", response_class=CSVResponse)
async def export_orders(
    chunks: Annotated[Iterator[bytes], Depends(open_export)],
) -> AsyncIterator[bytes]:
    """Download the orders; with `bom=true` also Excel sees that this is UTF-8."""
    for chunk in chunks:
        yield chunk  # FastAPI lets other requests run here.


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
