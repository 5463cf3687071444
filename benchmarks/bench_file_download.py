"""A file of 500 MB: 8 KiB chunks, FileResponse and the recipe, beside nginx."""

import sys
from typing import Any

from benchmarks.harness import Bench, Report, Target, Version, app
from benchmarks.versions.file_nginx import program
from benchmarks.versions.file_samples import MB, mark

OURS = "The recipe: 256 KiB a chunk"
SMALL = "aiofiles, 8 KiB a chunk"
NGINX = "nginx, sendfile"
BY_SMALL = "At least 10 times as fast as 8 KiB a chunk"
BY_NGINX = "At least 50 % of the speed of nginx"
PATH = "/files/{n}.bin"
NGINX_MODULE = "benchmarks.versions.file_nginx"
VERSIONS = "benchmarks.versions.file_download"


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
)
