"""docs/pitfalls/tokens.md: after a crash the answer begins twice."""

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.llm_durable import appended_twice


@pytest.mark.parametrize(
    ("path", "text"),
    [("/answer", "Tea isTea is hot"), ("/honest-answer", "Tea is hot")],
)
def test_a_step_that_runs_again_appends_again(path: str, text: str) -> None:
    with TestClient(appended_twice.app) as client:
        assert client.get(path).json() == {"answer": text}
