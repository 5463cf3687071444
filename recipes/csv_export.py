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
UNSAFE = '/\\"%:*?<>|'  # in a header field, or in a file's name on some system
Rows = Annotated[int, Query(ge=1, le=10_000_000)]
Name = Annotated[str, Query(min_length=1, max_length=100)]
CHUNK = 64 * 1024  # characters gathered before a chunk is sent


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


def orders(rows: int) -> Iterator[Order]:
    """Read the table, a row at a time; put your database cursor here."""
    placed_at = datetime(2026, 1, 1, 9, tzinfo=UTC)
    for n in range(rows):
        who, what, price = CUSTOMERS[n % 4], ITEMS[n % 5], PRICES[n % 5]
        yield Order(n + 1, placed_at, who, what, n % 9 + 1, price)
        placed_at += timedelta(seconds=1)


# --8<-- [start:cells]
FORMULA = frozenset("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")  # OWASP: CSV injection


def as_text(cell: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    return "'" + cell if cell[:1] in FORMULA else cell


# --8<-- [end:cells]
# --8<-- [start:producer]
def to_csv(table: Iterator[Order], *, bom: bool) -> Generator[bytes]:
    """Turn rows into CSV by RFC 4180, in UTF-8, in chunks of about 64 KiB."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(Order._fields)
    yield buffer.getvalue().encode("utf-8-sig" if bom else "utf-8")  # at once, alone
    buffer.seek(buffer.truncate(0))
    for no, at, who, what, count, price in table:
        writer.writerow((no, at.isoformat(), as_text(who), as_text(what), count, price))
        if buffer.tell() >= CHUNK:
            yield buffer.getvalue().encode()
            buffer.seek(buffer.truncate(0))
    yield buffer.getvalue().encode()


# --8<-- [end:producer]
# --8<-- [start:filename]
def attachment(name: str) -> dict[str, str]:
    """Name a download: `filename` for old clients, `filename*` for all (RFC 6266)."""
    safe = "".join(c if c.isprintable() and c not in UNSAFE else "_" for c in name)
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    names = f"filename=\"{plain}\"; filename*=UTF-8''{quote(safe, '')}"
    return {"Content-Disposition": f"attachment; {names}"}


# --8<-- [end:filename]
# --8<-- [start:route]
class CSVResponse(StreamingResponse):
    """A stream of CSV."""

    media_type = "text/csv"


async def open_export(
    answer: Response, rows: Rows = 1_000_000, name: Name = "orders", bom: bool = False
) -> AsyncIterator[Iterator[bytes]]:
    """Give the chunks, and close their producer with the response, complete or not."""
    answer.headers.update(attachment(f"{name}.csv"))
    with closing(to_csv(orders(rows), bom=bom)) as chunks:
        yield chunks


@app.get("/orders.csv", response_class=CSVResponse)
async def export_orders(
    chunks: Annotated[Iterator[bytes], Depends(open_export)],
) -> AsyncIterator[bytes]:
    """Download the orders; Excel takes UTF-8 for what it is only after a BOM."""
    for chunk in chunks:
        yield chunk  # FastAPI lets others have a turn here.


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
