"""benchmarks/: every version does the same work, and a broken one cannot win."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, NamedTuple, Self, cast
from unittest import mock

import psutil
import pytest

from benchmarks import __main__ as command_line
from benchmarks import harness, listeners, machine
from benchmarks.__main__ import PUBLISHED, benches, main
from benchmarks.client import Sample, WrongBodyError, body_of, counted, dechunk
from benchmarks.harness import (
    ROOT,
    Bench,
    Memory,
    Report,
    Result,
    Table,
    Target,
    Version,
    app,
    node,
    run,
)
from benchmarks.report import DARK, LIGHT, STYLE, chart, page, read, render, write
from tests.kit.servers import until
from tests.kit.warm import IMPORTED, Warm, is_possible, waiting

pytestmark = pytest.mark.timeout(120)

BENCHES = benches()
NODE = [
    (slug, version.name)
    for slug, bench in BENCHES.items()
    for version in bench.versions
    if version.command[0] == "node"
]


def children() -> set[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    # What has ended is listed until the process that forked it has looked.
    return {child for child in found if runs(child)}


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


Quick = tuple[Bench, Report, Path, set[psutil.Process]]


class Forked(Warm):
    """A server that was forked, with what the harness asks of a `Popen`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def forked(version: Version, log: IO[str]) -> "Forked | subprocess.Popen[str]":
    """Start a version; a server in Python, from a process that has its imports."""
    program, *rest = version.command
    if version.path is None or program != sys.executable:
        return LAUNCH(version, log)
    module, *arguments = rest[1:]
    return Forked(module, arguments, cwd=ROOT, env=os.environ, log=cast(IO[bytes], log))


LAUNCH = harness.launch


@pytest.fixture(scope="module", params=BENCHES)
def quick(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Quick:
    """One quick run: the bench, its report, its files, and what it left running.

    A number that is measured here is looked at by nobody, so the servers may be forks.
    """
    bench = BENCHES[request.param]
    folder = tmp_path_factory.mktemp(bench.slug)
    # Those of ndjson_database find each other by the process that has started them.
    forks = is_possible() and bench.slug != "ndjson_database"
    if forks:
        waiting(IMPORTED)  # It goes on running, so it has to be there before.
    with mock.patch.object(harness, "launch", forked if forks else LAUNCH):
        before = children()
        report = run(bench, quick=True, say=print)
    write(report, bench, folder)
    with suppress(AssertionError):
        until(lambda: children() <= before)
    return bench, report, folder, children() - before


def names(bench: Bench) -> list[str]:
    """Name the versions that can run on this machine."""
    return [v.name for v in bench.versions if shutil.which(v.command[0])]


def test_every_version_sends_every_unit_in_every_round(quick: Quick) -> None:
    # `run` has also compared a whole body of each with what it should be.
    bench, report, _, _ = quick
    assert [result.name for result in report.results] == names(bench)
    assert bench.ours in names(bench)
    for result in report.results:
        is_loop = next(v for v in bench.versions if v.name == result.name).path is None
        expected = bench.quick_size + (0 if is_loop else bench.extra)
        assert [s.units for s in result.rounds] == [expected] * bench.quick_rounds
        assert len({sample.bytes for sample in result.rounds}) == 1


def test_nothing_is_left_running(quick: Quick) -> None:
    assert quick[3] == set()


def test_the_json_holds_every_version_and_every_round(quick: Quick) -> None:
    bench, _, folder, _ = quick
    text = (folder / f"{bench.slug}.json").read_text("utf-8")
    data = json.loads(text)
    assert [result["name"] for result in data["results"]] == names(bench)
    assert {len(result["rounds"]) for result in data["results"]} == {bench.quick_rounds}
    assert set(data["machine"]) == {"cpu", "cores", "memory", "os"}


def test_the_files_name_no_folder_of_this_machine(quick: Quick) -> None:
    for path in quick[2].iterdir():
        text = path.read_text("utf-8")
        assert str(ROOT) not in text
        assert str(Path(sys.executable).parent) not in text


def test_the_table_comes_first_and_holds_every_version(quick: Quick) -> None:
    bench, _, folder, _ = quick
    text = (folder / f"{bench.slug}.md").read_text("utf-8")
    rows = text.split("\n\n")[0]
    assert rows.startswith("| Version |")
    named = [row.split("|")[1].strip(" *") for row in rows.splitlines()[2:]]
    assert named == names(bench)
    assert text.endswith(f"with `python -m benchmarks {bench.slug} --quick`.\n")


def test_no_table_is_wider_than_a_phone(quick: Quick) -> None:
    text = (quick[2] / f"{quick[0].slug}.md").read_text("utf-8")
    rows = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    assert {row.count("|") - 1 for row in rows} <= {2, 3}
    # The longest word of a number's column is what keeps a table from shrinking.
    cells = [cell.strip(" *") for row in rows for cell in row.split("|")[2:-1]]
    assert max(len(word) for cell in cells for word in cell.split()) <= 10


def test_the_chart_has_a_bar_for_every_version(quick: Quick) -> None:
    bench, _, folder, _ = quick
    root = ET.fromstring((folder / f"{bench.slug}.svg").read_text("utf-8"))  # noqa: S314
    svg = "{http://www.w3.org/2000/svg}"
    groups = root.findall(f"{svg}g")
    assert [group.findtext(f"{svg}text") for group in groups] == names(bench)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert width <= 390
    for group in groups:
        (bar,) = group.findall(f"{svg}rect")
        assert 0 < float(bar.attrib["width"]) <= width
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) <= height


def test_the_same_report_gives_the_same_files(quick: Quick, tmp_path: Path) -> None:
    bench, report, folder, _ = quick
    for path in write(report, bench, tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_a_report_that_was_kept_is_read_as_it_was(quick: Quick) -> None:
    bench, report, folder, _ = quick
    assert read(folder / f"{bench.slug}.json") == report


@pytest.mark.parametrize(("slug", "name"), NODE)
def test_node_takes_part(slug: str, name: str) -> None:
    if shutil.which("node") is None:
        reason = f"{slug}: {name} is left out: install node (apt install nodejs)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    assert name in names(BENCHES[slug])


def test_a_missing_program_is_named_here_and_an_error_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = BENCHES["plain_text"]
    absent = Version("Absent", "absent", ("a-program-that-is-not-there",), "/", b"\n")
    bench = replace(
        bench, versions=[bench.versions[1], absent], warm_up=2, quick_size=2
    )
    monkeypatch.delenv("CI", raising=False)
    report = run(bench, quick=True, say=print)
    assert set(report.left_out) == {"Absent"}
    monkeypatch.setenv("CI", "true")
    with pytest.raises(RuntimeError, match="Absent"):
        run(bench, quick=True, say=print)


def test_a_version_that_sends_something_else_stops_the_run() -> None:
    bench = BENCHES["plain_text"]
    ours = [version for version in bench.versions if version.name == bench.ours]
    bench = replace(bench, versions=ours, expected=lambda n: ["packed: tea\n"] * n)
    before = children()
    with pytest.raises(WrongBodyError, match=bench.ours):
        run(bench, quick=True, say=print)
    assert children() == before


def test_a_version_that_drops_a_unit_stops_the_run() -> None:
    bench = BENCHES["plain_text"]
    ours = [version for version in bench.versions if version.name == bench.ours]
    with pytest.raises(WrongBodyError, match="1000, not 1001"):
        run(replace(bench, versions=ours, extra=1), quick=True, say=print)


def test_a_version_that_answers_with_an_error_stops_the_run() -> None:
    bench = BENCHES["plain_text"]
    ours = [version for version in bench.versions if version.name == bench.ours]
    lost = [replace(version, path="/no-such-path") for version in ours]
    with pytest.raises(WrongBodyError, match=f"{bench.ours}.*404"):
        run(replace(bench, versions=lost), quick=True, say=print)


CROWDED = BENCHES["sse_broadcast"]


def crowded() -> Bench:
    """Give the bench of many listeners, with the recipe alone."""
    ours = [version for version in CROWDED.versions if version.name == CROWDED.ours]
    return replace(CROWDED, versions=ours, targets=harness.no_targets)


def test_with_listeners_a_version_that_sends_something_else_stops_the_run() -> None:
    bench = replace(crowded(), expected=lambda n: [["order", {"id": 7}]] * n)
    with pytest.raises(WrongBodyError, match="The recipe differs"):
        run(bench, quick=True, say=print)


def test_with_listeners_a_version_that_answers_with_an_error_stops_the_run() -> None:
    bench = crowded()
    lost = [replace(version, path="/no-such-path") for version in bench.versions]
    with pytest.raises(WrongBodyError, match=r"The recipe: HTTP/1\.1 404"):
        run(replace(bench, versions=lost), quick=True, say=print)


def test_with_listeners_the_page_says_how_late_events_arrive() -> None:
    found = run(crowded(), quick=True, say=print)
    assert found.listeners == 50
    assert found.crowd is not None
    text = page(found, CROWDED)
    assert "\n| 100 listeners | Half | 99% |\n" in text
    assert "An order is told to 50 listeners" in text
    assert "| Memory | A listener | All 50 |" in text
    assert "second of a core" in chart(found)


def test_a_system_that_allows_too_few_open_files_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    with pytest.raises(RuntimeError, match="5200 open files are needed"):
        listeners.allow(5000)
    listeners.allow(500)
    assert raised == []
    listeners.allow(1000)
    assert raised == [(1200, 4096)]


@pytest.mark.parametrize(
    ("sent", "fault"),
    [(b"data: {}\n\n", "before it was told"), (b"", "has ended")],
)
def test_a_listener_that_hears_twice_or_no_more_stops_the_run(
    sent: bytes, fault: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        port = server.getsockname()[1]

        def answer(body: bytes) -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            connection.close()

        threading.Thread(target=answer, args=[sent]).start()
        crowd = stack.enter_context(listeners.connected(port, "/events", 1))
        with pytest.raises(WrongBodyError, match=fault):
            crowd.tell(1)


def test_a_server_that_does_not_start_says_why() -> None:
    bench = BENCHES["plain_text"]
    command = (sys.executable, "-c", "raise SystemExit('no such port')")
    broken = [Version(bench.ours, "broken", command, "/", b"\n")]
    with pytest.raises(RuntimeError, match="no such port"):
        run(replace(bench, versions=broken), quick=True, say=print)


def test_ctrl_c_ends_every_server() -> None:
    command = [sys.executable, "-u", "-m", "benchmarks", "plain_text", "--quick"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as harness:
        assert harness.stdout is not None
        for line in harness.stdout:
            if "1/2" in line:  # every server is up in the first round
                break
        servers = psutil.Process(harness.pid).children(recursive=True)
        assert len(servers) == len(BENCHES["plain_text"].versions)
        harness.send_signal(signal.SIGINT)
        assert "stopped" in harness.stdout.read()
        assert harness.wait() == 130
    assert [server for server in servers if server.is_running()] == []


# What is published.


# Two versions that were never measured.
REPORT = Report(
    slug="plain_text",
    unit="lines",
    size=10,
    ours="Ours",
    quick=False,
    command="python -m benchmarks plain_text",
    date="2026-01-01",
    machine={"cpu": "x", "cores": 2, "memory": 10**9, "os": "y"},
    versions={"python": "3.11"},
    results=[
        Result("Ours", "ours", [Sample(2.0, 0.001, 10, 100)], 10_000_000),
        Result("Theirs", "theirs", [Sample(1.0, 0.001, 10, 100)], 10_000_000),
    ],
    left_out={},
)
NEVER_RUN = Bench(
    slug="plain_text",
    unit="lines",
    versions=[
        app("Ours", "a:app", "/", b"\n", "Made here."),
        app("Theirs", "b:app", "/", b"\n", "Made there."),
    ],
    ours="Ours",
    read=lambda _: [],
    expected=lambda _: [],
)


def measured(monkeypatch: pytest.MonkeyPatch, found: Report) -> None:
    """Let a run find this."""
    monkeypatch.setattr(command_line, "run", lambda *_, **__: found)


def test_on_a_busy_machine_nothing_is_written_unless_one_insists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ["plain_text", "--out", str(tmp_path)]
    kept = tmp_path / "plain_text.md"
    kept.write_text("measured on a quiet machine", "utf-8")
    measured(monkeypatch, replace(REPORT, other_work=0.101))
    assert main(to) == 1
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert kept.read_text("utf-8") == "measured on a quiet machine"
    said = capsys.readouterr().out
    assert "| **Ours** |" in said  # The table is shown all the same.
    assert "Nothing was written for plain_text: the machine was busy" in said
    assert "--busy" in said
    assert main([*to, "--busy"]) == 0
    assert "for 10% of its time, so these figures are rough" in kept.read_text("utf-8")


def test_on_a_quiet_machine_the_figures_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, replace(REPORT, other_work=0.1))
    assert main(["plain_text", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "plain_text.md").read_text("utf-8")
    assert "rough" not in text
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".svg"}


def test_a_busy_machine_keeps_the_figures_of_that_bench_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {"plain_text": 0.5, "sse_basic": 0.0}
    monkeypatch.setattr(
        command_line,
        "run",
        lambda b, **_: replace(REPORT, slug=b.slug, other_work=shares[b.slug]),
    )
    assert main([*shares, "--out", str(tmp_path)]) == 1
    assert {path.stem for path in tmp_path.iterdir()} == {"sse_basic"}


BURN = "import time\nwhile time.process_time() < 0.4: pass\n"


def test_what_a_process_of_a_version_does_counts_as_ours() -> None:
    # As a provider: the child of a version, and at first it still runs.
    child = BURN + "print('done', flush=True)\ninput()"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    )
    before = machine.own_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as version:
        assert version.stdout is not None
        assert version.stdout.readline() == b"done\n"
        assert machine.own_seconds() - before >= 0.3
        version.communicate(b"\n")
    # Nor is it forgotten when it has ended.
    assert machine.own_seconds() - before >= 0.3


@pytest.mark.parametrize(
    ("others", "share"), [(0.0, 0.0), (0.5, 0.25), (-0.1, 0.0)], ids=str
)
def test_other_work_is_what_is_neither_idle_nor_ours(
    others: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Times(NamedTuple):
        user: float
        idle: float
        iowait: float

    clock = iter([Times(10, 10, 10), Times(10.5 + others, 10.25 + 0.5 - others, 10.75)])
    own = iter([3.0, 3.5])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(clock))
    monkeypatch.setattr(machine, "own_seconds", lambda: next(own))
    assert machine.other_work()() == pytest.approx(share)


def test_every_library_below_a_version_is_named() -> None:
    web = {
        "python",
        "fastapi",
        "starlette",
        "pydantic",
        "uvicorn",
        "httptools",
        "uvloop",
    }
    found = {slug: harness.libraries(b.versions) for slug, b in BENCHES.items()}
    for versions in found.values():
        assert web <= versions.keys()
    assert {"openai", "httpx2", "jiter"} <= found["llm_openai"].keys()
    assert not {"openai", "httpx2"} & found["csv_export"].keys()
    with_sse = [slug for slug, known in found.items() if "sse-starlette" in known]
    assert with_sse == ["sse_basic", "sse_broadcast"]
    assert found["llm_openai"]["openai"] == version("openai")


def test_a_library_is_found_by_what_the_code_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "benchmarks/versions").mkdir(parents=True)
    (tmp_path / "recipes/tea.py").write_text("from httpx2 import get", "utf-8")
    version = tmp_path / "benchmarks/versions/tea.py"
    version.write_text(
        "import sys\nfrom recipes import tea\n"
        "def f():\n    import sqlalchemy.ext.asyncio, not_installed\n",
        "utf-8",
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    modules = ["uvicorn", "benchmarks.versions.tea"]
    wanted = {"uvicorn", "httpx2", "sqlalchemy", "not_installed"}
    assert machine.imported(modules) == wanted
    found = machine.libraries(modules)
    assert {"httpx2", "httpcore2", "sqlalchemy", "uvicorn", "uvloop"} <= found.keys()
    assert not {"fastapi", "not-installed"} & found.keys()


def test_node_is_named_where_it_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "node", lambda: {"node": "20.1"})
    python = app("Ours", "recipes.plain_text:app", "/", b"\n")
    assert "node" not in harness.libraries([python])
    assert (
        harness.libraries([python, node("Node", "x.mjs", "/", b"\n")])["node"] == "20.1"
    )


FAST = Target("At least 5 times as fast", 5, 4.5, "times")
SMALL = Target("At most 10 MB more", 10, 3, "MB", at_most=True)


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (FAST, False),
        (replace(FAST, measured=5), True),
        (SMALL, True),
        (replace(SMALL, measured=10.1), False),
    ],
)
def test_a_promise_is_kept_or_missed(target: Target, met: bool) -> None:
    assert target.met is met


def test_a_target_that_is_missed_is_shown_as_missed_with_the_reason() -> None:
    why = {FAST.promise: "the wire is the limit.", SMALL.promise: "never shown."}
    found = replace(REPORT, targets=[FAST, SMALL])
    text = page(found, replace(NEVER_RUN, why=why))
    assert "| At least 5 times as fast | 4.50 times, missed |" in text
    assert (
        "**One target is missed.** Target: at least 5 times as fast. "
        "Measured: 4.50 times. Missed, because the wire is the limit."
    ) in text
    assert "| At most 10 MB more | 3.00 MB |" in text
    assert "never shown" not in text
    unknown = page(found, NEVER_RUN)
    assert "Measured: 4.50 times. Missed, and the reason is not known yet." in unknown


@pytest.mark.parametrize(
    ("seconds", "time", "share"),
    [
        (2.099, "1×", "as fast"),  # noqa: RUF001
        (1.901, "1×", "as fast"),  # noqa: RUF001
        (2.11, "1.1×", "106 %"),  # noqa: RUF001
        (1.89, "0.94×", "94.5 %"),  # noqa: RUF001
    ],
)
def test_a_difference_that_is_noise_is_no_difference(
    seconds: float, time: str, share: str
) -> None:
    ours, theirs = REPORT.results
    theirs = replace(theirs, rounds=[Sample(seconds, 0.001, 10, 100)])
    found = replace(REPORT, results=[ours, theirs])
    found.targets = [Target("Fast", 80, found.ratio("Theirs") * 100, "%")]
    text = page(found, NEVER_RUN)
    assert f"| {time} |" in text.splitlines()[3]
    assert f"| Fast | {share} |" in text
    assert "A difference below 5% is the noise of a run" in text


@pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES)
def test_every_version_is_explained_in_whole_sentences(bench: Bench) -> None:
    for name, about in bench.about.items():
        assert re.fullmatch(r"\S.{20,300}\.", about), f"{name}: {about!r}"
    assert len(set(bench.about.values())) == len(bench.versions)


def test_the_page_says_what_each_version_of_the_table_is(quick: Quick) -> None:
    bench, _, folder, _ = quick
    text = (folder / f"{bench.slug}.md").read_text("utf-8")
    for name in names(bench):
        assert f"\n    - **{name}:** {bench.about[name]}\n" in text


def test_a_bar_is_as_long_as_its_version_is_fast() -> None:
    ours, theirs = REPORT.results
    slow = replace(ours, rounds=[Sample(40.0, 0.001, 10, 100)])
    root = ET.fromstring(chart(replace(REPORT, results=[slow, theirs])))  # noqa: S314
    bars = [e for e in root.iter() if e.attrib.get("class") == "bar"]
    slower, faster = (float(bar.attrib["width"]) for bar in bars)
    assert faster / slower == pytest.approx(40, rel=0.02)


def test_a_promise_that_is_missed_without_a_reason_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(monkeypatch, replace(REPORT, targets=[FAST, SMALL]))
    assert main(["plain_text", "--out", str(tmp_path)]) == 1
    assert f"Missed: {FAST.promise}. Say in `why` of" in capsys.readouterr().out
    # What took half an hour to measure is not lost.
    kept = tmp_path / "plain_text.json"
    assert read(kept).targets == [FAST, SMALL]
    told = json.loads(kept.read_text("utf-8"))["targets"]
    assert [target["met"] for target in told] == [False, True]


def test_what_a_bench_measures_beside_the_speeds_has_a_file_of_its_own(
    tmp_path: Path,
) -> None:
    table = Table("chunks", ["chunk", "time"], [["64 KiB", "1 s"]])
    write(replace(REPORT, tables=[table]), NEVER_RUN, tmp_path)
    assert read(tmp_path / "plain_text.json").tables == [table]
    shown = (tmp_path / "plain_text_chunks.md").read_text("utf-8")
    assert shown == "| chunk | time |\n| --- | --: |\n| 64 KiB | 1 s |\n"


KEPT = sorted(PUBLISHED.glob("*.json"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_every_published_promise_that_is_missed_has_its_reason(kept: Path) -> None:
    bench = BENCHES[kept.stem]
    missed = {target.promise for target in read(kept).targets if not target.met}
    # A reason for what is no longer missed would be a lie.
    assert missed == set(bench.why)


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_every_published_version_is_one_that_the_bench_explains(kept: Path) -> None:
    found = {result.name for result in read(kept).results}
    assert found <= BENCHES[kept.stem].about.keys()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_what_is_published_is_made_from_what_was_measured(
    kept: Path, tmp_path: Path
) -> None:
    for path in render(read(kept), BENCHES[kept.stem], tmp_path):
        again = "run python -m benchmarks --render"
        assert path.read_text("utf-8") == (PUBLISHED / path.name).read_text("utf-8"), (
            again
        )


def test_tables_and_charts_are_made_again_without_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = Memory(1, 10_000_000, 2, 10_100_000)
    found = replace(
        REPORT, targets=[FAST], memory=memory, other_work=0.5, left_out={"A": "b"}
    )
    monkeypatch.setattr(
        command_line, "benches", lambda: {**BENCHES, "plain_text": NEVER_RUN}
    )
    write(found, NEVER_RUN, tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("plain_text.md", "plain_text.svg"):
        (tmp_path / name).unlink()
    monkeypatch.delattr(command_line, "run")
    # Also rough figures: that they are is written on them.
    render_all = ["plain_text", "sse_basic", "--render", "--out", str(tmp_path)]
    assert main(render_all) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert "sse_basic was never measured" in capsys.readouterr().out


# Charts can be read whether the page is light or dark, and whatever the system is.


def luminance(colour: str) -> float:
    """Give the relative luminance (WCAG 2.2) of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Give the contrast ratio (WCAG 2.2) of two colours, from 1 to 21."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_is_measured_as_the_standard_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_bars_stand_out_from_the_card_below_them(
    colours: dict[str, str],
) -> None:
    card = colours["card"]
    # WCAG 2.2: 1.4.3 asks 4.5 of text, 1.4.11 asks 3 of what a chart shows.
    assert contrast(colours["text"], card) >= 4.5
    assert contrast(colours["bar"], card) >= 3
    assert contrast(colours["ours"], card) >= 3


def test_the_card_lies_below_everything_and_every_colour_is_one_of_the_two_sets(
    quick: Quick,
) -> None:
    text = (quick[2] / f"{quick[0].slug}.svg").read_text("utf-8")
    root = ET.fromstring(text)  # noqa: S314
    drawn = [
        e for e in root if e.tag.rpartition("}")[2] not in ("title", "desc", "style")
    ]
    card = drawn[0].attrib
    assert (card["class"], card["width"], card["height"]) == ("card", "100%", "100%")
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    for rules, colours in ((light, LIGHT), (dark, DARK)):
        assert sorted(re.findall("#[0-9a-f]+", rules)) == sorted(colours.values())
        assert f".card {{ fill: {colours['card']}; }}" in rules
    # Nothing has a colour of its own, and nothing lets another shine through.
    assert not re.findall(r"#[0-9a-f]{3,}|opacity", text.replace(STYLE, ""))
    assert "opacity" not in STYLE


# The client is what everything is measured with: its reading is proved byte by byte.

CHUNKED = b"5\r\nab\r\nc\r\n3\r\n\r\nd\r\n0\r\n\r\n"


def in_steps(wire: bytes, step: int) -> Iterator[bytes]:
    return (wire[at : at + step] for at in range(0, len(wire), step))


@pytest.mark.parametrize("step", range(1, len(CHUNKED) + 1))
def test_chunks_are_read_however_they_arrive(step: int) -> None:
    assert b"".join(dechunk(in_steps(CHUNKED, step))) == b"ab\r\nc\r\nd"


def test_an_answer_without_its_last_chunk_is_an_error() -> None:
    with pytest.raises(WrongBodyError, match="cut short"):
        list(dechunk([CHUNKED[:-1]]))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("step", range(1, 12))
def test_units_are_counted_however_they_arrive(end: bytes, step: int) -> None:
    wire = end.join([b"tea", b"honey", b"cup", b""])
    assert sum(ended for _, ended in counted(in_steps(wire, step), end)) == 3


def answer(wire: bytes) -> bytes:
    """Read a whole answer by the client."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(wire)
        theirs.shutdown(socket.SHUT_WR)
        return b"".join(body_of(ours))


def test_an_answer_may_be_chunked_or_end_with_the_connection() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED
    assert answer(chunked) == b"ab\r\nc\r\nd"
    assert answer(b"HTTP/1.1 200 OK\r\n\r\nab\r\nc") == b"ab\r\nc"


def test_an_answer_that_is_no_success_is_an_error() -> None:
    with pytest.raises(WrongBodyError, match="500"):
        answer(b"HTTP/1.1 500 Oh\r\n\r\n")
    with pytest.raises(WrongBodyError, match="no answer"):
        answer(b"")
