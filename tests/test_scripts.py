"""What holds for every recipe: it starts as a script, and documents itself."""

import runpy
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from cookbook.catalog import Recipe, recipes


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.slug)
def test_a_recipe_starts_as_a_script(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Any] = {}
    monkeypatch.setattr(uvicorn, "run", lambda _, **options: started.update(options))
    runpy.run_path(str(recipe.source), run_name="__main__")
    # Only the recipe about it says how long a stop may take.
    stop = started.pop("timeout_graceful_shutdown", None)
    assert (stop == 3) == (recipe.slug == "graceful_shutdown")
    assert started == {"host": "127.0.0.1", "port": 8000}


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.slug)
def test_a_recipe_documents_itself(recipe: Recipe) -> None:
    assert TestClient(recipe.load()).get("/openapi.json").status_code == 200
