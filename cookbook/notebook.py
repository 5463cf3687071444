"""Open the notebooks, run them, and serve what they ask, over several cells.

`python -m cookbook.notebook open` gives a reader copies of their own and opens them in
JupyterLab; what is in the repository stays as it is.

`python -m cookbook.notebook keep` executes every notebook from a fresh kernel and keeps
its outputs. Cells with the tag "exercise" are left out: they fail until a reader has
completed them. The outputs of solutions are not kept: right below an exercise that
nobody has done yet, "passed" would mislead.
"""

import argparse
import asyncio
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cookbook.background import serving
from cookbook.catalog import ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = ROOT / "notebooks"
MINE = ROOT / "my-notebooks"  # the reader's copies, which git ignores
CELL = 60  # seconds that one cell may take
TURN = 0.0005  # seconds after which a thread lets another one run
WAIT = 15.0  # seconds until an application has to be through with a request
METADATA = {"tags", "jupyter"}  # what is kept of a cell's metadata


@dataclass
class Sent:
    """What an application has handed to its server for one request."""

    path: str
    chunks: list[int] = field(default_factory=list)  # bytes of each, in order
    whole: bool = False  # whether it came to the end of its body
    over: threading.Event = field(default_factory=threading.Event, repr=False)


def counted(app: ASGIApp, log: list[Sent]) -> ASGIApp:
    """Wrap an application so that each of its requests is noted in `log`."""

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        sent = Sent(scope["path"])
        log.append(sent)

        async def note(message: Message) -> None:
            if message["type"] == "http.response.body":
                if body := message.get("body", b""):
                    sent.chunks.append(len(body))
                sent.whole = not message.get("more_body", False)
            await send(message)

        try:
            await app(scope, receive, note)
        finally:
            sent.over.set()

    return counting


class Server:
    """An application that is served in the background, until `stop`.

    `url` is its address, without a slash at the end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._sent = list[Sent]()
        self._running = ExitStack()
        # A chapter's client shares this process. Without more frequent turns it may
        # read nothing before a quick export is over, as if that had been buffered.
        sys.setswitchinterval(TURN)
        self.url = self._running.enter_context(serving(counted(app, self._sent)))
        # So that no reader times the first answer; whatever it is will do.
        httpx2.get(f"{self.url}/openapi.json", trust_env=False)
        self._sent.clear()

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def sent(self) -> Sent:
        """Tell what became of the latest request, once the application has let it go.

        Raises LookupError if there was none, TimeoutError if it takes more than `WAIT`.
        """
        if not self._sent:
            raise LookupError(f"Nobody has asked {self.url} for anything yet")
        latest = self._sent[-1]
        if not latest.over.wait(WAIT):
            raise TimeoutError(f"{latest.path} is still being answered")
        return latest

    def stop(self) -> None:
        """End the server; a second time does nothing."""
        self._running.close()


def tags(cell: "NotebookNode") -> list[str]:
    """Give the tags of a cell."""
    found: list[str] = cell.metadata.get("tags", [])
    return found


def read(path: Path) -> "NotebookNode":
    """Read a notebook as it is kept."""
    import nbformat  # A kernel that imports `Server` has no use for it.

    reader: Callable[..., NotebookNode] = nbformat.read
    return reader(path, as_version=4)


def run(path: Path, *, attempt: bool = False) -> "NotebookNode":
    """Execute a notebook from a fresh kernel, and give it with its outputs.

    Exercises are left without outputs. With `attempt` they are tried as they stand,
    after all other cells, and their errors are in their outputs.

    Raises nbclient.exceptions.CellExecutionError if another cell fails.
    """
    notebook = read(path)
    strip(notebook)
    asyncio.run(execute(notebook, path.parent, attempt))
    return notebook


def strip(notebook: "NotebookNode") -> None:
    """Take away all outputs, and the metadata that an editor or a run left."""
    node = type(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    language = {"name": "python", "file_extension": ".py"}
    notebook.metadata = node(kernelspec=node(kernel), language_info=node(language))
    for cell in notebook.cells:
        kept = METADATA & cell.metadata.keys()
        cell.metadata = node({key: cell.metadata[key] for key in sorted(kept)})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


async def execute(notebook: "NotebookNode", folder: Path, attempt: bool) -> None:
    """Fill in the outputs of a notebook; `folder` is where its kernel works."""
    from nbclient import NotebookClient

    cells = list(enumerate(notebook.cells))
    exercises = [(n, cell) for n, cell in cells if "exercise" in tags(cell)]
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook,
        timeout=CELL,
        record_timing=False,
        coalesce_streams=True,  # or where a text is cut depends on the moment
        resources=place,
    )
    # It would warn of its own connections, which never leave this machine.
    client.extra_arguments = ["--log-level=ERROR"]
    async with client.async_setup_kernel():
        for n, cell in cells:
            if "exercise" not in tags(cell):
                await client.async_execute_cell(cell, n)
        client.allow_errors = True
        for n, cell in exercises if attempt else []:
            await client.async_execute_cell(cell, n)


def keep(chapters: Sequence[str] = ()) -> None:
    """Run the chapters, all if none is named, and keep them with their outputs.

    A solution keeps no output.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError

    write: Callable[..., None] = nbformat.write
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if chapters and path.stem not in chapters:
            continue
        started = time.perf_counter()
        try:
            notebook = run(path)
        except CellExecutionError as error:
            sys.exit(f"{path.name} fails, and is left as it was:\n{error}")
        hide_solutions(notebook)
        write(notebook, path)
        cells, size = len(notebook.cells), path.stat().st_size / 1000
        took = time.perf_counter() - started
        sys.stdout.write(f"{path.name}: {cells} cells, {size:.0f} kB, {took:.1f} s\n")


def hide_solutions(notebook: "NotebookNode") -> None:
    """Take away the outputs of the solutions."""
    for cell in notebook.cells:
        if "solution" in tags(cell):
            cell.outputs, cell.execution_count = [], None


def copy_missing(source: Path, target: Path) -> list[str]:
    """Copy the notebooks that `target` lacks; never touch one that it has.

    Gives the names of the notebooks that were copied.
    """
    target.mkdir(exist_ok=True)
    copied = []
    for path in sorted(source.glob("*.ipynb")):
        with suppress(FileExistsError), (target / path.name).open("xb") as file:
            file.write(path.read_bytes())
            copied.append(path.name)
    return copied


def trust(paths: Iterable[Path]) -> None:
    """Let JupyterLab show the pictures in these notebooks.

    Of a notebook from elsewhere it shows no picture before its reader has run the cell.
    What is signed here it shows, until somebody changes the file by another program.
    """
    # It has no types.
    notary = importlib.import_module("nbformat.sign").NotebookNotary()
    for path in paths:
        notary.sign(read(path))


def lab(folder: Path, *, browser: bool) -> None:
    """Serve a folder with JupyterLab in this process, until Ctrl+C.

    It listens on 127.0.0.1, on port 8888 or the next one that is free. Its kernels find
    the recipes, wherever the folder is.
    """
    # A kernel that imports `Server` has no use for it, and it has no types.
    launch = importlib.import_module("jupyterlab.labapp").LabApp.launch_instance
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{known}" if known else str(ROOT)
    options = ["--ip=127.0.0.1", "--log-level=ERROR", "--LabApp.log_level=ERROR"]
    # Ctrl+C would ask whether it is meant.
    options.append("--ServerApp.answer_yes=True")
    # It would look elsewhere for a new version of itself, and ask whether for news too.
    never = "jupyterlab.NeverCheckForUpdate"
    options.append(f"--LabApp.check_for_updates_class={never}")
    options.append("--LabApp.news_url=None")
    if not browser:
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # as in a container
    launch([str(folder), *options])


def open_copies(*, browser: bool) -> None:
    """Open the reader's own copies in JupyterLab, until Ctrl+C."""
    copied = copy_missing(NOTEBOOKS, MINE)
    trust(MINE / name for name in copied)
    new = f" New: {', '.join(copied)}." if copied else ""
    lines = [
        f"Opening {MINE.name}/, which holds your own copies of the notebooks.{new}",
        "Ctrl+C stops JupyterLab",
    ]
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    lab(MINE, browser=browser)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m cookbook.notebook")
    commands = parser.add_subparsers(dest="command", required=True)
    mine = commands.add_parser("open", help="open copies of your own in JupyterLab")
    mine.add_argument(
        "--no-browser", action="store_true", help="only print its address"
    )
    keeping = commands.add_parser("keep", help="run chapters and keep their outputs")
    keeping.add_argument("chapters", nargs="*", metavar="chapter", help="default: all")
    asked = parser.parse_args()
    if asked.command == "keep":
        keep(asked.chapters)
    else:
        open_copies(browser=not asked.no_browser)


if __name__ == "__main__":
    main()
