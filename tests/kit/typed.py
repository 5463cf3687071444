"""Type what a page tells its reader to type, on ports of the test's own."""

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.servers import Server, free_port, serve

COOKBOOK = Path(sys.executable).with_name("cookbook")


def commands(of: str) -> list[str]:
    """Give the commands that a part of the page tells its reader to type, in order."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", of, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def typed(command: str, *, recipe: int = 8000, model: int = 8001) -> list[str]:
    """Read a command as a shell does, with these ports for those that it prints."""
    for printed, port in ((8000, recipe), (8001, model)):
        command = command.replace(f"127.0.0.1:{printed}", f"127.0.0.1:{port}")
    return shlex.split(command)


@contextmanager
def cookbook(command: str) -> Iterator[Server]:
    """Run a command `cookbook llm …` on a free port."""
    port = free_port()
    argv = [str(COOKBOOK), *shlex.split(command)[1:], "--port", str(port)]
    with serve(argv, port, env={"PYTHONUNBUFFERED": "1"}) as running:
        yield running
