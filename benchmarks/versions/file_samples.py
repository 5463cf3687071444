"""The files that every version sends."""

import tempfile
from pathlib import Path

MB = 1_000_000
SIZES = (1, 5, 10, 50, 500)  # of the files, in MB
FOLDER = Path(tempfile.gettempdir()) / "streaming-cookbook-bench"


def mark(number: int) -> bytes:
    """Give the first bytes of a megabyte; the others are zero."""
    return b"%015d\n" % number


def make_files() -> None:
    """Write the files, `500.bin` and so on; what is between the marks takes no disk."""
    FOLDER.mkdir(exist_ok=True)
    for size in SIZES:
        with tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) as file:
            for number in range(size):
                file.seek(number * MB)
                file.write(mark(number))
            file.truncate(size * MB)
        # At once, as several servers do this at the same time.
        Path(file.name).replace(FOLDER / f"{size}.bin")
