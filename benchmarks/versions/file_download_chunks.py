"""The recipe with another size of a chunk: `kib_64` is the application with 64 KiB."""

import os

from starlette.types import ASGIApp

from benchmarks.versions.file_samples import FOLDER, make_files

make_files()
os.environ["FILES_DIR"] = str(FOLDER)

from recipes import file_download  # noqa: E402 - FILES_DIR comes first


def __getattr__(name: str) -> ASGIApp:
    """Set the size that the name says, for this process, and give the application."""
    size = name.removeprefix("kib_")
    if not size.isdecimal():
        raise AttributeError(name)
    file_download.CHUNK = int(size) * 1024
    return file_download.app
