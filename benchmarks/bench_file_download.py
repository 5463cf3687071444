"""A file of 500 MB: 8 KiB chunks, FileResponse and the recipe, beside nginx."""

import socket
import statistics
import sys
from contextlib import ExitStack
from typing import Any

from benchmarks.harness import Bench, Report, Table, Target, Version, app, started
from benchmarks.report import short
from benchmarks.versions.file_nginx import program
from benchmarks.versions.file_samples import MB, mark
from recipes.file_download import CHUNK

OURS = "The recipe: 256 KiB a chunk"
SMALL = "aiofiles, 8 KiB a chunk"
NGINX = "nginx, sendfile"
BY_SMALL = "At least 10 times as fast as 8 KiB a chunk"
BY_NGINX = "At least 50 % of the speed of nginx"
PATH = "/files/{n}.bin"
NGINX_MODULE = "benchmarks.versions.file_nginx"
VERSIONS = "benchmarks.versions.file_download"
KIB = 1024
OURS_KIB = CHUNK // KIB
CHUNKS = [64, 128, 256, 512, 1024, 2048]  # KiB
WAITING = 50  # clients that ask for a file and do not read it
ROUNDS = 5


def read(body: bytes) -> list[Any]:
    """Give the mark at the start of each megabyte, and whether all else is zero."""
    marks = [bytes(body[at : at + 16]) for at in range(0, len(body), MB)]
    return [*marks, len(body), body.count(0)]


def expected(n: int) -> list[Any]:
    """Say what a file of `n` megabytes holds."""
    return [*(mark(number) for number in range(n)), n * MB, n * (MB - 16)]


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    found = [Target(BY_SMALL, 10, report.ratio(SMALL), "times")]
    if NGINX not in report.left_out:
        found.append(Target(BY_NGINX, 50, report.ratio(NGINX) * 100, "%"))
    if report.memory:
        promise = f"At most 16 MB more memory for a file of {report.memory.large:,} MB"
        growth = report.memory.growth / 1e6
        found.append(Target(promise, 16, growth, "MB", at_most=True))
    return found


def cost_of_chunks(quick: bool) -> list[Table]:
    """Measure what each size of a chunk costs: processor time, and memory."""
    size, clients = (5, 2) if quick else (500, WAITING)
    rows = []
    for kib in CHUNKS:
        target = f"{VERSIONS}_chunks:kib_{kib}"
        version = app(f"{kib} KiB", target, PATH, b"", unit=MB)
        with started(version) as running, ExitStack() as stack:
            running.wait_until_it_listens()
            running.ask(size)
            times = [running.ask(size).cpu_seconds for _ in range(ROUNDS)]
            before = running.peak_memory()
            for _ in range(clients):
                stack.enter_context(waiting(running.port, size))
            # The last of them has its headers, so all are being served.
            grown = (running.peak_memory() - before) / clients
        name = f"{kib} KiB" if kib < KIB else f"{kib // KIB} MiB"
        cells = [
            name,
            f"{short(statistics.median(times), 2)} s",
            f"{short(grown / 1e6, 2)} MB",
        ]
        rows.append([f"**{cell}**" for cell in cells] if kib == OURS_KIB else cells)
    head = ["chunk", "time of the processor", "memory of a waiting client"]
    return [Table("chunks", head, rows)]


def waiting(port: int, size: int) -> socket.socket:
    """Ask for a file, and read no more than the first bytes of its head."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    request = f"GET {PATH.format(n=size)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connection.sendall(request.encode())
    connection.recv(16)
    return connection


def served(name: str, target: str, about: str) -> Version:
    """An application that sends the files."""
    return app(name, f"{VERSIONS}:{target}", PATH, b"", about, unit=MB)


BENCH = Bench(
    slug="file_download",
    unit="MB",
    versions=[
        served(
            SMALL,
            "small_chunks",
            "What many tutorials show: a loop that reads 8 KiB with `aiofiles`, in a "
            "plain `StreamingResponse`. A thread reads each piece.",
        ),
        served(
            "FileResponse, 64 KiB a chunk",
            "file_response",
            "Starlette's own class for files, as it comes.",
        ),
        served(
            "FileResponse, 256 KiB a chunk",
            "large_file_response",
            "Starlette's class again, with the recipe's size of a chunk.",
        ),
        served(
            OURS,
            "recipe",
            "The recipe as it is on this page. After each chunk it also checks that "
            "the file is still the same.",
        ),
        served(
            "Raw ASGI, read on the event loop",
            "raw",
            "The recipe's size of a chunk without FastAPI and without a thread. While "
            "the disk is slow, such a server answers nobody else.",
        ),
        Version(
            NGINX,
            "nginx with sendfile on",
            # Where there is none, this version is left out.
            (sys.executable if program() else "nginx", "-m", NGINX_MODULE),
            PATH,
            about="The web server nginx, written in C, without Python. The kernel "
            "copies the file to the connection.",
            unit=MB,
        ),
    ],
    ours=OURS,
    read=read,
    expected=expected,
    size=500,
    quick_size=5,
    warm_up=1,
    memory=(50, 500),
    quick_memory=(1, 5),
    targets=targets,
    tables=cost_of_chunks,
)
