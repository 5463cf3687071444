"""Run the tests of docs/learn/testing.md as a reader does, on three versions of a feed.

python -m tests.kit.own_tests     writes docs/learn/testing.txt
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from cookbook.catalog import ROOT
from tests.kit import docs
from tests.kit.warm import Warm, is_possible

LEARN = ROOT / "docs/learn"
TABLE = LEARN / "testing.txt"
LIMIT = 100  # seconds for all the tests of one version
# What the page tells its reader to type in the cookbook's folder.
FOLDER = "../feed_tests"
COPY = [
    f"mkdir {FOLDER}",
    f"cp docs/learn/feed.py docs/learn/test_feed.py {FOLDER}",
    f"cp tests/kit/asgi.py {FOLDER}/asgi_driver.py",
    f"cp tests/kit/sse.py {FOLDER}/sse_parser.py",
    f"cd {FOLDER}",
    "cp feed.py feed_kept.py",
]
RESTORE = "cp feed_kept.py feed.py"
# And in the new one; tests/learn/test_testing.py runs these.
RUN = [
    "curl -N http://127.0.0.1:8000/orders",
    "pytest test_feed.py",
    "uvicorn feed:app",
]
# The options of each step's command, and the section of test_feed.py that it runs.
STEPS = {
    "-k limit_has": "whole",
    "-k endless": "endless",
    "-k only_when": "count",
    "-k closed_when": "leave",
    "-k 'refused or failure'": "failure",
    "-k real_server": "server",
    "-k browser": "browser",
}
RUN += [RESTORE, *(f"pytest test_feed.py {options}" for options in STEPS)]
CLOSED = """    async with aclosing(orders(limit)) as feed:
        yield feed
"""
LEFT_OPEN = """    yield orders(limit)
"""
VERSIONS = ["as it is", "buffered", "careless"]
QUICK = "not real_server and not browser"  # what is careless shows without them


def section(file: Path, name: str) -> str:
    """Give a marked section of a file."""
    _, _, rest = file.read_text("utf-8").partition(f"# --8<-- [start:{name}]\n")
    assert rest, f"{file.name} has no section {name}"
    return rest.partition(f"# --8<-- [end:{name}]")[0]


def replaced(text: str, old: str, new: str) -> str:
    """Replace what must be there once."""
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    return text.replace(old, new)


def feed(version: str) -> str:
    """Give a version of feed.py."""
    text = (LEARN / "feed.py").read_text("utf-8")
    if version == "buffered":
        for part in ("fastapi", "starlette", "middleware"):
            text += section(LEARN / "feed_buffered.py", part)
    if version == "careless":
        text = replaced(text, CLOSED, LEFT_OPEN)
        text = replaced(text, "except OSError:", "except KeyError:")
        text = replaced(text, "Query(ge=1)", "Query()")
    return text


def copy(folder: Path, version: str) -> None:
    """Fill a new folder by the page's commands; then change the version's files."""
    typed = " && ".join(COPY).replace(FOLDER, shlex.quote(str(folder)))
    subprocess.run(["sh", "-c", typed], cwd=ROOT, check=True)
    if version == "buffered":
        # Nothing comes here, and nobody needs to wait for it for long.
        for file in (folder / "test_feed.py", folder / "asgi_driver.py"):
            text = replaced(file.read_text("utf-8"), "WAIT = 15 ", "WAIT = 1 ")
            file.write_text(text, "utf-8")
    (folder / "feed.py").write_text(feed(version), "utf-8")


def pytest(folder: Path, *options: str) -> str:
    """Run `pytest test_feed.py` in a folder; give what it says."""
    arguments = ["test_feed.py", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "CHROMIUM": shutil.which("chromium") or ""}
    environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
    with tempfile.NamedTemporaryFile(dir=folder) as log:
        if is_possible():
            process = Warm("pytest", arguments, cwd=folder, env=environment, log=log)
            process.wait(LIMIT)
        else:
            subprocess.run(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            )
        return Path(log.name).read_text("utf-8")


def results(folder: Path, version: str) -> dict[str, str]:
    """Run the tests on a version; give the message of each that fails, "" if it passes.

    A test that is left out has no entry.
    """
    copy(folder, version)
    options = ["-k", QUICK] if version == "careless" else []
    said = pytest(folder, "--junitxml=results.xml", *options)
    file = folder / "results.xml"
    assert file.exists(), said
    found = {}
    for case in ElementTree.parse(file).iter("testcase"):  # noqa: S314 - pytest wrote it
        kinds = {child.tag: child.attrib["message"] for child in case}
        assert not {"error", "skipped"} & kinds.keys(), said
        found[case.attrib["name"]] = kinds.get("failure", "")
    return found


def in_words(name: str) -> str:
    """Write a test's name as the claim that it is."""
    name, _, case = name.removesuffix("]").partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words} ({case} client)" if case else words


def run(folder: Path) -> dict[str, dict[str, str]]:
    """Run all versions, each in a folder of its own."""
    folders = [folder / version.replace(" ", "_") for version in VERSIONS]
    with ThreadPoolExecutor() as pool:
        return dict(zip(VERSIONS, pool.map(results, folders, VERSIONS), strict=True))


def cell(found: dict[str, str], name: str) -> str:
    """Say how a test has ended."""
    if name not in found:
        return "not run"
    return "**fails**" if found[name] else "passes"


def table(found: dict[str, dict[str, str]]) -> str:
    """Say of each test on which version of the feed it fails."""
    rows = [
        [in_words(name), *(cell(column, name) for column in found.values())]
        for name in found[VERSIONS[0]]
    ]
    return docs.table(["what the test claims", *VERSIONS], rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        TABLE.write_text(table(run(Path(name))), "utf-8")
