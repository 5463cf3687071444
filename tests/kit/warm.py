"""Start Python programs from a process that has made their imports already.

One process (`python -m tests.kit.warm`) imports the slow libraries once and then only
waits. To start a program it forks: what runs is a process of its own, with its own
group, sockets, output and exit code, as `python -u -m module arguments` would give it,
but without the second or two that the imports take. No code of this project is imported
before the fork, so a changed copy of it can be run as well.

    process = Warm("uvicorn", ["recipes.plain_text:app"], cwd=ROOT, env={}, log=log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == -signal.SIGTERM

Whose job is what: the process that waits forks a *keeper* for each program, and that
forks the program. The keeper waits for the end and tells the exit code, since only a
parent can know it.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
WAIT = 60  # seconds until a program must have been forked; the imports come first
# Only what changes nothing elsewhere when it is imported. sse-starlette is not here: it
# replaces `uvicorn.Server.handle_exit`, also for applications that do not use it.
IMPORTED = (
    "dbos",
    "fastapi.sse",
    "fastapi.middleware.cors",
    "httpx2",
    "openai.resources.chat",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
)


def is_possible(env: Mapping[str, str] | None = None) -> bool:
    """Tell whether a program with these variables can be forked.

    A variable such as PYTHONUTF8 is read by an interpreter that starts, not by a fork.
    """
    python = any(name.startswith("PYTHON") for name in env or ())
    return sys.platform == "linux" and not python


_one_at_a_time = threading.Lock()  # or two threads start a process that waits each


# The side of the tests ---------------------------------------------------------------


class Warm:
    """A program that was forked; what can be asked of it is as for a `Popen`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: IO[bytes],
        imports: tuple[str, ...] = IMPORTED,
    ) -> None:
        """Run `python -u -m module`; `env` is its whole environment, `log` its output.

        It is forked from a process that has made these `imports`: one for all programs
        that name the same.

        Raises:
            EOFError: it could not be forked.
        """
        self.args = [sys.executable, "-u", "-m", module, *arguments]
        self.returncode: int | None = None
        self._line, theirs = socket.socketpair()
        with theirs:
            fds = [theirs.fileno(), log.fileno()]
            with _one_at_a_time:
                there = waiting(imports)
            socket.send_fds(there, [b"."], fds)
        order = {"module": module, "argv": [module, *arguments], "cwd": str(cwd)}
        self._line.sendall(json.dumps(order | {"env": dict(env)}).encode() + b"\n")
        self._line.settimeout(WAIT)
        self._said = self._line.makefile("r")
        self.pid = int(self._told())

    def _told(self) -> str:
        if not (line := self._said.readline()):
            raise EOFError("tests.kit.warm has ended: look for its error above")
        return line

    def poll(self) -> int | None:
        """Give the exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code, which is negative after a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended within `timeout` seconds.
        """
        if self.returncode is None:
            ready, _, _ = select.select([self._line], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._told())
            self._said.close()
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@cache
def waiting(imports: tuple[str, ...]) -> socket.socket:
    """Start the process that waits; it ends with this one, however this one ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        fd = str(theirs.fileno())
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.kit.warm", fd, *imports],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl+C is for the tests, which then end it
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # runs first, and is its sign to end
    return ours


# The side of the process that waits --------------------------------------------------


def main() -> int:
    """Fork for each order that comes in; in the forks, be what was ordered."""
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # What is shared stays shared: no collection writes to it.
    orders = socket.socket(fileno=int(sys.argv[1]))
    # Nobody asks how a keeper ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        byte, fds, _, _ = socket.recv_fds(orders, 1, 2)
        if not byte:
            return 0
        line, log = fds
        if os.fork() == 0:
            orders.close()
            return keep(socket.socket(fileno=line), log)
        os.close(line)
        os.close(log)


def keep(line: socket.socket, log: int) -> int:
    """Fork once more; wait for the end of the program, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    order = json.loads(line.makefile().readline())
    pid = os.fork()
    if pid == 0:
        os.setsid()
        line.sendall(f"{os.getpid()}\n".encode())
        line.close()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        be(**order)
        return 0
    os.close(log)
    _, status = os.waitpid(pid, 0)
    try:
        line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    except OSError:
        return 1  # The tests have gone, and nobody asks.
    return 0


def be(*, module: str, argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Become `python -m module` in a folder; its end is the end of this process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for name in ("tests.kit", "tests"):  # ours, by way of `-m`; not the program's
        del sys.modules[name]
    sys.path[0] = cwd
    importlib.invalidate_caches()
    sys.argv = argv
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main())
