"""A file of 500 MB: 8 KiB chunks, FileResponse and the recipe, beside nginx."""

import sys
from typing import Any

from benchmarks.harness import Bench, Report, Target, Version, app
from benchmarks.versions.file_nginx import program
from benchmarks.versions.file_samples import MB, mark

OURS = "The recipe: 256 KiB a chunk"
SMALL = "aiofiles, 8 KiB a chunk"
NGINX = "nginx, sendfile"
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
    small, nginx = report[SMALL].ratio, report[NGINX].ratio
    found = [
        Target("times as fast as 8 KiB a chunk", 10, small, small >= 10),
        Target("of the speed of nginx", 0.5, nginx, nginx >= 0.5),
    ]
    if report.memory:
        growth = report.memory.growth / 1e6
        promise = f"MB more memory for {report.memory.large:,} MB, at most"
        found.append(Target(promise, 16, growth, growth < 16))
    return found


def served(name: str, target: str) -> Version:
    """An application that sends the files."""
    return app(name, f"{VERSIONS}:{target}", PATH, b"", unit=MB)


BENCH = Bench(
    slug="file_download",
    unit="megabytes",
    versions=[
        served(SMALL, "small_chunks"),
        served("FileResponse, 64 KiB a chunk", "file_response"),
        served("FileResponse, 256 KiB a chunk", "large_file_response"),
        served(OURS, "recipe"),
        served("Raw ASGI, read on the event loop", "raw"),
        Version(
            NGINX,
            "nginx with sendfile on",
            # Where there is none, this version is left out.
            (sys.executable if program() else "nginx", "-m", NGINX_MODULE),
            PATH,
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
