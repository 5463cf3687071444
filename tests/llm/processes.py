"""Find the model's process, and see it do things of which it sends no notice."""

import subprocess
from collections.abc import Callable

import psutil

from cookbook.llm import local
from tests.kit import servers
from tests.kit.servers import WAIT


def child_of(parent: subprocess.Popen[str]) -> psutil.Process:
    """Wait until a process has started the model's process, and give that."""
    seen = psutil.Process(parent.pid)
    until(lambda: bool(seen.children()))
    return seen.children()[0]


def until(come: Callable[[], bool]) -> None:
    """Look again and again whether something is so, for at most `START` seconds."""
    servers.until(come, f"{come} to come true", local.START)


def has_mapped(ending: str) -> Callable[[psutil.Process], bool]:
    """Make a condition: the process has mapped a file with this end of its name."""

    def mapped(process: psutil.Process) -> bool:
        return any(one.path.endswith(ending) for one in process.memory_maps())

    return mapped


def ports_of(process: psutil.Process) -> list[int]:
    """Give the ports on which a process listens."""
    return [
        connection.laddr.port
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]


def assert_gone(process: psutil.Process) -> None:
    """Wait for the end of a process."""
    gone, alive = psutil.wait_procs([process], timeout=WAIT)
    assert (gone, alive) == ([process], [])
