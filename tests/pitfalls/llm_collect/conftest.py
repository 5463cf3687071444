"""A gated provider and a database for each test of these pitfalls."""

from pathlib import Path

import pytest

from cookbook.llm import scripted


@pytest.fixture(autouse=True)
def _three_tokens(
    provider: scripted.Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the provider make three tokens, and keep the answer in a file of its own."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/a.sqlite")
    monkeypatch.setenv("OPENAI_MODEL", "gated")
    provider.go(3)
