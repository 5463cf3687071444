"""docs/recipes/csv_export.md: every claim the page makes, proved against the recipe."""

import csv
import io
import itertools
import re
import sqlite3
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recipes import csv_export
from recipes.csv_export import Order, as_text, attachment, orders, to_csv
from tests.kit.asgi import drive, note

BOM = b"\xef\xbb\xbf"
client = TestClient(csv_export.app)


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
    assert csv_export.CHUNK == 64 * 1024
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


@pytest.mark.usefixtures("noted_rows")
def test_a_server_that_gives_the_export_up_closes_it_too() -> None:
    target = "/orders.csv?rows=100000"
    run = drive(csv_export.app, target, stall_at=3, cancel_at=3)
    assert "closed" in run.before("raised CancelledError")


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


@pytest.mark.parametrize("chunk", [1, 1000, csv_export.CHUNK, 10**9])
def test_the_bytes_are_the_same_whatever_the_size_of_a_chunk(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.get("/orders.csv?rows=2000").content
    monkeypatch.setattr(csv_export, "CHUNK", chunk)
    chunks = list(to_csv(orders(2000), bom=False))
    assert b"".join(chunks) == whole
    assert b"" not in chunks


def test_a_buffer_that_is_exactly_full_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    row = "1,2026-01-01T09:00:00+00:00,Ada,green tea,1,3.50\r\n"
    monkeypatch.setattr(csv_export, "CHUNK", len(row))
    assert list(to_csv(orders(2), bom=False))[1] == row.encode()


def test_half_a_surrogate_pair_is_shown_and_ends_nothing() -> None:
    first, second, third = orders(3)
    table = [first, second._replace(customer="Zo\ud83c", item="\udf75 tea"), third]
    _, *rows = parse(b"".join(to_csv(iter(table), bom=False)))
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[1][2:4] == [r"Zo\ud83c", r"\udf75 tea"]


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


SIGNS = "=+-@＝＋－＠"  # noqa: RUF001 - the wide ones are what a spreadsheet reads


@pytest.mark.parametrize("sign", SIGNS)
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(sign: str) -> None:
    """Attack: A cell begins like a formula: it is made text."""
    assert as_text(f"{sign}1+1") == f"'{sign}1+1"
    assert as_text(f"{sign}1;{sign}1") == f"'{sign}1;'{sign}1"


@pytest.mark.parametrize("separator", [",", ";", "|", "\t", "\r", "\n", "\r\n"])
def test_so_is_what_a_spreadsheet_would_split_off(separator: str) -> None:
    assert as_text(f"x{separator}=1+1") == f"x{separator}'=1+1"
    assert as_text(f"{separator}=1+1{separator}") == f"{separator}'=1+1{separator}"


@pytest.mark.parametrize("skipped", [" ", '"', "\0", '"" '])
@pytest.mark.parametrize("before", ["", "x;"])
def test_blanks_and_quotes_do_not_hide_a_formula(before: str, skipped: str) -> None:
    """Attack: A formula hides behind blanks, quotes or a NUL: it is made text too."""
    assert as_text(f"{before}{skipped}=1+1") == f"{before}'{skipped}=1+1"


@pytest.mark.parametrize(
    "cell",
    ["", "Ada", "1-1", "'=1", "ada@example.com", "tea - green", "a=b;c=d", "\t1"],
)
def test_any_other_cell_stays_as_it_is(cell: str) -> None:
    assert as_text(cell) == cell


def test_a_cell_without_a_sign_is_not_even_taken_apart() -> None:
    cell = "O'Brien, Pat; honey\n(two jars)"
    assert as_text(cell) is cell


def test_an_apostrophe_is_all_that_is_added() -> None:
    assert as_text("=1;x,-2").replace("'", "") == "=1;x,-2"


def test_a_cell_of_a_hundred_thousand_separators_holds_nobody_up() -> None:
    """Attack: A cell of 100,000 separators: it holds nobody up."""
    # The work grows with the cell: a search that begins anew at each needs minutes.
    assert as_text("\n;" * 50_000 + "=") == "\n;" * 50_000 + "'="


typed = st.text(st.sampled_from(" ;,|\t\r\n\0=+-@\"'xÄ") | st.characters())


@pytest.mark.timeout(60)
@given(typed, typed)
def test_no_cell_runs_or_leaves_its_row_whatever_it_holds(who: str, what: str) -> None:
    order = next(orders(1))._replace(customer=who, item=what)
    text = b"".join(to_csv(iter([order]), bom=False)).decode()
    _, row = parse(text.encode())
    assert len(row) == len(Order._fields)
    shown = as_text(who) + "\0" + as_text(what)
    assert row[2] + "\0" + row[3] == visible(shown)
    for splits in ",;|\t":
        lines = [*io.StringIO(text, newline="")]
        quoted = csv.reader(lines, delimiter=splits)
        unquoted = csv.reader(lines, delimiter=splits, quoting=csv.QUOTE_NONE)
        for read in itertools.chain(quoted, unquoted):
            starts = {cell.lstrip(' \t\r\n\0"')[:1] for cell in read}
            assert not starts & set(SIGNS), (splits, read)


def visible(text: str) -> str:
    """Write half a surrogate pair as the export does."""
    return "".join(rf"\u{ord(c):x}" if "\ud800" <= c <= "\udfff" else c for c in text)


@pytest.mark.parametrize("rows", [1, 5000])
def test_a_byte_order_mark_comes_once_at_the_start_if_asked_for(rows: int) -> None:
    body = client.get(f"/orders.csv?rows={rows}&bom=true").content
    assert body.startswith(BOM)
    assert body.count(BOM) == 1
    assert BOM not in client.get(f"/orders.csv?rows={rows}").content


def names(value: str) -> tuple[str, str]:
    """Read the two names in a Content-Disposition; AssertionError if it is no such."""
    found = re.fullmatch(
        r"attachment; filename=\"([ -~]*)\"; filename\*=UTF-8''([\w.~%-]+)",
        value,
        re.ASCII,
    )
    assert found, value
    return found[1], unquote(found[2], errors="strict")


DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"
}


@pytest.mark.timeout(60)
@given(st.text(min_size=1, max_size=60) | st.sampled_from(sorted(DEVICES)))
def test_any_name_makes_a_header_that_forges_nothing(name: str) -> None:
    """Attack: A file name of any signs: it forges neither a header field nor a path."""
    plain, full = names(attachment(name))
    for read in (plain, full):
        assert read.endswith(".csv")
        assert not set('"\\/%?:*<>|') & set(read)
        assert read[0] not in " .~-"
        assert read.split(".")[0].rstrip().upper() not in DEVICES
        assert len(read.encode()) <= 255
        assert read.isprintable()
    kept = full.removesuffix(".csv")[-len(name) :]
    pairs = zip(kept, name, strict=True)
    assert all(got == asked or got == "_" for got, asked in pairs)
    assert len(full) - len(name) in {len(".csv"), len("_.csv")}


@pytest.mark.parametrize("name", ["Bestellungen für Zoë", "売上", "заказы", "🍵"])
def test_a_name_in_any_script_arrives_whole(name: str) -> None:
    response = client.get("/orders.csv", params={"rows": 1, "name": name})
    assert names(response.headers["content-disposition"])[1] == f"{name}.csv"


@pytest.mark.parametrize(
    "name",
    [
        *(".htaccess", "..", "-rf", "~root", " x"),
        *("CON", "nul", "Aux.txt", "prn ", "COM1.txt", "lpt9", "COM¹", "COM0"),
        *("conin$", "CONOUT$", "con.", "CON ."),
    ],
)
def test_a_name_that_hurts_on_some_system_gets_a_line_in_front(name: str) -> None:
    """Attack: A file name is a device or an option: it gets a line in front."""
    plain, full = names(attachment(name))
    assert full == f"_{name}.csv"
    assert plain == full.replace("¹", "_")


@pytest.mark.parametrize(
    "name", ["CONcert", "xCON", "COM10", "a-rf", "orders.2026", "_"]
)
def test_any_other_name_gets_nothing_in_front(name: str) -> None:
    assert names(attachment(name)) == (f"{name}.csv", f"{name}.csv")


@pytest.mark.parametrize("name", ["orders.", "orders ", "orders. ."])
def test_no_name_ends_in_a_dot_or_a_space(name: str) -> None:
    # Windows drops both, so that `x.exe.` would become `x.exe`.
    assert names(attachment(name)) == (f"{name}.csv", f"{name}.csv")


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
        f"name={'x' * 61}",
        "bom=perhaps",
    ],
)
def test_a_wrong_parameter_is_refused_before_the_stream_starts(query: str) -> None:
    response = client.get(f"/orders.csv?{query}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", query.split("=")[0]]


def test_the_limits_themselves_are_allowed() -> None:
    assert client.get(f"/orders.csv?rows=1&name={'x' * 60}").status_code == 200
    run = drive(csv_export.app, "/orders.csv?rows=10000000", disconnect_at=2)
    assert run.status == 200


def test_without_a_number_of_rows_it_is_a_million(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def spy(rows: int) -> Iterator[Order]:
        asked.append(rows)
        yield from ()

    monkeypatch.setattr(csv_export, "orders", spy)
    client.get("/orders.csv")
    assert asked == [1_000_000]


def test_another_request_is_answered_between_two_chunks() -> None:
    run = drive(csv_export.app, "/orders.csv?rows=50000", also="/openapi.json")
    assert "/openapi.json end" in run.before("end")


def test_ten_million_rows_are_about_seven_hundred_megabytes() -> None:
    rows = 5_000
    size = sum(map(len, to_csv(orders(rows), bom=False)))
    digits = sum(len(str(number)) for number in range(1, rows + 1))
    a_row = (
        size - digits
    ) / rows + 6.9  # digits of an id below ten million, on average
    assert round(a_row * 10_000_000 / 1e8) == 7


BOTH = ("open_export", "export_orders")


def with_plain_functions(names: Iterable[str], folder: Path) -> ModuleType:
    """Load the recipe with these functions as `def`, as the page says to do it."""
    source = Path(csv_export.__file__).read_text("utf-8")
    for name in names:
        assert source.count(f"async def {name}(") == 1
        before, after = source.split(f"async def {name}(")
        after = after.replace("-> AsyncIterator[", "-> Iterator[", 1)
        source = f"{before}def {name}({after}"
    file = folder / "csv_export_in_threads.py"
    file.write_text(source, "utf-8")
    module = ModuleType(file.stem)
    exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102 - it is ours
    return module


def orders_of_sqlite(rows: int, *, check_same_thread: bool) -> Iterator[Order]:
    """Read orders from SQLite, which looks at the thread that asks."""
    connection = sqlite3.connect(":memory:", check_same_thread=check_same_thread)
    numbers = """WITH RECURSIVE numbers(n) AS
        (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT ?) SELECT n FROM numbers"""
    first = next(orders(1))
    try:
        for (number,) in connection.execute(numbers, [rows]):
            yield first._replace(id=number)
    finally:
        connection.close()


def from_sqlite(
    names: Iterable[str], folder: Path, *, check_same_thread: bool
) -> ModuleType:
    """Load the recipe with these functions plain, and with its orders in SQLite."""
    module = with_plain_functions(names, folder)
    table = partial(orders_of_sqlite, check_same_thread=check_same_thread)
    module.__dict__["orders"] = table
    return module


def test_a_route_that_is_a_plain_generator_runs_in_a_thread(tmp_path: Path) -> None:
    def noted(rows: int) -> Iterator[Order]:
        note(f"on the loop: {threading.current_thread() is loop}")
        yield from orders(rows)

    loop = threading.current_thread()
    for names, on_the_loop in [((), True), (["export_orders"], False), (BOTH, False)]:
        module = with_plain_functions(names, tmp_path)
        module.__dict__["orders"] = noted
        run = drive(module.app, "/orders.csv?rows=1")
        assert f"on the loop: {on_the_loop}" in run.journal


@pytest.mark.parametrize(
    ("names", "fails"), [((), False), (["export_orders"], True), (BOTH, False)]
)
def test_with_only_the_route_in_threads_another_thread_closes_the_connection(
    names: Iterable[str], fails: bool, tmp_path: Path
) -> None:
    module = from_sqlite(names, tmp_path, check_same_thread=True)
    run = drive(module.app, "/orders.csv?rows=100000", disconnect_at=2)
    assert isinstance(run.error, sqlite3.ProgrammingError) == fails


@pytest.mark.parametrize("check_same_thread", [True, False])
def test_two_exports_at_once_swap_their_threads(
    check_same_thread: bool, tmp_path: Path
) -> None:
    module = from_sqlite(BOTH, tmp_path, check_same_thread=check_same_thread)
    module.__dict__["CHUNK"] = 1
    both = threading.Barrier(2)
    table = module.__dict__["orders"]

    def in_step(rows: int) -> Iterator[Order]:
        for order in table(rows):
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)  # The two end together, so either may go on in either.
            yield order

    module.__dict__["orders"] = in_step
    target = "/orders.csv?rows=300"
    run = drive(module.app, target, also=target)
    assert run.also
    errors = [repr(error) for error in (run.error, run.also.error) if error]
    assert any("ProgrammingError" in error for error in errors) == check_same_thread
    assert check_same_thread or run.body.count(b"\r\n") == 301
