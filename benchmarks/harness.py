"""Measure several versions of one stream, in turn, with the same client.

Every version is a process of its own and stays up for the whole run. The versions are
asked one after the other, round after round, so that a slow minute of the machine
falls on all of them. A version counts only if its body is right.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks import machine
from benchmarks.client import Sample, WrongBodyError, dechunk, fetch
from benchmarks.listeners import allow, connected

ROOT = Path(__file__).parent.parent
START = 60.0  # seconds that a server may take until it listens
TICK = 0.01  # seconds: what the system counts a process's time in
FEW = 5  # listeners whose bodies are compared before anything is measured


# --- What is measured -----------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """One way to make the stream: a command, and how to ask it for `n` units.

    `path` is None for a process that is no server: it reads a number from its input
    and answers with a line of JSON, `{"seconds": 0.1, "units": 1000}`.
    """

    name: str
    shown: str  # the command as a reader would type it
    command: tuple[str, ...]
    path: str | None
    end: bytes = b""  # what ends a unit on the wire
    runs: tuple[str, ...] = ()  # the Python modules that it starts
    about: str = ""  # what it is, in plain words; the page shows it below the table
    unit: int = 0  # bytes of a unit that nothing ends, as a megabyte of a file


def app(
    name: str, target: str, path: str, end: bytes, about: str = "", unit: int = 0
) -> Version:
    """An ASGI application, `module:name`, behind uvicorn."""
    command = (sys.executable, "-m", "uvicorn", target, "--port", "0")
    options = ("--no-access-log", "--timeout-graceful-shutdown", "1")
    runs = ("uvicorn", target.partition(":")[0])
    shown = f"uvicorn {target}"
    return Version(name, shown, (*command, *options), path, end, runs, about, unit)


def node(name: str, script: str, path: str, end: bytes, about: str = "") -> Version:
    """A server of Node's `http` module; `script` is relative to the project."""
    command = ("node", script)
    return Version(name, f"node {script}", command, path, end, about=about)


def loop(name: str, module: str, about: str = "") -> Version:
    """A process without HTTP that measures itself."""
    command = (sys.executable, "-m", module)
    shown = f"python -m {module}"
    return Version(name, shown, command, None, runs=(module,), about=about)


@dataclass(frozen=True)
class Target:
    """What the recipe promises, and what the run says about it."""

    promise: str  # as one reads it: "At least 25 times as fast as the plain generator"
    goal: float
    measured: float
    unit: str  # "%" is a share of another version's speed
    at_most: bool = False  # whether less is better

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        if self.at_most:
            return self.measured <= self.goal
        return self.measured >= self.goal


def median_of(times: Iterable[float | None]) -> float | None:
    """Give the median of the times that were taken; None if there are none."""
    taken = [time for time in times if time is not None]
    return statistics.median(taken) if taken else None


@dataclass
class Result:
    """All rounds of one version."""

    name: str
    command: str
    rounds: list[Sample] = field(default_factory=list)
    peak_memory: int = 0  # bytes

    @property
    def seconds(self) -> float:
        """The median time of an answer."""
        return statistics.median(sample.seconds for sample in self.rounds)

    @property
    def first_byte(self) -> float | None:
        """The median time up to the first byte, in seconds; a loop sends none."""
        return median_of(sample.first_byte for sample in self.rounds)

    @property
    def cpu_seconds(self) -> float:
        """The median processor time of an answer: steadier on a busy machine."""
        return statistics.median(sample.cpu_seconds for sample in self.rounds)

    @property
    def half(self) -> float | None:
        """The median time until half of the events had arrived, in seconds."""
        return median_of(sample.half for sample in self.rounds)

    @property
    def most(self) -> float | None:
        """The median time until 99 of 100 events had arrived, in seconds."""
        return median_of(sample.most for sample in self.rounds)

    @property
    def each(self) -> float:
        """Bytes for a listener; later rounds find the memory of the first one free."""
        return max((sample.each or 0 for sample in self.rounds), default=0)


@dataclass(frozen=True)
class Crowd:
    """Many listeners that stay; each order is an event for every one of them."""

    listeners: int
    orders: int
    rounds: int
    pace: float = 0.0  # seconds from one order to the next, at least

    @property
    def events(self) -> int:
        """How many events arrive in a round."""
        return self.listeners * self.orders


@dataclass(frozen=True)
class Memory:
    """Peak memory of ours after a small and then a large answer; bytes."""

    small: int
    small_peak: int
    large: int
    large_peak: int

    @property
    def growth(self) -> int:
        """How much the large answer added."""
        return self.large_peak - self.small_peak


@dataclass(frozen=True)
class Table:
    """What a bench measures beside the speeds, as a page shows it."""

    name: str  # of the file, after the recipe's
    head: list[str]
    rows: list[list[str]]  # the first cell is text, the others are numbers


@dataclass
class Report:
    """One run of one bench."""

    slug: str
    unit: str
    size: int
    ours: str
    quick: bool
    command: str
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    results: list[Result]
    left_out: dict[str, str]
    other_work: float = 0.0  # share of the machine that was busy with something else
    memory: Memory | None = None
    targets: list[Target] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    listeners: int = 0  # that stay; then speed is counted in a core's time
    crowd: Crowd | None = None  # a larger one
    crowd_results: list[Result] = field(default_factory=list)

    def __getitem__(self, name: str) -> Result:
        """Give the result of one version."""
        return next(result for result in self.results if result.name == name)

    def time(self, name: str) -> float:
        """The median time of a version; with listeners that of its processor."""
        return self[name].cpu_seconds if self.listeners else self[name].seconds

    def per_second(self, name: str) -> float:
        """Units in a second of a version's median time."""
        return self.size / self.time(name)

    def ratio(self, name: str) -> float:
        """The median time of a version divided by that of ours."""
        return self.time(name) / self.time(self.ours)


def no_targets(_: Report) -> list[Target]:
    """Promise nothing."""
    return []


def no_tables(_: bool) -> list[Table]:
    """Measure nothing else."""
    return []


@dataclass(frozen=True)
class Bench:
    """Versions that send the same `size` units, and the one that is ours.

    `read` takes a body apart into units, `expected` says what `n` units are; they must
    agree for every version before anything is measured. `extra` units of each body are
    not counted in `size`, as the header of a table. `why` gives the reason for each
    promise that is missed: what follows "Missed, because". The page shows both.
    `tables` measures something else, and is told whether it is to be quick.

    With `crowds` many listeners hear the same; see benchmarks/listeners.py.
    """

    slug: str
    unit: str  # plural
    versions: Sequence[Version]
    ours: str
    read: Callable[[bytes], list[Any]]
    expected: Callable[[int], list[Any]]
    extra: int = 0
    size: int = 100_000
    rounds: int = 5
    quick_size: int = 1_000
    quick_rounds: int = 2
    warm_up: int = 1_000
    memory: tuple[int, int] | None = None
    quick_memory: tuple[int, int] | None = None
    targets: Callable[[Report], list[Target]] = no_targets
    why: Mapping[str, str] = field(default_factory=dict)
    tables: Callable[[bool], list[Table]] = no_tables
    crowds: tuple[Crowd, Crowd] | None = None  # the first is what `size` counts
    quick_crowds: tuple[Crowd, Crowd] | None = None

    @property
    def about(self) -> dict[str, str]:
        """What each version is, by its name."""
        return {version.name: version.about for version in self.versions}


# --- The processes --------------------------------------------------------------------


class Running:
    """A version that has been started."""

    def __init__(
        self, version: Version, process: subprocess.Popen[str], log: IO[str]
    ) -> None:
        self.version = version
        self.process = process
        self.log = log
        self.port = 0

    def wait_until_it_listens(self) -> None:
        """Read the port from what the server says, and wait until it accepts there.

        Raises:
            RuntimeError: it did not start in time.
        """
        if self.version.path is None:
            return  # Its input waits for it.
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", self.said()):
                self.port = int(found[1])
                # Some say it before they listen.
                address = ("127.0.0.1", self.port)
                with suppress(OSError), socket.create_connection(address):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.version.shown} did not start:\n{self.said()}")

    def said(self) -> str:
        """Read what the process has written so far."""
        # It writes at the same file position: look without moving it.
        return os.pread(self.log.fileno(), 1_000_000, 0).decode(errors="replace")

    def ask(self, n: int, keep: list[bytes] | None = None) -> Sample:
        """Let the version make `n` units once; WrongBodyError if it does not."""
        before = self.cpu_seconds()
        if self.version.path is None:
            sample = self.ask_a_loop(n)
        else:
            path = self.version.path.format(n=n)
            try:
                version = self.version
                sample = fetch(self.port, path, version.end, keep, version.unit)
            except (WrongBodyError, OSError) as error:
                name, said = self.version.name, self.said()
                raise WrongBodyError(f"{name}: {error}\n{said}") from error
        return replace(sample, cpu_seconds=round(self.cpu_seconds() - before, 3))

    def tell(self, crowd: Crowd, keep: list[bytes] | None = None) -> Sample:
        """Let many listeners hear some orders; `keep` collects what each of them got.

        Raises:
            WrongBodyError: an event came twice, or not at all.
        """
        path = self.version.path or ""
        process = psutil.Process(self.process.pid)
        alone = process.memory_info().rss
        try:
            with connected(self.port, path, crowd.listeners) as listeners:
                each = (process.memory_info().rss - alone) / crowd.listeners
                before = self.cpu_seconds()
                told = listeners.tell(
                    crowd.orders, pace=crowd.pace, keep=keep is not None
                )
                spent = self.cpu_seconds() - before
                if keep is not None:
                    keep += listeners.bodies()
        except (WrongBodyError, OSError) as error:
            name, said = self.version.name, self.said()
            raise WrongBodyError(f"{name}: {error}\n{said}") from error
        lags = sorted(told.lags)
        return Sample(
            seconds=told.seconds,
            first_byte=lags[0],
            units=len(lags),
            bytes=told.bytes,
            cpu_seconds=round(max(spent, TICK), 3),
            half=lags[len(lags) // 2],
            most=lags[len(lags) * 99 // 100],
            each=each,
        )

    def ask_a_loop(self, n: int) -> Sample:
        """Write the number, and read what the process measured."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("a loop is started with pipes")
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return Sample(answer["seconds"], None, answer["units"], 0)

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def peak_memory(self) -> int:
        """Bytes of memory at the highest point so far.

        Linux keeps the peak itself; elsewhere this is the memory at this moment.
        """
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists() and (
            found := re.search(r"VmHWM:\s+(\d+)", status.read_text())
        ):
            return int(found[1]) * 1024
        return int(psutil.Process(self.process.pid).memory_info().rss)


def launch(version: Version, log: IO[str]) -> subprocess.Popen[str]:
    """Start the process of a version, which writes to `log`."""
    pipe = subprocess.PIPE if version.path is None else None
    return subprocess.Popen(
        version.command,
        cwd=ROOT,
        stdin=pipe or subprocess.DEVNULL,
        stdout=pipe or log,
        stderr=log,
        text=True,
    )


@contextmanager
def started(version: Version) -> Iterator[Running]:
    """Start a version, and end it with the block, by its process id."""
    with tempfile.TemporaryFile("w+") as log, launch(version, log) as process:
        try:
            yield Running(version, process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


# --- The run --------------------------------------------------------------------------


def check(bench: Bench, running: Running) -> None:
    """Compare a whole body with what it should be, before anything is measured.

    Raises:
        WrongBodyError: the version sends something else.
    """
    body: list[bytes] = []
    if bench.crowds:
        running.tell(Crowd(FEW, bench.warm_up, 1), body)
        expected = bench.expected(bench.warm_up)
        for one in body:
            sent = bench.read(b"".join(dechunk([one, b"0\r\n\r\n"])))
            if sent != expected:
                raise WrongBodyError(f"{running.version.name} differs: {sent}")
        return
    sample = running.ask(bench.warm_up, body)
    check_count(bench, running.version, sample, bench.warm_up)
    if running.version.path is not None:
        sent, expected = bench.read(b"".join(body)), bench.expected(bench.warm_up)
        if sent != expected:
            pairs = zip(sent, expected, strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), "the length")
            raise WrongBodyError(f"{running.version.name} differs: {first}")


def check_count(bench: Bench, version: Version, sample: Sample, n: int) -> None:
    """Raise WrongBodyError unless an answer had all its units."""
    expected = n if version.path is None else n + bench.extra
    if sample.units != expected:
        raise WrongBodyError(f"{version.name}: {sample.units}, not {expected}")


def present(bench: Bench) -> tuple[list[Version], dict[str, str]]:
    """Give the versions that can run here, and why the others cannot.

    Raises:
        RuntimeError: one cannot, and `CI` is set, where nothing may be missing.
    """
    here, left_out = [], {}
    for version in bench.versions:
        program = version.command[0]
        if shutil.which(program):
            here.append(version)
        else:
            left_out[version.name] = f"{program} is not installed"
    if left_out and os.environ.get("CI") == "true":
        raise RuntimeError(f"left out: {left_out}")
    return here, left_out


def measure_memory(bench: Bench, version: Version, sizes: tuple[int, int]) -> Memory:
    """Compare the peak after a small answer with that after a large one."""
    with started(version) as running:
        running.wait_until_it_listens()
        peaks = []
        for n in sizes:
            check_count(bench, version, running.ask(n), n)
            peaks.append(running.peak_memory())
    return Memory(sizes[0], peaks[0], sizes[1], peaks[1])


def run(bench: Bench, *, quick: bool, say: Callable[[str], None]) -> Report:
    """Run a bench; `say` is told of every step.

    Raises:
        WrongBodyError: a version's body was not right.
        RuntimeError: a version did not start.
    """
    size = bench.quick_size if quick else bench.size
    rounds = bench.quick_rounds if quick else bench.rounds
    memory = bench.quick_memory if quick else bench.memory
    crowds = bench.quick_crowds if quick else bench.crowds
    if crowds:
        allow(max(crowd.listeners for crowd in crowds))
        size, rounds = crowds[0].events, crowds[0].rounds
    versions, left_out = present(bench)
    for name, reason in left_out.items():
        say(f"{bench.slug}: left out: {name}: {reason}")
    results = {
        version.name: Result(version.name, version.shown) for version in versions
    }
    with ExitStack() as stack:
        say(f"{bench.slug}: starting {len(versions)} versions")
        all_running = [stack.enter_context(started(version)) for version in versions]
        for running in all_running:
            running.wait_until_it_listens()
            check(bench, running)
        elsewhere = machine.other_work()
        for number in range(1, rounds + 1):
            for running in all_running:
                name = running.version.name
                sample = running.tell(crowds[0]) if crowds else running.ask(size)
                check_count(bench, running.version, sample, size)
                results[name].rounds.append(sample)
                say(f"{bench.slug}: {number}/{rounds}  {sample.seconds:8.3f} s  {name}")
        for running in all_running:
            results[running.version.name].peak_memory = running.peak_memory()
        crowded = heard(crowds[1], all_running, say) if crowds else []
    report = Report(
        slug=bench.slug,
        unit=bench.unit,
        size=size,
        ours=bench.ours,
        quick=quick,
        command=f"python -m benchmarks {bench.slug}" + " --quick" * quick,
        date=datetime.now(UTC).date().isoformat(),
        machine=machine.described(),
        versions=libraries(versions),
        results=list(results.values()),
        left_out=left_out,
        listeners=crowds[0].listeners if crowds else 0,
        crowd=crowds[1] if crowds else None,
        crowd_results=crowded,
    )
    if memory:
        say(f"{bench.slug}: memory at {memory[0]:,} and {memory[1]:,} {bench.unit}")
        version = next(v for v in versions if v.name == bench.ours)
        report.memory = measure_memory(bench, version, memory)
    report.targets = bench.targets(report)
    report.tables = bench.tables(quick)
    report.other_work = elsewhere()
    return report


def heard(
    crowd: Crowd, all_running: Sequence[Running], say: Callable[[str], None]
) -> list[Result]:
    """Let a larger crowd listen to each version in turn."""
    results = [Result(it.version.name, it.version.shown) for it in all_running]
    for number in range(1, crowd.rounds + 1):
        for running, result in zip(all_running, results, strict=True):
            sample = running.tell(crowd)
            result.rounds.append(sample)
            result.peak_memory = running.peak_memory()
            shown = f"{number}/{crowd.rounds}  99% within {sample.most:.3f} s"
            say(f"{crowd.listeners:,} listeners: {shown}  {result.name}")
    return results


def libraries(versions: Sequence[Version]) -> dict[str, str]:
    """Name the version of everything that some versions run on."""
    found = machine.libraries(name for version in versions for name in version.runs)
    if any(version.command[0] == "node" for version in versions):
        found |= machine.node()
    return found
