"""The recipe `file_upload` with a disk that takes nothing before it is told to."""

import threading
from typing import Any

from recipes import file_upload
from recipes.file_upload import Part, app

go_on = threading.Event()
plain_write = Part.write


def write(self: Part, batch: bytes) -> None:
    """Wait, in the thread that writes."""
    go_on.wait()
    plain_write(self, batch)


@app.post("/go-on")
def let_it_write() -> dict[str, Any]:
    """Let the disk take what comes."""
    go_on.set()
    return {}


Part.write = write  # type: ignore[method-assign]
__all__ = ["app", "file_upload"]
