"""The file of scenarios of the scripted provider."""

from pathlib import Path

import pytest

from cookbook.llm import scripted
from tests.llm.asking import (
    SCENARIOS,
    raw,
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[ok", "mine.toml is no TOML: "),
        ("[late]\nabout = ''", "mine.toml lacks the scenario ok"),
        ("ok = 1", "mine.toml, scenario ok: Input should be a valid dictionary"),
        ("[ok]", "mine.toml, scenario ok: about: Field required"),
        ("[ok]\nabout = ''\nafer = 1", "scenario ok: afer: Extra inputs"),
        ("[ok]\nabout = ''\nafter = '1'", "after: Input should be a valid integer"),
        ("[ok]\nabout = ''\nafter = 1", "after: Value error, there are only 0 tokens"),
        ("[ok]\nabout = ''\nfault = 'fire'", "fault: Input should be 'error', "),
        (
            "[ok]\nabout = ''\ntools = [{name = 'a', arguments = ['{']}]",
            "scenario ok: tools.0.arguments: Value error, Expecting",
        ),
        (
            "[ok]\nabout = ''\ntools = [{name = 'a', arguments = ['1']}]",
            "tools.0.arguments: Value error, put together they are no JSON object",
        ),
    ],
)
def test_a_bad_file_is_told_by_scenario_and_field(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content, "utf-8")
    with pytest.raises(ValueError) as caught, scripted.running(file):  # noqa: PT011
        pass
    assert message in str(caught.value)


def test_another_file_replaces_the_scenarios(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[ok]\nabout = "Mine"\ntokens = ["Yes"]', "utf-8")
    with scripted.running(file) as mine, raw(mine, "gated") as answer:
        assert b'"content":"Yes"' in answer.rest()


def test_every_scenario_is_used_by_a_test_of_this_folder() -> None:
    tests = Path(__file__).parent.glob("test_*.py")
    source = "".join(file.read_text("utf-8") for file in tests)
    assert [name for name in SCENARIOS if f'"{name}"' not in source] == []
