"""Do what a page's "Break it" says: change one line of a recipe, and run the result."""

import re
import shutil
from pathlib import Path

from cookbook.catalog import ROOT


def changed(folder: Path, slug: str, old: str, new: str, *, file: str = "") -> Path:
    """Copy a recipe into `folder` with one change; run it with `cwd=` what is returned.

    `file` is the changed file's name in `recipes/`, by default the recipe itself. Both
    texts must stand on the recipe's page, word for word: the test then does what the
    page tells its reader to do. `new` may be empty, for a line that is deleted.

    Raises:
        AssertionError: the page does not print the texts, or the file does not hold
            `old` exactly once.
    """
    page = (ROOT / "docs/recipes" / f"{slug}.md").read_text("utf-8")
    told = re.sub(r"\s+", " ", page)
    for text in filter(None, (old, new)):
        assert re.sub(r"\s+", " ", text.strip()) in told, f"not on the page: {text!r}"
    target = folder / "recipes"
    shutil.copytree(
        ROOT / "recipes", target, ignore=shutil.ignore_patterns("__pycache__")
    )
    path = target / (file or f"{slug}.py")
    source = path.read_text("utf-8")
    assert source.count(old) == 1, f"{path.name} holds {old!r} {source.count(old)} times"
    path.write_text(source.replace(old, new), "utf-8")
    return folder
