"""docs/pitfalls/bytes.md: one request streams and all others wait."""

import subprocess
import sys
from pathlib import Path

import pytest

from recipes import plain_text
from recipes.pitfalls.plain_text import time_sleep_in_async_generator as wrong
from tests.kit.asgi import drive


@pytest.mark.parametrize("right", [False, True])
def test_another_request_is_answered_only_by_the_right_one(
    right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = plain_text if right else wrong
    monkeypatch.setattr(module, "PAUSE", 0.05)
    target = "/async/1" if right else "/slip"
    run = drive(module.app, target, also="/openapi.json")
    answered_meanwhile = "/openapi.json end" in run.before("end")
    assert answered_meanwhile == right


def test_ruff_finds_it() -> None:
    source = Path(wrong.__file__)
    check = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=ASYNC251"]
    found = subprocess.run([*check, source], capture_output=True, text=True)
    assert found.returncode == 1
    assert "time.sleep" in found.stdout
    clean = subprocess.run([*check, plain_text.__file__], capture_output=True)
    assert clean.returncode == 0
