"""docs/recipes/csv_export.md: every claim the page makes, proved against the recipe."""

import csv
import io
import re
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recipes import csv_export
from recipes.csv_export import Order, as_text, attachment, orders, to_csv
from tests.kit.asgi import drive, note

BOM = b"\xef\xbb\xbf"
client = TestClient(csv_export.app)


# --8<-- [start:client]
def download(client: httpx2.Client, path: str, target: Path) -> int:
    """Save an export without ever holding it whole; give its size in bytes."""
    with client.stream("GET", path) as response, target.open("wb") as file:
        response.raise_for_status()
        return sum(file.write(chunk) for chunk in response.iter_bytes())


# --8<-- [end:client]
@pytest.fixture
def noted_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note every row that is read from the table, and when the table is closed."""

    def noted(rows: int) -> Iterator[Order]:
        try:
            for row in orders(rows):
                note("row")
                yield row
        finally:
            note("closed")

    monkeypatch.setattr(csv_export, "orders", noted)


def parse(body: bytes) -> list[list[str]]:
    """Read a CSV file with the standard library, header included."""
    return list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))


def test_the_python_client_saves_the_export_chunk_by_chunk(tmp_path: Path) -> None:
    target = tmp_path / "orders.csv"
    size = download(client, "/orders.csv?rows=2000", target)
    assert size == target.stat().st_size
    assert len(parse(target.read_bytes())) == 2001


def test_it_is_csv_in_utf_8_to_be_downloaded() -> None:
    response = client.get("/orders.csv?rows=1")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    disposition = response.headers["content-disposition"]
    assert (
        disposition
        == "attachment; filename=\"orders.csv\"; filename*=UTF-8''orders.csv"
    )


def test_its_own_documentation_calls_it_csv() -> None:
    answer = client.get("/openapi.json").json()["paths"]["/orders.csv"]["get"]
    assert list(answer["responses"]["200"]["content"]) == ["text/csv"]


def test_these_are_the_bytes_of_a_file() -> None:
    assert client.get("/orders.csv?rows=3").content.decode() == (
        "id,placed_at,customer,item,quantity,price\r\n"
        "1,2026-01-01T09:00:00+00:00,Ada,green tea,1,3.50\r\n"
        '2,2026-01-01T09:00:01+00:00,Zoë,"tea pot, 12"" wide",2,24.99\r\n'
        '3,2026-01-01T09:00:02+00:00,"O\'Brien, Pat","honey\n(two jars)",3,7.80\r\n'
    )


@pytest.mark.usefixtures("noted_rows")
def test_the_header_goes_out_before_the_first_row_is_read() -> None:
    run = drive(csv_export.app, "/orders.csv?rows=5000")
    assert run.chunks[0] == b"id,placed_at,customer,item,quantity,price\r\n"
    assert "row" not in run.before("chunk 1")


@pytest.mark.usefixtures("noted_rows")
def test_a_chunk_of_about_64_kib_carries_about_a_thousand_rows() -> None:
    run = drive(csv_export.app, "/orders.csv?rows=5000")
    assert len(run.chunks) == 7
    assert all(64 * 1024 <= len(chunk) < 66 * 1024 for chunk in run.chunks[1:-1])
    assert 900 < run.before("chunk 2").count("row") < 1100


@pytest.mark.usefixtures("noted_rows")
def test_a_client_that_stops_reading_stops_the_table() -> None:
    run = drive(csv_export.app, "/orders.csv?rows=100000", stall_at=3, disconnect_at=3)
    assert run.before("stall 3").count("row") < 2200
    assert run.journal.count("row") == run.before("stall 3").count("row")


@pytest.mark.usefixtures("noted_rows")
@pytest.mark.parametrize("stall_at", [None, 3])
def test_a_client_that_leaves_stops_the_producer_and_closes_it_at_once(
    stall_at: int | None,
) -> None:
    target = "/orders.csv?rows=100000"
    run = drive(csv_export.app, target, stall_at=stall_at, disconnect_at=3)
    assert run.journal.count("row") < 4400
    assert "closed" in run.before("returned")


@pytest.mark.usefixtures("noted_rows")
def test_a_complete_export_closes_the_producer_too() -> None:
    run = drive(csv_export.app, "/orders.csv?rows=10")
    assert "closed" in run.before("end")


def test_a_table_that_fails_in_mid_stream_breaks_the_download_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(rows: int) -> Iterator[Order]:
        yield from orders(rows)
        raise OSError("the database is gone")

    monkeypatch.setattr(csv_export, "orders", failing)
    run = drive(csv_export.app, "/orders.csv?rows=2000")
    assert (run.status, len(run.chunks)) == (200, 3)
    assert run.journal[-1] == "raised OSError"
    assert "end" not in run.journal


def test_the_memory_it_takes_does_not_grow_with_the_rows() -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            assert sum(map(len, to_csv(orders(rows), bom=False))) > rows * 40
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < peak(2_000) + csv_export.CHUNK


def test_break_it_a_chunk_of_one_character_carries_one_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = client.get("/orders.csv?rows=5000").content
    monkeypatch.setattr(csv_export, "CHUNK", 1)
    chunks = [c for c in csv_export.to_csv(orders(5000), bom=False) if c]
    assert len(chunks) == 5001
    assert b"".join(chunks) == whole


def test_every_cell_can_be_read_back_as_what_it_was() -> None:
    header, *rows = parse(client.get("/orders.csv?rows=100").content)
    assert header == list(Order._fields)
    for cells, order in zip(rows, orders(100), strict=True):
        number, placed_at, customer, item, quantity, price = cells
        assert (int(number), int(quantity)) == (order.id, order.quantity)
        assert datetime.fromisoformat(placed_at) == order.placed_at
        assert Decimal(price) == order.price
        assert customer.removeprefix("'") == order.customer
        assert item.removeprefix("'") == order.item


def test_a_negative_price_stays_a_number() -> None:
    *_, price = parse(client.get("/orders.csv?rows=5").content)[-1]
    assert price == "-5.00"


@pytest.mark.parametrize("first", "=+-@\t\r\n\0＝＋－＠")  # noqa: RUF001
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(first: str) -> None:
    assert as_text(f"{first}1+1") == f"'{first}1+1"


@pytest.mark.parametrize("cell", ["", "Ada", "1-1", "'=1"])
def test_any_other_cell_stays_as_it_is(cell: str) -> None:
    assert as_text(cell) == cell


@pytest.mark.timeout(60)
@given(st.text(), st.text())
def test_no_cell_runs_or_leaves_its_row_whatever_it_holds(who: str, what: str) -> None:
    order = next(orders(1))._replace(customer=who, item=what)
    _, row = parse(b"".join(to_csv(iter([order]), bom=False)))
    assert len(row) == len(Order._fields)
    assert row[2:4] == [as_text(who), as_text(what)]
    assert not set(row[2][:1] + row[3][:1]) & csv_export.FORMULA


@pytest.mark.parametrize("rows", [1, 5000])
def test_a_byte_order_mark_comes_once_at_the_start_if_asked_for(rows: int) -> None:
    body = client.get(f"/orders.csv?rows={rows}&bom=true").content
    assert body.startswith(BOM)
    assert body.count(BOM) == 1
    assert BOM not in client.get(f"/orders.csv?rows={rows}").content


@pytest.mark.timeout(60)
@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_name_makes_a_header_that_forges_nothing(name: str) -> None:
    value = attachment(name)["Content-Disposition"]
    found = re.fullmatch(
        r"attachment; filename=\"([ -~]*)\"; filename\*=UTF-8''([\w.~%-]+)",
        value,
        re.ASCII,
    )
    assert found, value
    assert not set('"\\/%?:*<>|') & set(found[1])
    read = unquote(found[2])
    assert len(read) == len(name)
    pairs = zip(read, name, strict=True)
    assert all(got == asked or got == "_" for got, asked in pairs)
    assert all(c.isprintable() and c not in csv_export.UNSAFE for c in read)


@pytest.mark.parametrize("name", ["Bestellungen für Zoë", "売上", "заказы", "🍵"])
def test_a_name_in_any_script_arrives_whole(name: str) -> None:
    response = client.get("/orders.csv", params={"rows": 1, "name": name})
    assert unquote(response.headers["content-disposition"]).endswith(f"''{name}.csv")


def test_a_name_with_a_line_end_adds_no_header_field() -> None:
    params = {"rows": "1", "name": 'x\r\nSet-Cookie: a=b"; filename="evil.exe'}
    response = client.get("/orders.csv", params=params)
    assert "set-cookie" not in response.headers
    assert response.headers["content-disposition"].count("filename=") == 1 + 1


@pytest.mark.parametrize(
    "query",
    [
        "rows=0",
        "rows=10000001",
        "rows=many",
        "name=",
        f"name={'x' * 101}",
        "bom=perhaps",
    ],
)
def test_a_wrong_parameter_is_refused_before_the_stream_starts(query: str) -> None:
    response = client.get(f"/orders.csv?{query}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", query.split("=")[0]]


def test_the_limits_themselves_are_allowed() -> None:
    assert client.get("/orders.csv?rows=1").status_code == 200
    run = drive(csv_export.app, "/orders.csv?rows=10000000", disconnect_at=2)
    assert run.status == 200


def test_without_a_number_of_rows_it_is_a_million(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def spy(rows: int) -> Iterator[Order]:
        asked.append(rows)
        return iter(())

    monkeypatch.setattr(csv_export, "orders", spy)
    client.get("/orders.csv")
    assert asked == [1_000_000]


def test_another_request_is_answered_between_two_chunks() -> None:
    run = drive(csv_export.app, "/orders.csv?rows=50000", also="/openapi.json")
    assert "/openapi.json end" in run.before("end")


def test_a_route_that_is_a_plain_generator_runs_in_a_thread() -> None:
    app = FastAPI()

    @app.get("/orders.csv", response_class=csv_export.CSVResponse)
    def export() -> Iterator[bytes]:
        note(f"on the loop: {threading.current_thread() is loop}")
        yield b"id\r\n"

    loop = threading.current_thread()
    assert "on the loop: False" in drive(app, "/orders.csv").journal
