"""docs/recipes/sse_database.md: its claims on real servers and both databases."""

import json
import random
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.postgres import Postgres, programs
from tests.kit.servers import (
    WAIT,
    Answer,
    Server,
    granian,
    hypercorn,
    raw_get,
    until,
    uvicorn,
)
from tests.kit.sse import Event, parse

pytestmark = pytest.mark.timeout(servers.START + 30)

APP = "recipes.sse_database:app"
EACH = pytest.mark.parametrize("serve", [uvicorn, hypercorn, granian])
CUT = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"""
INSERT = "INSERT INTO changes (order_id, state) VALUES (7, 'paid')"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Give the address of a database."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("database")
        return f"sqlite+aiosqlite:///{folder}/changes.sqlite"
    running: Postgres = request.getfixturevalue("real_postgres")
    return running.url


@pytest.fixture(scope="module")
def server(url: str) -> Iterator[Server]:
    with uvicorn(APP, env={"DATABASE_URL": url}) as running:
        yield running


@pytest.fixture
def lite(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/changes.sqlite"


def execute(url: str, statement: str) -> str:
    """Run a statement as another program would, and give the first value."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.partition("///")[2])) as connection:
            with connection:
                row = connection.execute(statement).fetchone()
            return str(row[0]) if row else ""
    port = int(re.findall(r":(\d+)/", url)[0])
    folder = programs()
    assert folder
    return Postgres(port, 0, folder, url.rpartition("/")[2]).run(statement)


def newest(url: str) -> int:
    return int(execute(url, "SELECT max(id) FROM changes"))


def rows(answer: Answer, how_many: int) -> list[int]:
    """Read that many changes; the ids are those of the table."""
    ids: list[int] = []
    while len(ids) < how_many:
        chunk = answer.chunk()
        assert chunk, "the stream has ended"
        ids += [int(one.id) for one in parse([chunk]).events if one.event == "change"]
    return ids


def end(body: bytes) -> Event:
    return parse([body]).events[-1]


def test_both_databases_give_the_same_events(server: Server) -> None:
    with raw_get(server.port, "/changes?until=1000") as answer:
        *changes, last = parse([answer.rest()]).events
    assert [int(change.id) for change in changes] == list(range(1, 1001))
    assert {change.event for change in changes} == {"change"}
    assert json.loads(changes[4].data) == {"id": 5, "order_id": 2, "state": "placed"}
    assert json.loads(changes[-1].data)["state"] == "shipped"
    assert last == Event("done", '{"rows": 1000}', "done")


@pytest.mark.parametrize("seen", ["-1", "5_00", "x" * 8000, str(2**63), "٣", "' OR 1"])
def test_no_header_is_an_error(server: Server, seen: str) -> None:
    """Attack: SQL or 8,000 signs as Last-Event-ID: the feed begins anew."""
    fields = {"Last-Event-ID": seen.encode().decode("latin-1")}
    with raw_get(server.port, "/changes?until=3", fields) as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        reset, *_, last = parse([answer.rest()]).events
    assert (reset.event, last.event) == ("reset", "done")


def test_a_row_of_another_program_arrives(server: Server, url: str) -> None:
    last = newest(url)
    with raw_get(server.port, "/feed", {"Last-Event-ID": str(last)}) as answer:
        answer.chunk()
        for number in (1, 2, 3):
            execute(url, INSERT)
            assert rows(answer, 1) == [last + number]


def test_with_twenty_open_feeds_of_which_ten_stall_others_are_answered(
    server: Server, url: str
) -> None:
    last = newest(url)
    with ExitStack() as stack:
        for _ in range(10):  # They never read: 1000 rows wait for them.
            stack.enter_context(raw_get(server.port, "/feed"))
        reading = [
            stack.enter_context(raw_get(server.port, f"/feed?after={last}"))
            for _ in range(10)
        ]
        with raw_get(server.port, "/changes?until=1000") as answer:
            assert end(answer.rest()).data == '{"rows": 1000}'
        httpx2.post(f"{server.url}/orders/8/packed").raise_for_status()
        for answer in reading:
            assert rows(answer, 1) == [last + 1]


def test_two_hundred_clients_that_vanish_cost_nothing(server: Server, url: str) -> None:
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    last = newest(url)
    for number in range(200):
        after = 0 if number % 2 else last
        with raw_get(server.port, f"/feed?after={after}") as answer:
            for _ in range(number % 3):
                if number % 2:
                    answer.chunk()
            answer.abort()
    # A connection of the pool may be new.
    until(lambda: process.num_fds() <= before + 2, "all sockets to be closed")
    with raw_get(server.port, "/changes?until=1000") as answer:
        assert end(answer.rest()).data == '{"rows": 1000}'
    assert "Traceback" not in server.output()
    assert "was destroyed" not in server.output()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_with_two_workers_everybody_gets_every_row(
    database: str, lite: str, request: pytest.FixtureRequest
) -> None:
    url = lite
    if database == "postgresql":
        url = request.getfixturevalue("real_postgres").url
    with uvicorn(APP, "--workers", "2", env={"DATABASE_URL": url}) as server:
        last = newest(url)
        with ExitStack() as stack:
            answers = [
                stack.enter_context(raw_get(server.port, f"/feed?after={last}"))
                for _ in range(8)
            ]
            for answer in answers:
                answer.chunk()
            for _ in range(4):
                httpx2.post(f"{server.url}/orders/9/paid").raise_for_status()
            for answer in answers:
                assert rows(answer, 4) == [last + 1, last + 2, last + 3, last + 4]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_four_processes_that_start_at_once_one_makes_the_table(
    database: str, lite: str, request: pytest.FixtureRequest
) -> None:
    url = lite
    if database == "postgresql":
        running: Postgres = request.getfixturevalue("real_postgres")
        running.run("CREATE DATABASE another")
        url = running.url.removesuffix("postgres") + "another"

    def start(_: int) -> bytes:
        with (
            uvicorn(APP, env={"DATABASE_URL": url}) as server,
            raw_get(server.port, "/changes") as answer,
        ):
            return answer.rest()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(start, range(4)))
    assert {end(body).data for body in found} == {'{"rows": 1000}'}
    assert execute(url, "SELECT count(*) FROM changes") == "1000"


# Order


class Writer:
    """A transaction of another program on PostgreSQL, a step at a time."""

    def __init__(self, database: Postgres) -> None:
        command = database.psql("-A", "-t")
        pipe = subprocess.PIPE
        self.psql = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def say(self, statement: str) -> None:
        """Send a statement, and do not wait for it."""
        assert self.psql.stdin
        self.psql.stdin.write(f"{statement};\n")
        self.psql.stdin.flush()

    def hear(self) -> str:
        """Wait for the next line."""
        assert self.psql.stdout
        return self.psql.stdout.readline().strip()

    def close(self) -> None:
        """End it."""
        self.psql.communicate(timeout=WAIT)


@pytest.fixture(scope="module")
def on_postgres(real_postgres: Postgres) -> Iterator[Server]:
    with uvicorn(APP, env={"DATABASE_URL": real_postgres.url}) as running:
        yield running


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_a_writer_waits_until_the_one_before_it_has_committed(
    on_postgres: Server, real_postgres: Postgres, ending: str
) -> None:
    last = newest(real_postgres.url)
    slow, quick = Writer(real_postgres), Writer(real_postgres)
    with (
        closing(slow),
        closing(quick),
        raw_get(on_postgres.port, f"/feed?after={last}") as answer,
    ):
        answer.chunk()
        slow.say("BEGIN")
        slow.say(f"{INSERT} RETURNING id")
        first = int(slow.hear())
        quick.say(f"{INSERT} RETURNING id")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        until(lambda: real_postgres.run(waiting) == "1")
        # Nobody sees any of both.
        assert newest(real_postgres.url) == last
        slow.say(ending)
        second = int(quick.hear())
        assert first < second
        if ending == "COMMIT":
            assert rows(answer, 2) == [first, second]
        else:
            assert rows(answer, 1) == [second]


def test_hiding_what_is_younger_than_the_oldest_transaction_is_not_enough_with_ids(
    real_postgres: Postgres,
) -> None:
    # What one reads elsewhere: no lock, and a feed that hides rows of transactions
    # that are not older than every one that still runs.
    real_postgres.run(
        """CREATE TABLE hidden (id bigint GENERATED ALWAYS AS IDENTITY,
        written_by xid8 DEFAULT pg_current_xact_id())"""
    )
    insert = "INSERT INTO hidden DEFAULT VALUES RETURNING id"

    def behind(last: int) -> list[str]:
        shown = "written_by < pg_snapshot_xmin(pg_current_snapshot())"
        query = f"SELECT id FROM hidden WHERE id > {last} AND {shown} ORDER BY id"  # noqa: S608
        return real_postgres.run(query).split()

    older, younger = Writer(real_postgres), Writer(real_postgres)
    with closing(older), closing(younger):
        for writer in (older, younger):
            writer.say("BEGIN")
            writer.say("SELECT pg_current_xact_id()")
            writer.hear()
        younger.say(insert)
        assert younger.hear() == "1"
        older.say(insert)
        assert older.hear() == "2"
        older.say("COMMIT")
        until(lambda: behind(0) == ["2"])  # So the feed goes on behind 2.
        younger.say("COMMIT")
        until(lambda: real_postgres.run("SELECT count(*) FROM hidden") == "2")
        assert behind(2) == []


def test_however_writers_interleave_the_feed_is_the_table_in_its_order(
    on_postgres: Server, real_postgres: Postgres
) -> None:
    last = newest(real_postgres.url)

    def write(number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        statements = []
        for _ in range(15):
            begin = "BEGIN" if chance.random() < 0.7 else "BEGIN; SELECT txid_current()"
            inserts = [INSERT] * chance.randint(1, 3)
            end = "COMMIT" if chance.random() < 0.8 else "ROLLBACK"
            statements += [begin, *inserts, f"SELECT pg_sleep({chance.random() / 200})"]
            statements += [end]
        arguments = [word for one in statements for word in ("-c", one)]
        command = real_postgres.psql("-o", "/dev/null", *arguments)
        subprocess.run(command, check=True, timeout=20)

    with (
        raw_get(on_postgres.port, f"/feed?after={last}") as answer,
        ThreadPoolExecutor(6) as pool,
    ):
        answer.chunk()
        list(pool.map(write, range(6)))
        query = f"SELECT string_agg(id::text, ' ' ORDER BY id) FROM changes WHERE id > {last}"  # noqa: S608, E501
        want = [int(one) for one in real_postgres.run(query).split()]
        assert len(want) > 50
        assert want[-1] - last > len(want), "nothing was rolled back"
        assert rows(answer, len(want)) == want


@pytest.mark.usefixtures("on_postgres")
def test_postgresql_rings_so_a_row_need_not_wait_for_the_next_look(
    real_postgres: Postgres,
) -> None:
    app = "tests.servers.deaf_sse_database:never_looks"
    last = newest(real_postgres.url)
    with (
        uvicorn(app, env={"DATABASE_URL": real_postgres.url}) as server,
        raw_get(server.port, f"/feed?after={last}") as answer,
    ):
        answer.chunk()
        for _ in range(2):
            execute(real_postgres.url, INSERT)
            # What was rolled back before has left a gap in the ids.
            assert rows(answer, 1) == [newest(real_postgres.url)]


@pytest.mark.usefixtures("on_postgres")
def test_a_row_that_rings_nobody_is_found_at_the_next_look(
    real_postgres: Postgres,
) -> None:
    app = "tests.servers.deaf_sse_database:looks_often"
    last = newest(real_postgres.url)
    quietly = f"SET session_replication_role = replica; {INSERT}"  # no trigger
    with (
        uvicorn(app, env={"DATABASE_URL": real_postgres.url}) as server,
        raw_get(server.port, f"/feed?after={last}") as answer,
    ):
        answer.chunk()
        execute(real_postgres.url, quietly)
        assert rows(answer, 1) == [newest(real_postgres.url)]


@pytest.mark.usefixtures("on_postgres")
def test_a_feed_goes_on_when_postgresql_has_cut_all_connections(
    real_postgres: Postgres,
) -> None:
    url = real_postgres.url
    last = newest(url)
    app = "tests.servers.deaf_sse_database:looks_often"
    with (
        uvicorn(app, env={"DATABASE_URL": url}) as server,
        raw_get(server.port, f"/feed?after={last}") as answer,
    ):
        answer.chunk()
        # By the end of another request, the feed has read what there is, and waits.
        with raw_get(server.port, "/changes?until=9") as other:
            assert end(other.rest()).event == "done"
        assert int(execute(url, CUT)) >= 1
        server.expect("The watcher has lost the database: ")
        execute(url, INSERT)
        assert rows(answer, 1) == [newest(url)]


@pytest.mark.usefixtures("on_postgres")
def test_a_connection_that_postgresql_has_cut_is_noticed_before_it_is_used(
    real_postgres: Postgres,
) -> None:
    url = real_postgres.url
    app = "tests.servers.deaf_sse_database:never_looks"
    with uvicorn(app, env={"DATABASE_URL": url}) as server:
        with raw_get(server.port, "/changes?until=9") as answer:
            assert end(answer.rest()).event == "done"
        assert int(execute(url, CUT)) >= 1
        with raw_get(server.port, "/changes?until=9") as answer:
            assert end(answer.rest()).event == "done"


@pytest.mark.usefixtures("on_postgres")
def test_an_id_of_ones_own_is_refused_by_postgresql(
    real_postgres: Postgres,
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        execute(
            real_postgres.url,
            "INSERT INTO changes (id, order_id, state) VALUES (5000, 7, 'paid')",
        )
    assert 'cannot insert a non-DEFAULT value into column "id"' in refused.value.stderr


# Servers


@EACH
def test_on_every_server_the_first_event_does_not_wait_for_the_last(
    serve: Any,  # noqa: ANN401
    lite: str,
) -> None:
    with serve(APP, env={"DATABASE_URL": lite}) as server:
        with raw_get(server.port, "/feed?after=998") as answer:
            chunks = [answer.chunk() for _ in range(3)]
            assert [one.id for one in parse(chunks).events] == ["999", "1000"]
            execute(lite, INSERT)
            assert rows(answer, 1) == [1001]
        with raw_get(server.port, "/feed", {"Last-Event-ID": "999"}) as answer:
            assert rows(answer, 2) == [1000, 1001]
        with raw_get(server.port, "/changes", {"Last-Event-ID": "done"}) as answer:
            assert answer.head.startswith("HTTP/1.1 204")
        assert "Traceback" not in server.output()


@EACH
def test_on_every_server_clients_that_vanish_cost_nothing(
    serve: Any,  # noqa: ANN401
    lite: str,
) -> None:
    with serve(APP, env={"DATABASE_URL": lite}) as server:
        for number in range(40):
            after = 0 if number % 2 else 1000
            with raw_get(server.port, f"/feed?after={after}") as answer:
                answer.chunk()
                answer.abort()
        for _ in range(3):
            with raw_get(server.port, "/changes") as answer:
                assert end(answer.rest()).data == '{"rows": 1000}'
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_and_says_nothing_of_the_watcher(
    lite: str, number: signal.Signals
) -> None:
    with uvicorn(APP, env={"DATABASE_URL": lite}) as server:
        server.signal(number)
        server.wait()
        assert "Application shutdown complete" in server.output()
        assert "Traceback" not in server.output()
        assert "was destroyed" not in server.output()


# Clients and "Break it"


def test_the_python_client_prints_all_and_their_count(
    lite: str, tmp_path: Path
) -> None:
    with uvicorn(APP, env={"DATABASE_URL": lite}) as server:
        done = clients.run("sse_database.py", server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    *changes, counted, here = done.stdout.splitlines()
    assert [json.loads(change)["id"] for change in changes] == list(range(1, 1001))
    assert counted == 'The server counts {"rows": 1000}'
    assert here == "1000 changes are here."


def test_the_python_client_goes_on_where_a_connection_broke(
    lite: str, tmp_path: Path
) -> None:
    with uvicorn(
        "tests.servers.cut_sse_database:app", env={"DATABASE_URL": lite}
    ) as server:
        done = clients.run("sse_database.py", server.url, tmp_path)
    assert done.returncode == 0
    *changes, _, here = done.stdout.splitlines()
    assert [json.loads(change)["id"] for change in changes] == list(range(1, 1001))
    assert here == "1000 changes are here."
    assert done.stderr.count("The connection broke: ") == 2
    assert done.stderr.count("Going on behind ") == 2


def test_the_python_client_checks_the_status_first(tmp_path: Path) -> None:
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run("sse_database.py", server.url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "404 Not Found" in done.stderr


def test_broken_as_the_page_says_a_feed_waits_for_the_next_look(
    lite: str, tmp_path: Path
) -> None:
    looks = 'POLL = {"sqlite": 0.5, "postgresql": 5.0}'
    folder = changed(tmp_path, "sse_database", looks, looks.replace("0.5", "600.0"))
    for cwd, waits in [(servers.ROOT, False), (folder, True)]:
        with uvicorn(APP, cwd=cwd, env={"DATABASE_URL": lite}) as server:
            last = newest(lite)
            seen = {"Last-Event-ID": "996"}
            with raw_get(server.port, "/feed", seen) as answer:
                assert rows(answer, last - 996)[:4] == [997, 998, 999, 1000]
                httpx2.post(f"{server.url}/orders/7/paid").raise_for_status()
                if waits:
                    answer.connection.settimeout(1)
                    with pytest.raises(TimeoutError):
                        answer.chunk()
                else:
                    assert rows(answer, 1) == [last + 1]
            with raw_get(server.port, "/feed", seen) as answer:
                assert rows(answer, last + 1 - 996)[-1] == last + 1
