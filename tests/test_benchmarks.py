"""benchmarks/: every version does the same work, and a broken one cannot win."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.__main__ import benches
from benchmarks.harness import (
    ROOT,
    Bench,
    Report,
    Version,
    WrongBodyError,
    body_of,
    counted,
    dechunk,
    run,
)
from benchmarks.report import write

pytestmark = pytest.mark.timeout(120)

BENCHES = benches()
NODE = [
    (slug, version.name)
    for slug, bench in BENCHES.items()
    for version in bench.versions
    if version.command[0] == "node"
]


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


Quick = tuple[Bench, Report, Path, set[psutil.Process]]


@pytest.fixture(scope="module", params=BENCHES)
def quick(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Quick:
    """One quick run: the bench, its report, its files, and what it left running."""
    bench = BENCHES[request.param]
    folder = tmp_path_factory.mktemp(bench.slug)
    before = children()
    report = run(bench, quick=True, say=print)
    write(report, folder)
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
    assert {"python", "fastapi", "starlette", "uvicorn"} <= set(data["versions"])
    assert set(data["machine"]) == {"cpu", "cores", "memory", "os"}


def test_the_files_name_no_folder_of_this_machine(quick: Quick) -> None:
    for path in quick[2].iterdir():
        text = path.read_text("utf-8")
        assert str(ROOT) not in text
        assert str(Path(sys.executable).parent) not in text


def test_the_table_comes_first_and_holds_every_version(quick: Quick) -> None:
    bench, _, folder, _ = quick
    text = (folder / f"{bench.slug}.md").read_text("utf-8")
    rows, note, end = text.split("\n\n")[0], text.split("\n\n")[1], text[-1]
    assert rows.startswith("| Version |")
    named = [row.split("|")[1].strip(" *") for row in rows.splitlines()[2:]]
    assert named == names(bench)
    assert f"`python -m benchmarks {bench.slug} --quick`" in note
    assert end == "\n"


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
    _, report, folder, _ = quick
    for path in write(report, tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes()


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
