"""Two runs of pytest that share the work: `-p tests.kit.share --share FOLDER`.

Each run collects all tests, and runs only the files that no other run with the same
FOLDER has begun. A file stays in one process, and with it the fixtures of its module;
whichever run is free first takes the next file. A file that needs Chromium is taken
once, although its tests are run in two places, before and after those of other files.
"""

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the folder in which a file is left for each file of tests that was begun."""
    parser.addoption("--share", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Begin without any file."""
    config.stash[OURS] = {}


OURS = pytest.StashKey[dict[Path, bool]]()  # whether a file is for this run


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass over the tests of a file that another run has begun."""
    ours = item.config.stash[OURS]
    if item.path not in ours:
        ours[item.path] = _take(item.config.getoption("--share"), item)
    return None if ours[item.path] else True


def _take(folder: Path, item: pytest.Item) -> bool:
    name = item.path.relative_to(item.config.rootpath).as_posix().replace("/", "+")
    try:
        # The system lets only one process make the file.
        os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
