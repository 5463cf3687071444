"""A recipe that does something at its import is named, with what it did."""

from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import alone

pytestmark = pytest.mark.timeout(60)

FAULTY = {
    "listens": (
        "import socket\nsocket.create_server(('', 0))",
        "opens a socket (socket.__new__)",
    ),
    "asks": (
        "import httpx2\nhttpx2.get('http://127.0.0.1:1')",
        "opens a socket",
    ),
    "threads": (
        "import threading\nthreading.Thread(target=print).start()",
        "starts a thread",
    ),
    "keys": ("import os\nos.environ['SHOP_KEY']", "KeyError: 'SHOP_KEY'"),
    "lacks": ("import no_such_library", "ModuleNotFoundError: No module named"),
    "kills": ("import os\nos.kill(os.getpid(), 9)", "ended with -9"),
    "stops": ("raise SystemExit", ""),
    "wrong": ("def", "SyntaxError"),
}


def test_each_fault_is_found_and_touches_no_other_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "secret")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/__init__.py").touch()
    innocent = (
        "import fastapi, threading\nprint('[tea')\nstart = threading.Thread.start"
    )
    sources = {slug: code for slug, (code, _) in FAULTY.items()}
    for slug, code in (sources | {"a_good_one": innocent, "zen": innocent}).items():
        (tmp_path / f"recipes/{slug}.py").write_text(f"{code}\n", "utf-8")
    found = alone.faults(tmp_path, [*FAULTY, "a_good_one", "zen"])
    assert found.keys() == FAULTY.keys()
    for slug, (_, reason) in FAULTY.items():
        assert found[slug].startswith(reason), slug


def test_our_own_recipes_do_nothing() -> None:
    slugs = [path.stem for path in (ROOT / "recipes").glob("[!_]*.py")]
    assert alone.faults(ROOT, slugs) == {}


def test_a_tree_is_imported_and_not_this_repository(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/__init__.py").touch()
    found = alone.faults(tmp_path, ["csv_export"])
    assert found["csv_export"].startswith("ModuleNotFoundError")
