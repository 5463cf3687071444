"""Runs of pytest that share the work: `-p tests.kit.share --share FOLDER`.

Each run collects all tests, and runs only the files that no other run with the same
FOLDER has begun. A file stays in one process, and with it the fixtures of its module;
whichever run is free first takes the next file.

The files with a test that needs Chromium come last. With `--browser` a run takes
nothing else, and so it has them from the beginning. Each browser keeps a core busy,
while a test of servers waits most of the time: so the two go well together, and four
browsers do not.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import measured

FAILED = "failed."  # how the files begin that name the tests that failed


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the folder in which a file is left for each file of tests that was begun."""
    parser.addoption("--share", type=Path, required=True)
    parser.addoption("--browser", action="store_true")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests of the files that are for this run."""
    if session.testsfailed or session.config.option.collectonly:
        return None  # There is nothing to run: pytest says so itself.
    ours = _ours(session)
    item = next(ours, None)
    while item:
        # A test is told which one follows it, and so which fixtures it may leave open.
        following = next(ours, None)
        measured.measure(item.path.relative_to(item.config.rootpath))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Write down which tests failed, or failed to be set up; one name a line."""
    stats = terminalreporter.stats
    reports = [*stats.get("failed", []), *stats.get("error", [])]
    names = dict.fromkeys(f"{report.nodeid}\n" for report in reports)
    file: Path = config.getoption("--share") / f"{FAILED}{os.getpid()}"
    file.write_text("".join(names), "utf-8")


def _ours(session: pytest.Session) -> Iterator[pytest.Item]:
    """Pass over the tests of every file that another run has begun."""
    folder: Path = session.config.getoption("--share")
    files = {item.path for item in session.items if needs_chromium(item)}
    items = sorted(session.items, key=lambda item: item.path in files)
    if session.config.getoption("--browser"):
        items = [item for item in items if item.path in files]
    ours: dict[Path, bool] = {}
    for item in items:
        if item.path not in ours:
            ours[item.path] = _take(folder, item)
        if ours[item.path]:
            yield item


def needs_chromium(item: pytest.Item) -> bool:
    """Tell whether a test opens a page in a browser."""
    return "chromium" in getattr(item, "fixturenames", ())


def _take(folder: Path, item: pytest.Item) -> bool:
    name = item.path.relative_to(item.config.rootpath).as_posix().replace("/", "+")
    try:
        # The system lets only one process make the file.
        os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
