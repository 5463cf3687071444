"""A copy of the repository that a test may spoil, and that the next test finds whole.

    mold = Mold(ROOT, ["docs", "recipes", "README.md"], tmp_path)
    with mold.fresh() as root:
        (root / "docs/index.md").unlink()
    # The page is there again; nothing else was copied a second time.

Copying everything for each of a hundred faults takes longer than all checks together.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LEFT_OUT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")


class Mold:
    """Some parts of a tree, copied once; what is changed in the copy is undone."""

    def __init__(self, source: Path, parts: Sequence[str], folder: Path) -> None:
        """Copy files and folders of `source`, named relative to it, into `folder`."""
        self.source, self.folder = source, folder
        for part in parts:
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / part).is_dir():
                shutil.copytree(source / part, target, ignore=LEFT_OUT)
            else:
                shutil.copy2(source / part, target)
        self.whole = self._seen()

    def _seen(self) -> dict[Path, tuple[int, int] | None]:
        """Know each file by its size and time, and that a folder is there."""
        found: dict[Path, tuple[int, int] | None] = {}
        for path in sorted(self.folder.rglob("*")):
            about = path.stat()
            known = (about.st_size, about.st_mtime_ns)
            found[path] = None if path.is_dir() else known
        return found

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Give the copy; undo at the end of the block what the block has changed."""
        try:
            yield self.folder
        finally:
            self._undo()

    def _undo(self) -> None:
        seen = self._seen()
        for path in seen.keys() - self.whole.keys():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # Its folder may have gone before it.
        for path, known in self.whole.items():
            if seen.get(path, ()) == known:
                continue
            if known is None:
                path.mkdir()
            else:
                # With its time, so that it counts as the one that was copied.
                shutil.copy2(self.source / path.relative_to(self.folder), path)
