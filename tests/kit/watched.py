"""Record what the commands of docs/learn/watch.md print.

python -m tests.kit.watched     writes docs/learn/watch.txt
"""

import importlib
import re
import shlex

from typer.testing import CliRunner

from cookbook.background import serving
from cookbook.catalog import ROOT
from cookbook.check import ADVICE
from cookbook.cli import app

RECORD = ROOT / "docs/learn/watch.txt"
PRINTED = "http://127.0.0.1:8000"
WELL = "recipes.sse_keepalive:app"
WRONG = "recipes.pitfalls.sse_basic.feed_without_end:app"
QUERY = "/by-hand?quiet=2.5&ping=1"
# The recipes that answer, and by the names of the sections what asks them.
COMMANDS = {
    WELL: {
        "view": f"cookbook watch '{PRINTED}{QUERY}'",
        "json": f"cookbook watch --json '{PRINTED}{QUERY}'",
        "well": f"cookbook watch --check --silence 3 '{PRINTED}{QUERY}'",
    },
    "recipes.cross_origin:app": {
        "post": f'cookbook watch {PRINTED}/search -d \'{{"text": "tea"}}\''
    },
    WRONG: {"check": f"cookbook watch --check {PRINTED}/events"},
}
ALL = [command for known in COMMANDS.values() for command in known.values()]
STATUS = {"check": 7}


def printed(command: str, url: str, status: int = 0) -> str:
    """Run a command of the page against an address, and give what it prints.

    Raises RuntimeError if it ends with another status.
    """
    words = shlex.split(command.replace(PRINTED, url))
    done = CliRunner().invoke(app, words[1:])
    if done.exit_code != status:
        raise RuntimeError(f"{command} ended with {done.exit_code}: {done.output}")
    return done.stdout.replace(url, PRINTED)


def without_times(text: str) -> str:
    """Leave out what is different each time: the date, and every time."""
    text = re.sub(r'"date", "[^"]+"', "", text)
    return re.sub(r" *\b\d+\.\d{3,}\b", " -", text)


def findings() -> str:
    """Write the table of all findings, in Markdown."""
    rows = ["| finding | why it matters | what to do |", "|---|---|---|"]
    for code, advice in ADVICE.items():
        path, _, anchor = advice.page.strip("/").partition("#")
        page = f"../{path.strip('/')}.md{'#' + anchor if anchor else ''}"
        if path.strip("/") == "learn/watch":
            page = f"#{anchor}"

        rows.append(f"| [`{code}`]({page}) | {advice.why} | {advice.do} |")
    return "\n".join(rows) + "\n"


def record() -> str:
    """Run each command, and give a section for each."""
    sections = {"findings": findings()}
    for application, commands in COMMANDS.items():
        module = importlib.import_module(application.partition(":")[0])
        with serving(module.app) as url:
            for name, command in commands.items():
                sections[name] = printed(command, url, STATUS.get(name, 0))
    return "".join(
        f"--8<-- [start:{name}]\n{text}--8<-- [end:{name}]\n"
        for name, text in sections.items()
    )


if __name__ == "__main__":
    RECORD.write_text(record(), "utf-8")
