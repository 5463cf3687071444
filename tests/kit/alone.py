"""Import each recipe alone, without keys, and see that nothing else happens."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.kit.warm import IMPORTED

WAIT = 120  # seconds for all of them
KEPT = {"PATH", "HOME", "LANG", "SYSTEMROOT"}  # of the environment

# One process makes the slow imports and forks for each recipe: a fork is as fresh as an
# interpreter, and takes a tenth of its time. The guards are set after the fork, so that
# only what the recipe's own import does ends it.
CODE = """
import importlib, json, os, sys, threading

def hook(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise SystemExit(f"opens a socket ({event})")

def start(thread):
    raise SystemExit("starts a thread")

def alone(slug):
    sys.addaudithook(hook)
    threading.Thread.start = start
    try:
        importlib.import_module(f"recipes.{slug}")
    except SystemExit as error:
        return str(error)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

def tell(slug, reason):
    os.write(report, f"{json.dumps([slug, reason])}\\n".encode())

report = os.dup(1)
os.dup2(2, 1)  # What a recipe prints is no report.
libraries, slugs = json.loads(sys.argv[1])
for library in libraries:
    importlib.import_module(library)
for slug in slugs:
    if os.fork() == 0:
        reason = alone(slug)
        if reason is not None:
            tell(slug, reason)
        os._exit(0)
    _, status = os.wait()
    if status:
        tell(slug, f"ended with {os.waitstatus_to_exitcode(status)}")
"""

_known: dict[str, str | None] = {}  # by the text of a recipe, which imports no other


def faults(root: Path, slugs: Iterable[str]) -> dict[str, str]:
    """Say of each recipe of a tree that cannot be imported alone why it cannot.

    It may open no socket, start no thread, and need no variable of the environment.
    """
    texts = {slug: text_of(root, slug) for slug in slugs}
    new = {slug: text for slug, text in texts.items() if text not in _known}
    if new:
        said = _imported(root, new)
        _known.update({text: said.get(slug) for slug, text in new.items()})
    found = {slug: _known[text] for slug, text in texts.items()}
    return {slug: reason for slug, reason in found.items() if reason is not None}


def text_of(root: Path, slug: str) -> str:
    """Read a recipe's file; where there is none, say so."""
    source = root / f"recipes/{slug}.py"
    return source.read_text("utf-8") if source.exists() else f"no {source}"


def _imported(root: Path, slugs: Iterable[str]) -> dict[str, str]:
    bare = {key: value for key, value in os.environ.items() if key in KEPT}
    asked = json.dumps([IMPORTED, sorted(slugs)])
    done = subprocess.run(
        [sys.executable, "-c", CODE, asked],
        cwd=root,
        env=bare,
        stdout=subprocess.PIPE,
        text=True,
        timeout=WAIT,
        check=True,
    )
    return dict(
        json.loads(line) for line in done.stdout.splitlines() if line[:1] == "["
    )
