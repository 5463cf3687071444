"""Start the kernels of notebooks warm: forked, with their slow imports made.

    with warm_kernels():
        run(path)

A kernel is a process of its own, as ever. Nothing of this project is imported before
the fork, so a changed copy of it can be run as well.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from jupyter_client.provisioning import local_provisioner

from cookbook.catalog import ROOT
from tests.kit import warm

# Only what changes nothing elsewhere when it is imported, as in tests/kit/warm.py.
IMPORTED = (
    "anthropic.resources.messages",
    "fastapi.sse",
    "httpx2",
    "ipykernel.kernelapp",
    "openai.resources.chat",
    "sqlalchemy.ext.asyncio",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
)
PARENT = "JPY_PARENT_PID"  # tells a kernel to end when its parent is another one


class Kernel(warm.Warm):
    """A kernel that was forked, as Jupyter wants to see it."""

    stdin = stdout = stderr = None

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(9)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(15)


def launch(
    cmd: Sequence[str], *, env: Mapping[str, str], cwd: str, **_: object
) -> Kernel:
    """Start a kernel as `jupyter_client.launcher.launch_kernel` does."""
    start = cmd.index("-m") + 1
    module, *arguments = cmd[start:]
    kept = {name: value for name, value in env.items() if name != PARENT}
    with Path(os.devnull).open("wb") as log:
        return Kernel(
            module, arguments, cwd=Path(cwd), env=kept, log=log, imports=IMPORTED
        )


@contextmanager
def warm_kernels() -> Iterator[None]:
    """Let Jupyter fork its kernels in this block, where that can be done."""
    if not warm.is_possible():
        yield
        return
    # Jupyter chooses a kernel's ports before it starts it: so the imports come before.
    with Path(os.devnull).open("wb") as log:
        nothing = warm.Warm("this", [], cwd=ROOT, env={}, log=log, imports=IMPORTED)
        nothing.wait(warm.WAIT)
    with patch.object(local_provisioner, "launch_kernel", launch):
        yield
