"""docs/recipes/sse_progress.md: every claim the page makes, proved by the recipe."""

import asyncio
import json
import logging
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cookbook.catalog import ROOT
from recipes import sse_progress
from recipes.sse_progress import Completed, Failed, Job, Progress, app
from tests.kit.asgi import WAIT, drive
from tests.kit.sse import Event, parse
from tests.kit.upload import upload

SAMPLE = (ROOT / "docs/clients/sse_progress.csv").read_bytes()
HEAD = b"id,item,quantity,price\n"


class Steps(threading.Event):
    """In place of the pause before each step: the test says when a job may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a step that is allowed; tell whether the job is to stop."""
        assert timeout == sse_progress.PAUSE == 0.2
        for _ in range(WAIT * 100):
            if self.is_set() or self.allowed.acquire(timeout=0.01):
                return self.is_set()
        raise AssertionError("no step was allowed")

    def allow(self, count: int) -> None:
        """Let jobs take so many steps."""
        self.allowed.release(count)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Make the steps of all jobs wait for the test."""
    steps = Steps()
    monkeypatch.setattr(sse_progress, "Event", lambda: steps)
    return steps


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no pauses."""
    monkeypatch.setattr(sse_progress, "PAUSE", 0)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the file in which the orders are."""
    monkeypatch.setenv("ORDERS_DB", str(tmp_path / "orders.sqlite"))
    return tmp_path / "orders.sqlite"


@pytest.fixture
def client(database: Path) -> Iterator[TestClient]:
    """Run the recipe with its lifespan."""
    assert str(database) == os.environ["ORDERS_DB"]
    with TestClient(app) as running:
        yield running


def jobs_of(client: TestClient) -> sse_progress.Jobs:
    """Look at the jobs of the recipe that runs."""
    jobs: sse_progress.Jobs = client.app_state["jobs"]
    return jobs


def start(client: TestClient, file: bytes = SAMPLE) -> str:
    """Start a job and give its address."""
    response = client.post("/jobs", content=file)
    assert (response.status_code, response.content) == (202, b"")
    return str(response.headers["location"])


def watch(client: TestClient, address: str) -> list[Event]:
    """Read a stream to its end."""
    return parse([client.get(address).content]).events


def table(database: Path) -> list[Any]:
    """Read all that is stored."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT * FROM orders ORDER BY id").fetchall()


def end_of(client: TestClient, file: bytes) -> tuple[str, dict[str, Any]]:
    """Import a file, and give the name and the data of the last event."""
    last = watch(client, start(client, file))[-1]
    return last.event, json.loads(last.data)


# What a job is, and who watches it.


@pytest.mark.usefixtures("fast")
def test_a_file_starts_a_job_whose_address_is_relative_to_the_request(
    client: TestClient,
) -> None:
    address = start(client)
    assert address == "jobs/f46cab8a66c9f0dc90fe49d371b9bede/events"
    assert "sse_progress" in str(sse_progress.__doc__)
    assert f"/{address}" in str(sse_progress.__doc__)
    mounted = "http://shop.example/live/sse_progress/jobs"
    assert urljoin(mounted, address) == mounted.removesuffix("jobs") + address
    assert watch(client, address)[-1].event == "completed"


def test_the_progress_is_typed_and_ends_with_one_completed(
    steps: Steps, client: TestClient, database: Path
) -> None:
    address = start(client)
    with client.stream("GET", address) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        raw = response.iter_raw()
        first = next(raw)
        # It is here while the job has not made its first step.
        assert first == b'event: progress\ndata: {"rows":0,"percent":0}\n\n'
        heard = [first]
        for number in range(1, 11):
            steps.allow(1)
            heard.append(next(raw))
            assert heard[-1] == (
                b'event: progress\ndata: {"rows":%d,"percent":%d}\n\n'
                % (number, 10 * number)
            )
        assert list(raw) == [b'event: completed\ndata: {"rows":10}\n\n']
    assert len(table(database)) == 10
    assert client.get("/orders").json() == {"orders": 10}


def test_nothing_is_in_the_table_before_the_end(
    steps: Steps, client: TestClient, database: Path
) -> None:
    address = start(client)
    with client.stream("GET", address) as response:
        raw = response.iter_raw()
        next(raw)
        steps.allow(5)
        while b'"percent":50' not in next(raw):
            pass
        assert table(database) == []
        # And nobody is locked out meanwhile.
        with closing(sqlite3.connect(database, timeout=0)) as other, other:
            other.execute("INSERT INTO orders VALUES (99, 'tea', 1, '1.00')")
        steps.allow(9)
        assert parse(list(raw)).events[-1].event == "completed"
    assert [row[0] for row in table(database)] == [*range(1, 11), 99]


def test_a_watcher_that_leaves_changes_nothing(
    steps: Steps, client: TestClient, database: Path
) -> None:
    address = start(client)
    with client.stream("GET", address) as left, client.stream("GET", address) as stays:
        raw = stays.iter_raw()
        assert next(left.iter_raw()) == next(raw)
        left.close()
        steps.allow(10)
        assert parse(list(raw)).events[-1] == Event("completed", '{"rows":10}', "")
    assert len(table(database)) == 10


def test_every_watcher_sees_the_end(steps: Steps, client: TestClient) -> None:
    address = start(client)
    ends: list[Event] = []
    begun = threading.Barrier(9)

    def follow() -> None:
        with client.stream("GET", address) as response:
            raw = response.iter_raw()
            first = next(raw)
            begun.wait(WAIT)
            ends.append(parse([first, *raw]).events[-1])

    watchers = [threading.Thread(target=follow) for _ in range(8)]
    for watcher in watchers:
        watcher.start()
    begun.wait(WAIT)
    steps.allow(10)
    for watcher in watchers:
        watcher.join(WAIT)
    assert ends == [Event("completed", '{"rows":10}', "")] * 8


@pytest.mark.usefixtures("fast")
def test_who_comes_after_the_end_gets_the_last_event_at_once(
    client: TestClient,
) -> None:
    good, bad = start(client), start(client, b"nonsense")
    for address, event in [(good, "completed"), (bad, "failed")]:
        watch(client, address)
        (last,) = watch(client, address)
        assert last.event == event
    told = '{"reason":"The first line must be id,item,quantity,price","line":1}'
    assert watch(client, bad) == [Event("failed", told, "")]


def test_a_slow_watcher_skips_states_but_never_the_last_one() -> None:
    async def look() -> list[object]:
        job = Job()
        watcher = job.watch()
        seen = [await anext(watcher)]
        for percent in (1, 2, 3):
            job.tell(Progress(rows=percent, percent=percent))
        seen.append(await anext(watcher))
        job.tell(Progress(rows=4, percent=4))
        job.tell(Completed(rows=5))
        seen += [news async for news in watcher]
        return list(seen)

    assert asyncio.run(look()) == [
        Progress(rows=0, percent=0),
        Progress(rows=3, percent=3),
        Completed(rows=5),
    ]


def test_a_watcher_waits_while_nothing_is_new_and_leaves_nothing_behind() -> None:
    async def look() -> None:
        job = Job()
        watcher = job.watch()
        await anext(watcher)
        waiting = asyncio.ensure_future(anext(watcher))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert repr(job.newer).endswith("[unset]>"), "nobody waits any more"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(look())


@given(st.lists(st.integers(0, 3), max_size=20))
def test_however_the_two_take_turns_the_end_comes_once_and_last(
    turns: list[int],
) -> None:
    async def look() -> None:
        job, seen = Job(), list[Any]()

        async def follow() -> None:
            async for news in job.watch():
                seen.append(news)

        task = asyncio.ensure_future(follow())
        for number, turn in enumerate(turns, start=1):
            for _ in range(turn):
                await asyncio.sleep(0)
            job.tell(Progress(rows=number, percent=number))
        job.tell(Failed(reason="no"))
        await asyncio.wait_for(task, WAIT)
        rows = [news.rows for news in seen[:-1]]
        assert rows == sorted(set(rows))
        assert seen[-1] == Failed(reason="no", line=None)

    asyncio.run(look())


def test_a_client_that_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job()
    monkeypatch.setattr(sse_progress.Jobs, "find", lambda *_: job)
    run = drive(app, "/jobs/x/events", disconnect_at=1)
    assert run.journal[-2:] == ["disconnect", "returned"]
    assert repr(job.newer).endswith("[unset]>"), "nobody waits any more"


def test_the_same_file_while_it_is_imported_is_the_same_job(
    steps: Steps, client: TestClient
) -> None:
    address = start(client)
    job = jobs_of(client).find(address.split("/")[1])
    assert start(client) == address
    assert list(jobs_of(client).known.values()) == [job]
    steps.allow(10)
    assert watch(client, address)[-1].event == "completed"
    # After its end it is imported again.
    assert start(client) == address
    assert list(jobs_of(client).known.values()) != [job]
    steps.allow(10)
    assert watch(client, address)[-1].event == "completed"


# What a file may hold.


@pytest.mark.parametrize(
    ("rows", "line", "reason"),
    [
        (
            b"1,tea,1,3.50\n2,tea,x,3.50\n",
            3,
            "quantity: Input should be a valid integer",
        ),
        (b"1,tea,1,3.50\n\n\n2,tea,0,3.50", 5, "quantity: Input should be greater"),
        (b"1,tea,1001,3.50\n", 2, "quantity: Input should be less than or equal"),
        (b'1,"two\nlines",1,3.50\n0,tea,1,3.50\n', 4, "id: Input should be greater"),
        (b"9223372036854775808,tea,1,3.50\n", 2, "id: Input should be less than"),
        (b"1,,1,3.50\n", 2, "item: String should have at least 1 character"),
        (b"1," + b"x" * 201 + b",1,3.50\n", 2, "item: String should have at most 200"),
        (b"1,tea,1,3.505\n", 2, "price: Decimal input should have no more than 2"),
        (b"1,tea,1,-1\n", 2, "price: Input should be greater than or equal to 0"),
        (b"1,tea,1,NaN\n", 2, "price: Input should be a finite number"),
        (b"1,tea,1,12345678901\n", 2, "price: Decimal input should have no more than"),
        (b"1,tea,1\n", 2, "It must be 4 cells in UTF-8"),
        (b"1,tea,1,3.50,5\n", 2, "It must be 4 cells in UTF-8"),
        (b"1,caf\xe9,1,3.50\n", 2, "It must be 4 cells in UTF-8"),
        (b"1,tea,1,3.50\n2,\xff,1,3.50\n", 3, "It must be 4 cells in UTF-8"),
        (b'1,"' + b"x" * 200_000 + b'",1,3.50\n', 2, "It must be 4 cells in UTF-8"),
        (b'1,tea,1,3.50\n2,"tea,1,3\n3,tea,1,3\n', 3, "It must be 4 cells in UTF-8"),
        (b"1,tea,1,3\r2,tea,1,3\r", 2, "It must be 4 cells in UTF-8"),
        (b"   \n", 2, "It must be 4 cells in UTF-8"),
    ],
)
@pytest.mark.usefixtures("fast")
def test_a_wrong_row_fails_the_job_with_its_line_and_leaves_no_row(
    client: TestClient, database: Path, rows: bytes, line: int, reason: str
) -> None:
    event, told = end_of(client, HEAD + rows)
    assert (event, told["line"]) == ("failed", line)
    assert told["reason"].startswith(reason)
    assert table(database) == []


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("file", [b"", b"\n", b"id;item\n", b"\0\xff", b"a" * 200_000])
def test_a_file_without_the_first_line_is_refused(
    client: TestClient, file: bytes
) -> None:
    event, told = end_of(client, file)
    assert (event, told["line"]) == ("failed", 1)


@pytest.mark.usefixtures("fast")
def test_the_reason_repeats_nothing_of_the_file(client: TestClient) -> None:
    for row in (b"secret,tea,1,3", b"1,tea,secret,3", b"1,tea,1,secret", b"secret"):
        event, told = end_of(client, HEAD + row)
        assert event == "failed"
        assert "secret" not in told["reason"]
    assert "secret" not in end_of(client, b"secret,item\n")[1]["reason"]


@pytest.mark.usefixtures("fast")
def test_a_failure_of_the_server_is_logged_and_not_told(
    client: TestClient, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: The database fails: the client does not learn its words."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TABLE orders")
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        event, told = end_of(client, SAMPLE)
    assert event == "failed"
    assert told == {"reason": "Something is wrong with the server", "line": None}
    assert caplog.messages == ["An import failed"]
    assert "no such table: orders" in caplog.text


@pytest.mark.usefixtures("fast")
def test_values_are_stored_exactly(client: TestClient, database: Path) -> None:
    mark = b"\xef\xbb\xbf"
    rows = (
        '1,"tea, green",2,3.50\r\n2,"two\r\nlines",1,1E+5\r\n\r\n7,"crème ""b""",1000,0'
    )
    last = 2**63 - 1
    file = mark + HEAD.replace(b"\n", b"\r\n") + rows.encode()
    file += f"\r\n{last},{'x' * 200},1,99999999.99\r\n\r\n".encode()
    assert end_of(client, file) == ("completed", {"rows": 4})
    assert table(database) == [
        (1, "tea, green", 2, "3.50"),
        (2, "two\r\nlines", 1, "100000"),
        (7, 'crème "b"', 1000, "0"),
        (last, "x" * 200, 1, "99999999.99"),
    ]
    assert Decimal(table(database)[0][3]) == Decimal("3.50")


@pytest.mark.usefixtures("fast")
def test_an_order_that_is_there_already_is_replaced(
    client: TestClient, database: Path
) -> None:
    end_of(client, HEAD + b"1,tea,1,3.50\n2,pot,1,9\n")
    end_of(client, HEAD + b"1,milk,1,1.00\n1,honey,2,2.00\n")
    assert table(database) == [(1, "honey", 2, "2.00"), (2, "pot", 1, "9")]


@pytest.mark.usefixtures("fast")
def test_a_file_with_no_rows_is_complete(client: TestClient) -> None:
    assert end_of(client, HEAD) == ("completed", {"rows": 0})


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("rows", [1, 3, 99, 100, 101, 250, 1234])
def test_the_percent_grows_with_every_event(
    client: TestClient, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    tell = Job.tell

    def listen(job: Job, news: Progress | Completed | Failed) -> None:
        told.append(news)
        tell(job, news)

    monkeypatch.setattr(Job, "tell", listen)
    file = HEAD + b"".join(b"%d,tea,1,3\n" % n for n in range(1, rows + 1))
    end_of(client, file)
    *progress, end = told
    assert end == Completed(rows=rows)
    percents = [news.percent for news in progress]
    assert percents == sorted(set(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    assert len(percents) == min(rows, 100) + 1
    assert all(news.percent == 100 * news.rows // rows for news in progress)


# What is known, and how much.


@pytest.mark.parametrize(
    "name", ["0", "x" * 8000, "%00", "%2e%2e", "' OR 1=1", "٣", "%ff", "-1", "..%2f"]
)
def test_an_unknown_job_is_404_before_the_stream(client: TestClient, name: str) -> None:
    response = client.get(f"/jobs/{name}/events")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"


def test_the_404_says_which_process_was_asked(client: TestClient) -> None:
    detail = {"detail": "This process knows no such job"}
    assert client.get("/jobs/0/events").json() == detail


@pytest.mark.parametrize(
    "value", [b"end", b"\xff\xfe", b"-1", b"5_00", "٣".encode(), b"'--", b"x" * 8000]
)
@pytest.mark.usefixtures("fast")
def test_a_browser_that_comes_back_gets_the_newest_whatever_it_says(
    client: TestClient, value: bytes
) -> None:
    address = start(client)
    watch(client, address)
    response = client.get(address, headers={b"Last-Event-ID": value})
    assert response.status_code == 200
    assert parse([response.content]).events == [Event("completed", '{"rows":10}', "")]


@pytest.mark.usefixtures("fast")
def test_a_job_is_forgotten_after_a_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = start(client)
    watch(client, address)
    job = jobs_of(client).known[address.split("/")[1]]
    assert sse_progress.KEEP == 300
    clock = job.at + 299.999  # at 300 it would depend on the rounding
    # Only the recipe's clock: the event loop needs its own.
    watch_of = SimpleNamespace(monotonic=lambda: clock)
    monkeypatch.setattr(sse_progress, "time", watch_of)
    assert client.get(address).status_code == 200
    clock += 0.002
    assert client.get(address).status_code == 404
    assert jobs_of(client).known == {}


def test_a_job_that_runs_is_not_forgotten(
    steps: Steps, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = start(client)
    monkeypatch.setattr(sse_progress, "KEEP", -1)
    monkeypatch.setattr(sse_progress, "KNOWN", 0)
    job = jobs_of(client).find(address.split("/")[1])
    assert job is not None
    assert isinstance(job.news, Progress)
    with client.stream("GET", address) as response:
        assert response.status_code == 200
        # Only now: a job that has ended is forgotten at once.
        steps.allow(10)
        assert b"event: completed" in response.read()


@pytest.mark.usefixtures("fast")
def test_the_oldest_are_forgotten_when_there_are_many(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sse_progress.KNOWN == 100
    monkeypatch.setattr(sse_progress, "KNOWN", 3)
    addresses = []
    for number in range(1, 6):
        addresses.append(start(client, HEAD + b"%d,tea,1,3" % number))
        watch(client, addresses[-1])
    known = [f"jobs/{name}/events" for name in jobs_of(client).known]
    assert known == addresses[2:]
    assert client.get(addresses[0]).status_code == 404
    assert client.get(addresses[2]).status_code == 200


def test_too_many_jobs_are_refused_and_told_when_to_come_again(
    steps: Steps, client: TestClient
) -> None:
    """Attack: A fifth job is started: 503 with Retry-After."""
    assert sse_progress.RUNNING == 4
    files = [HEAD + b"%d,tea,1,3" % number for number in range(1, 6)]
    running = [start(client, file) for file in files[:4]]
    for address in running:
        with client.stream("GET", address) as response:
            next(response.iter_raw())
    refused = client.post("/jobs", content=files[4])
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json() == {"detail": "Too many imports"}
    # Its watchers are not: only work is limited.
    assert client.get("/orders").status_code == 200
    steps.allow(4)
    for address in running:
        assert watch(client, address)[-1].event == "completed"
    address = start(client, files[4])
    steps.allow(1)
    assert watch(client, address)[-1].event == "completed"


def free_places(jobs: sse_progress.Jobs) -> int:
    """Count the jobs that could be started now."""
    places: int = jobs.places._value
    return places


@pytest.mark.usefixtures("fast")
def test_every_place_is_given_back(client: TestClient) -> None:
    jobs = jobs_of(client)
    for file in (SAMPLE, b"", HEAD + b"1,tea,x,3\n"):
        end_of(client, file)
    assert client.post("/jobs", content=bytes(10_000_001)).status_code == 413
    assert free_places(jobs) == 4


@pytest.mark.usefixtures("fast")
def test_a_file_may_have_ten_megabytes_and_not_one_byte_more(
    client: TestClient,
) -> None:
    """Attack: A file of more than ten megabytes, with or without a length: 413."""
    assert sse_progress.LIMIT == 10_000_000
    largest = b"x" * 10_000_000
    assert client.post("/jobs", content=largest).status_code == 202
    refused = client.post("/jobs", content=largest + b"x")
    assert refused.status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(1_000_000)

    assert client.post("/jobs", content=chunks()).status_code == 413


@pytest.fixture
def jobs(database: Path) -> sse_progress.Jobs:
    """Give jobs without a lifespan, for files that do not arrive."""
    group: Any = None
    return sse_progress.Jobs(group, database)


@pytest.fixture
def bare(jobs: sse_progress.Jobs) -> ASGIApp:
    """Give the recipe with these jobs, as an ASGI application."""

    async def with_jobs(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["jobs"] = jobs
        await app(scope, receive, send)

    return with_jobs


def test_a_client_that_leaves_while_it_sends_starts_nothing(
    bare: ASGIApp, jobs: sse_progress.Jobs
) -> None:
    run = upload(bare, "/jobs", [HEAD, b"1,tea,1,3"], leave_at=2)
    assert run.journal[-1] == "returned"
    assert run.error is None
    assert jobs.known == {}
    assert free_places(jobs) == 4


def test_a_file_that_takes_too_long_is_given_up(
    bare: ASGIApp, jobs: sse_progress.Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sse_progress.ARRIVAL == 60
    monkeypatch.setattr(sse_progress, "ARRIVAL", 0.01)

    async def never(*_: object) -> bytes:
        assert free_places(jobs) == 3, "a file that arrives holds a place"
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(Request, "body", never)
    run = upload(bare, "/jobs", [HEAD])
    assert run.status == 408
    assert run.body == b'{"detail":"The file did not arrive in time"}'
    assert (jobs.known, free_places(jobs)) == ({}, 4)


def test_a_full_server_refuses_before_it_reads_the_file(
    bare: ASGIApp, jobs: sse_progress.Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "places", asyncio.Semaphore(0))
    run = upload(bare, "/jobs", [HEAD, SAMPLE])
    assert run.status == 503
    assert not any(line.startswith("asked") for line in run.journal)


# How a server stops.


def test_at_the_end_jobs_are_stopped_and_awaited_and_watchers_told(
    steps: Steps, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    import_file = sse_progress.import_file

    def listen(
        job: Job, file: bytes, database: Path, stop: threading.Event
    ) -> Completed:
        try:
            return import_file(job, file, database, stop)
        finally:
            ended.append("import_file")

    monkeypatch.setattr(sse_progress, "import_file", listen)
    with TestClient(app) as client:
        address = start(client)
        with client.stream("GET", address) as response:
            next(response.iter_raw())
            steps.allow(3)
        (job,) = jobs_of(client).known.values()
    assert job.news == Failed(reason="The server was stopped; send it again")
    assert table(database) == []
    assert ended == ["import_file"]


def test_a_signal_stops_the_jobs_and_then_the_server() -> None:
    heard: list[object] = []

    async def look() -> None:
        done = asyncio.Event()

        def stop() -> None:
            heard.append("jobs")
            done.set()

        sse_progress.when_told_to_stop(stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            done.clear()
            signal.raise_signal(number)
            await asyncio.wait_for(done.wait(), WAIT)

    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        asyncio.run(look())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert heard == [signal.SIGTERM, "jobs", signal.SIGINT, "jobs"]


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_server_that_handles_no_signals_is_left_alone(
    handler: signal.Handlers,
) -> None:
    before = signal.signal(signal.SIGTERM, handler)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        sse_progress.when_told_to_stop(lambda: None)
        assert signal.getsignal(signal.SIGTERM) == handler
        assert signal.getsignal(signal.SIGINT) == interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("database")
def test_in_another_thread_signals_are_left_alone() -> None:
    def own(*_: object) -> None:
        """Stand for the handler of a server."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        # TestClient runs the lifespan in a thread of its own.
        with TestClient(app) as client:
            assert client.get("/orders").json() == {"orders": 0}
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


# What there is besides.


def test_without_a_name_the_database_is_gone_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ORDERS_DB", raising=False)
    with TestClient(app) as client:
        path = jobs_of(client).database
        assert path.exists()
    assert not path.parent.exists()


@pytest.mark.usefixtures("fast", "database")
def test_the_orders_of_a_named_database_stay() -> None:
    with TestClient(app) as client:
        end_of(client, SAMPLE)
    with TestClient(app) as client:
        assert client.get("/orders").json() == {"orders": 10}


def test_the_schema_describes_the_api(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) >= {"/jobs", "/jobs/{name}/events", "/orders"}


def test_the_page_is_served(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert b"<progress" in response.content
