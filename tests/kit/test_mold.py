"""Whatever a test does to the copy, the next one finds it whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.mold import Mold


def contents(root: Path) -> dict[str, str | None]:
    return {
        path.relative_to(root).as_posix(): (
            None if path.is_dir() else path.read_text("utf-8")
        )
        for path in root.rglob("*")
    }


WHOLE = {
    "shop": None,
    "shop/tea.md": "green",
    "shop/pots": None,
    "shop/pots/big.md": "blue",
    "README.md": "shop",
}


@pytest.fixture
def mold(tmp_path: Path) -> Mold:
    source = tmp_path / "source"
    (source / "shop/pots/__pycache__").mkdir(parents=True)
    (source / "shop/pots/__pycache__/big.pyc").touch()
    for name, text in WHOLE.items():
        if text is not None:
            (source / name).write_text(text, "utf-8")
    (source / "elsewhere").touch()
    return Mold(source, ["shop", "README.md"], tmp_path / "copy")


def test_the_copy_holds_the_parts_and_nothing_else(mold: Mold) -> None:
    with mold.fresh() as root:
        assert contents(root) == WHOLE


SPOILED: list[Callable[[Path], object]] = [
    lambda root: (root / "shop/tea.md").write_text("black, with milk", "utf-8"),
    lambda root: (root / "shop/tea.md").write_text("GREEN", "utf-8"),
    lambda root: (root / "shop/tea.md").unlink(),
    lambda root: (root / "shop/tea.md").rename(root / "shop/coffee.md"),
    lambda root: (root / "shop/new.md").touch(),
    lambda root: (root / "new").mkdir(),
    lambda root: shutil.copytree(root / "shop", root / "new/shop"),
    lambda root: shutil.rmtree(root / "shop"),
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_was_done_to_it_is_undone(
    mold: Mold, spoil: Callable[[Path], object]
) -> None:
    for _ in range(2):
        with mold.fresh() as root:
            spoil(root)
            assert contents(root) != WHOLE
        with mold.fresh() as root:
            assert contents(root) == WHOLE
        assert contents(mold.source).keys() - WHOLE.keys() == {
            "elsewhere",
            "shop/pots/__pycache__",
            "shop/pots/__pycache__/big.pyc",
        }


def fail(mold: Mold) -> None:
    with mold.fresh() as root:
        (root / "README.md").unlink()
        raise ValueError("no more tea")


def test_it_is_whole_also_after_a_test_that_failed(mold: Mold) -> None:
    with pytest.raises(ValueError, match="no more tea"):
        fail(mold)
    assert contents(mold.folder) == WHOLE
