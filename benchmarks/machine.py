"""What a figure depends on: the machine, what else it did, and the libraries."""

import ast
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from importlib.metadata import version as version_of
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
OURS = {"recipes", "benchmarks"}


def own_seconds() -> float:
    """Add up the processor time of this process and of all below it.

    A version may start processes of its own, as a provider; what they do is ours. The
    time of one that has ended is in that of its parent, which has waited for it.
    """
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            total += times.children_user + times.children_system
    return total


def other_work() -> Callable[[], float]:
    """Begin to watch the machine; the result tells the share that others have used."""

    def used() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        return sum(times), idle, own_seconds()

    before = used()

    def share() -> float:
        total, idle, own = (
            now - then for now, then in zip(used(), before, strict=True)
        )
        return round(max(total - idle - own, 0) / total, 3) if total else 0.0

    return share


def described() -> dict[str, str | int]:
    """Describe this machine without naming it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (
        found := re.search(r"model name\s*: (.+)", cpuinfo.read_text())
    ):
        model = found[1]
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = f"{platform.system()} {platform.release()}"
    memory = psutil.virtual_memory().total
    return {"cpu": model, "cores": os.cpu_count() or 1, "memory": memory, "os": system}


def imported(modules: Iterable[str]) -> set[str]:
    """Name the packages of others that modules import, by way of ours as well."""
    todo, seen = list(modules), set[str]()
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        package = name.partition(".")[0]
        if package not in OURS:
            found.add(package)
            continue
        source = (ROOT / name.replace(".", "/")).with_suffix(".py")
        if source.is_file():  # and not the name of something in a module
            todo += names(source)
    return found - sys.stdlib_module_names


def names(source: Path) -> list[str]:
    """List what a file imports: modules, and what may be modules in packages."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@cache
def distributions() -> Mapping[str, list[str]]:
    """Know which distribution brings which package; this looks at all of them."""
    return packages_distributions()


def libraries(modules: Iterable[str]) -> dict[str, str]:
    """Give the version of each library below some modules, and of Python.

    Those that they import are followed by what those require in turn: the time of an
    OpenAI stream is also that of httpx2. Extras are those that this project asks for,
    as `uvicorn[standard]` with httptools and uvloop.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [Requirement(line) for line in project["dependencies"]]
    extras = {canonicalize_name(need.name): need.extras for need in asked}
    known = distributions()
    todo = [
        (name, set[str]()) for top in imported(modules) for name in known.get(top, ())
    ]
    found: dict[str, str] = {}
    while todo:
        given, more = todo.pop()
        name = canonicalize_name(given)
        if name in found:
            continue
        try:
            found[name] = version_of(name)
        except PackageNotFoundError:
            continue  # It is for another platform, or an extra that is not installed.
        wanted = {"", *more, *extras.get(name, ())}
        for line in requires(name) or ():
            need = Requirement(line)
            if not need.marker or any(
                need.marker.evaluate({"extra": x}) for x in wanted
            ):
                todo.append((need.name, need.extras))
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


def node() -> dict[str, str]:
    """Give the version of Node, if it is here."""
    if not shutil.which("node"):
        return {}
    command = ["node", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"node": said.stdout.strip().removeprefix("v")}
