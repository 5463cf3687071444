"""Measure several versions of one stream, in turn, with the same client.

Every version is a process of its own and stays up for the whole run. The versions are
asked one after the other, round after round, so that a slow minute of the machine
falls on all of them. A version counts only if its body is right.
"""

import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).parent.parent
START = 60.0  # seconds that a server may take until it listens
SILENCE = 120.0  # seconds without a byte after which a stream counts as dead
PACKAGES = ("fastapi", "starlette", "uvicorn", "httptools", "uvloop", "sse-starlette")


class WrongBodyError(Exception):
    """A version sent something else than the others."""


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
    unit: int = 0  # bytes of a unit that nothing ends, as a megabyte of a file


def app(name: str, target: str, path: str, end: bytes, unit: int = 0) -> Version:
    """An ASGI application, `module:name`, behind uvicorn."""
    command = (sys.executable, "-m", "uvicorn", target, "--port", "0")
    options = ("--no-access-log", "--timeout-graceful-shutdown", "1")
    return Version(name, f"uvicorn {target}", (*command, *options), path, end, unit)


def node(name: str, script: str, path: str, end: bytes) -> Version:
    """A server of Node's `http` module; `script` is relative to the project."""
    return Version(name, f"node {script}", ("node", script), path, end)


def loop(name: str, module: str) -> Version:
    """A process without HTTP that measures itself."""
    return Version(name, f"python -m {module}", (sys.executable, "-m", module), None)


@dataclass(frozen=True)
class Target:
    """What the recipe promises, and what the run says about it."""

    promise: str
    goal: float
    measured: float
    met: bool


@dataclass(frozen=True)
class Sample:
    """One answer of one version; times in seconds."""

    seconds: float
    first_byte: float | None
    units: int
    bytes: int
    cpu_seconds: float = 0.0


@dataclass
class Result:
    """All rounds of one version, and what they come to."""

    name: str
    command: str
    rounds: list[Sample] = field(default_factory=list)
    seconds: float = 0.0  # median
    per_second: float = 0.0  # units in the median time
    first_byte: float | None = None  # median
    ratio: float = 1.0  # the median time divided by that of ours
    cpu_seconds: float = 0.0  # median of the processor time: steadier on a busy machine
    peak_memory: int = 0  # bytes


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
    other_work: float  # share of the machine that was busy with something else
    memory: Memory | None = None
    targets: list[Target] = field(default_factory=list)

    def __getitem__(self, name: str) -> Result:
        """Give the result of one version."""
        return next(result for result in self.results if result.name == name)


def no_targets(_: Report) -> list[Target]:
    """Promise nothing."""
    return []


@dataclass(frozen=True)
class Bench:
    """Versions that send the same `size` units, and the one that is ours.

    `read` takes a body apart into units, `expected` says what `n` units are; they must
    agree for every version before anything is measured. `extra` units of each body are
    not counted in `size`, as the header of a table.
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


# --- The client -----------------------------------------------------------------------


def dechunk(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Take off the chunked framing (RFC 9112, 7.1), one payload for each piece.

    Raises:
        WrongBodyError: the last chunk never came.
    """
    buffer = b""
    for piece in pieces:
        buffer += piece
        payload: list[bytes] = []
        at = 0
        while (line := buffer.find(b"\r\n", at)) >= 0:
            size = int(buffer[at:line], 16)
            after = line + 2 + size + 2
            if after > len(buffer):
                break
            if size == 0:
                yield b"".join(payload)
                return
            payload.append(buffer[line + 2 : after - 2])
            at = after
        buffer = buffer[at:]
        yield b"".join(payload)
    raise WrongBodyError("the answer was cut short")


def body_of(connection: socket.socket) -> Iterator[bytes]:
    """Read one answer: its body, chunked or up to the close of the connection."""
    pieces = iter(lambda: connection.recv(256 * 1024), b"")
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := next(pieces, b"")):
            raise WrongBodyError("no answer")
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    status, _, fields = head.partition(b"\r\n")
    if b" 200" not in status:
        raise WrongBodyError(status.decode("latin-1"))

    def after_the_head() -> Iterator[bytes]:
        yield rest
        yield from pieces

    chunked = b"transfer-encoding: chunked" in fields.lower()
    return dechunk(after_the_head()) if chunked else after_the_head()


def counted(pieces: Iterable[bytes], end: bytes) -> Iterator[tuple[bytes, int]]:
    """Say of each piece how many units end in it."""
    tail = b""
    for piece in pieces:
        # The end of a unit may lie across two pieces: look at the seam too.
        seam = tail + piece
        yield piece, seam.count(end)
        tail = seam[max(len(seam) - len(end) + 1, 0) :]


def fetch(
    port: int, path: str, end: bytes, keep: list[bytes] | None = None, unit: int = 0
) -> Sample:
    """Ask a server once, and count what it sends; `keep` collects the body.

    Units are counted by what ends them, or, if nothing does, by their size: `unit`.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        began = time.perf_counter()
        connection.sendall(request.encode())
        first_byte: float | None = None
        units = size = 0
        pieces = body_of(connection)
        for data, ended in counted(pieces, end) if end else ((p, 0) for p in pieces):
            if data and first_byte is None:
                first_byte = time.perf_counter() - began
            size += len(data)
            units += ended
            if keep is not None:
                keep.append(data)
        if unit:
            units = size // unit
        return Sample(time.perf_counter() - began, first_byte, units, size)


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
        """Read the port from what the server says; RuntimeError if it says none."""
        if self.version.path is None:
            return  # Its input waits for it.
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", self.said()):
                self.port = int(found[1])
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


@contextmanager
def started(version: Version) -> Iterator[Running]:
    """Start a version, and end it with the block, by its process id."""
    pipe = subprocess.PIPE if version.path is None else None
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            version.command,
            cwd=ROOT,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or log,
            stderr=log,
            text=True,
        ) as process,
    ):
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
        elsewhere = other_work(all_running)
        for number in range(1, rounds + 1):
            for running in all_running:
                name = running.version.name
                sample = running.ask(size)
                check_count(bench, running.version, sample, size)
                results[name].rounds.append(sample)
                say(f"{bench.slug}: {number}/{rounds}  {sample.seconds:8.3f} s  {name}")
        share = elsewhere()
        for running in all_running:
            results[running.version.name].peak_memory = running.peak_memory()
    report = Report(
        slug=bench.slug,
        unit=bench.unit,
        size=size,
        ours=bench.ours,
        quick=quick,
        command=f"python -m benchmarks {bench.slug}" + " --quick" * quick,
        date=datetime.now(UTC).date().isoformat(),
        machine=machine(),
        versions=installed(),
        results=list(results.values()),
        left_out=left_out,
        other_work=share,
    )
    ours = statistics.median(sample.seconds for sample in report[bench.ours].rounds)
    for result in report.results:
        result.seconds = statistics.median(sample.seconds for sample in result.rounds)
        result.cpu_seconds = statistics.median(s.cpu_seconds for s in result.rounds)
        result.per_second = size / result.seconds
        result.ratio = result.seconds / ours
        waits = [s.first_byte for s in result.rounds if s.first_byte is not None]
        result.first_byte = statistics.median(waits) if waits else None
    if memory:
        say(f"{bench.slug}: memory at {memory[0]:,} and {memory[1]:,} {bench.unit}")
        version = next(v for v in versions if v.name == bench.ours)
        report.memory = measure_memory(bench, version, memory)
    report.targets = bench.targets(report)
    return report


def other_work(all_running: Sequence[Running]) -> Callable[[], float]:
    """Begin to watch the machine; the result tells the share that others have used."""

    def used() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        mine = psutil.Process().cpu_times()
        own = mine.user + mine.system + sum(r.cpu_seconds() for r in all_running)
        return sum(times), times.idle + getattr(times, "iowait", 0.0), own

    before = used()

    def share() -> float:
        total, idle, own = (
            now - then for now, then in zip(used(), before, strict=True)
        )
        return round(max(total - idle - own, 0) / total, 3) if total else 0.0

    return share


def machine() -> dict[str, str | int]:
    """Describe this machine without naming it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (
        found := re.search(r"model name\s*: (.+)", cpuinfo.read_text())
    ):
        model = found[1]
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = f"{platform.system()} {platform.release()}"
    memory = psutil.virtual_memory().total
    return {"cpu": model, "cores": os.cpu_count() or 1, "memory": memory, "os": system}


def installed() -> dict[str, str]:
    """Name the versions that a figure depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version_of(package)
        except PackageNotFoundError:
            found[package] = "none"
    if shutil.which("node"):
        said = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, check=True
        )
        found["node"] = said.stdout.strip().removeprefix("v")
    return found
