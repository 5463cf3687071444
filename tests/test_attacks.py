"""docs/production/security.md: the table of attacks is made from the tests."""

import re
from html import unescape
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import attacks
from tests.kit.attacks import Attack

PAGE = ROOT / "docs/production/security.md"


def test_the_table_is_up_to_date() -> None:
    kept = attacks.TABLE.read_text("utf-8")
    assert kept == attacks.tables(), "run python -m tests.kit.attacks"


def test_each_test_that_the_table_names_exists() -> None:
    kept = attacks.TABLE.read_text("utf-8").replace("<wbr>", "")
    named = re.findall(r"(\w+): <code>(test_\w+)</code> \|$", unescape(kept), re.M)
    assert len(named) > 100
    texts = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    for place, name in named:
        # The folder is named, or the file itself.
        assert any(
            place in (*path.parts, path.stem) and f"def {name}(" in text
            for path, text in texts.items()
        ), name


def test_each_is_told_in_one_sentence() -> None:
    for attack in attacks.attacks():
        assert attack.told.endswith("."), attack
        assert attack.told[0].isupper() or attack.told.startswith("uvicorn"), attack


def write(root: Path, file: str, text: str) -> None:
    path = root / "tests" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('def test_attack_a_b():\n    """A b: 4xx."""', "A b: 4xx."),
        ("async def test_attack_a_b(): pass", "A b."),
        ('def test_a_b():\n    """Attack: A b: 4xx.\n\n    More."""', "A b: 4xx."),
        ('def test_a_b():\n    """A b: 4xx."""', None),
        ('def attack():\n    """None."""', None),
    ],
)
def test_a_test_is_an_attack_by_its_name_or_by_its_first_word(
    text: str, told: str | None, tmp_path: Path
) -> None:
    write(tmp_path, "servers/test_tea.py", text)
    assert [attack.told for attack in attacks.attacks(tmp_path)] == [told] * bool(told)


def test_a_pitfall_belongs_to_its_recipe() -> None:
    pitfall = Attack(Path("tests/pitfalls/sse_basic/test_x.py"), "test_a", "A.")
    assert (pitfall.slug, Attack(Path("tests/test_watch.py"), "t", "A.").slug) == (
        "sse_basic",
        "watch",
    )


def test_what_is_no_recipe_stands_with_what_it_attacks(tmp_path: Path) -> None:
    attack = 'def test_attack_a():\n    """{}."""'
    for file in ("servers/test_production.py", "servers/test_security.py", "test_w.py"):
        write(tmp_path, file, attack.format(Path(file).stem.upper()))
    (tmp_path / "docs/recipes").mkdir(parents=True)
    (tmp_path / "recipes").mkdir()
    parts = attacks.tables(tmp_path).split("### ")[1:]
    for part, told in zip(parts, ("PRODUCTION", "SECURITY", "W"), strict=True):
        assert f"| TEST_{told}. |" in part
        assert part.count("| TEST_") == 1


def test_the_page_tells_how_each_place_is_run_and_how_to_run_one() -> None:
    text = PAGE.read_text("utf-8")
    kept = attacks.TABLE.read_text("utf-8")
    for place in set(re.findall(r"\| (\w+): <code>", kept)):
        assert f"\n- `{place}` " in text
    found = list(attacks.attacks())
    named = re.search(r"-m pytest (tests/\w+) -k (test_\w+)\n", text)
    assert named
    (one,) = [attack for attack in found if named[2] in attack.name]
    assert one.file.is_relative_to(named[1])
    several = re.search(r"names, such as `(test_\w+)`", text)
    assert several
    assert [attack.name for attack in found].count(several[1]) > 1


def test_the_page_says_how_many_there_are_at_least() -> None:
    found = re.search(r"more than (\d+) attacks", PAGE.read_text("utf-8"))
    assert found
    assert int(found[1]) < len(list(attacks.attacks()))
