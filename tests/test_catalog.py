"""The catalog: a recipe's docstring is all that it needs to be known."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from cookbook import catalog
from cookbook.catalog import ROOT, Recipe

RECIPES = catalog.recipes()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory of recipes, in place of the real one."""
    monkeypatch.setattr(catalog, "ROOT", tmp_path)
    (tmp_path / "recipes").mkdir()
    return tmp_path / "recipes"


def put(shop: Path, slug: str, docstring: str) -> Path:
    path = shop / f"{slug}.py"
    path.write_text(f'"""{dedent(docstring).strip()}\n"""\n', "utf-8")
    return path


TEA = """
Pour tea.

Run it:   uvicorn recipes.tea:app
Try it:   curl -N http://127.0.0.1:8000/tea
          curl -N 'http://127.0.0.1:8000/tea?sort=green&cups=2'
          curl -N -H 'Accept: text/plain' http://127.0.0.1:8000/

Mind that it is hot.
"""


def test_a_docstring_gives_the_summary_the_command_and_every_request(
    shop: Path,
) -> None:
    assert catalog.read(put(shop, "tea", TEA)) == Recipe(
        slug="tea",
        summary="Pour tea.",
        run="uvicorn recipes.tea:app",
        tries=(
            "curl -N http://127.0.0.1:8000/tea",
            "curl -N 'http://127.0.0.1:8000/tea?sort=green&cups=2'",
            "curl -N -H 'Accept: text/plain' http://127.0.0.1:8000/",
        ),
    )


def test_the_path_of_a_request_keeps_its_query_and_loses_its_quotes(shop: Path) -> None:
    requests = catalog.read(put(shop, "tea", TEA)).requests
    assert [request.path for request in requests] == [
        "/tea",
        "/tea?sort=green&cups=2",
        "/",
    ]
    assert {request.method for request in requests} == {"GET"}


def test_a_request_with_json_is_a_post(shop: Path) -> None:
    post = TEA.replace(
        "curl -N http://127.0.0.1:8000/tea\n",
        "curl -N http://127.0.0.1:8000/tea \\\n            --json '{\"cups\": 2}'\n",
    )
    recipe = catalog.read(put(shop, "tea", post))
    line = """curl -N http://127.0.0.1:8000/tea --json '{"cups": 2}'"""
    assert recipe.tries[0] == line
    assert recipe.requests[0] == catalog.Request("/tea", '{"cups": 2}')
    assert recipe.requests[0].method == "POST"


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ("Pour tea.", "a summary"),
        ("Run it:   uvicorn recipes.tea:app", "Run it:"),
        ("Try it:   curl -N http://127.0.0.1:8000/tea", "Try it:"),
    ],
)
def test_what_is_missing_is_named(shop: Path, left_out: str, missing: str) -> None:
    docstring = TEA.replace(left_out, "")
    if missing == "a summary":
        docstring = ""
    with pytest.raises(ValueError, match=rf"^tea\.py: the docstring lacks {missing}$"):
        catalog.read(put(shop, "tea", docstring))


def test_a_file_without_a_docstring_lacks_a_summary(shop: Path) -> None:
    (shop / "tea.py").write_text("app = None\n", "utf-8")
    with pytest.raises(ValueError, match=r"^tea\.py: the docstring lacks a summary$"):
        catalog.recipes()


def test_a_recipe_is_read_without_being_run(shop: Path) -> None:
    path = put(shop, "tea", TEA)
    path.write_text(path.read_text("utf-8") + "raise SystemExit\n", "utf-8")
    assert catalog.find("tea").summary == "Pour tea."


def test_every_module_is_a_recipe_but_those_with_an_underscore(shop: Path) -> None:
    for slug in ("tea", "honey"):
        put(shop, slug, TEA)
    put(shop, "__init__", "The recipes.")
    (shop / "pitfalls").mkdir()
    put(shop / "pitfalls", "cold_tea", "Wrong: too late.")
    (shop / "tea.html").touch()
    assert [recipe.slug for recipe in catalog.recipes()] == ["honey", "tea"]


def test_a_misspelt_recipe_is_told_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"'csv_exprt'\. Did you mean csv_export\?"):
        catalog.find("csv_exprt")


def test_a_name_that_is_near_nothing_is_told_where_to_look() -> None:
    with pytest.raises(LookupError, match=r"'zzz'\. cookbook list shows them all"):
        catalog.find("zzz")


def test_a_module_without_an_application_says_so(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(shop, "tea_without_app", TEA)
    path.write_text(path.read_text("utf-8") + "app = 'tea'\n", "utf-8")
    monkeypatch.setattr("recipes.__path__", [str(shop)])
    with pytest.raises(TypeError, match=r"tea_without_app\.py: `app` is no FastAPI"):
        catalog.read(path).load()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.slug)
def test_every_request_of_a_recipe_asks_for_a_route_that_it_has(recipe: Recipe) -> None:
    assert recipe.source.is_file()
    assert recipe.run == f"uvicorn recipes.{recipe.slug}:app"
    app = recipe.load()
    assert app.title == recipe.slug
    for method, path in [(asked.method, asked.path) for asked in recipe.requests]:
        # Resolved by the router, without running the route.
        assert path.startswith("/")
        scope = {"type": "http", "method": method, "path": path.partition("?")[0]}
        assert any(route.matches(scope)[0].value == 2 for route in app.routes), path


def test_the_table_in_the_readme_is_the_catalog() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    in_readme = catalog.TABLE.search(readme)
    assert in_readme, "README.md lacks its marks"
    assert in_readme[0] == catalog.table(RECIPES), (
        "write it: python -m cookbook.catalog"
    )


def test_writing_the_table_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    monkeypatch.setattr(catalog, "README", readme)
    text = "# Tea\n\n<!-- recipes -->\nold\n<!-- end of recipes -->\n\n\\1 more\n"
    readme.write_text(text, "utf-8")
    catalog.main()
    assert readme.read_text("utf-8") == text.replace("old\n", catalog.table(RECIPES))


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "recipes").rglob("*.py")),
    ids=lambda path: path.relative_to(ROOT / "recipes").as_posix(),
)
def test_a_recipe_imports_nothing_of_the_kitchen(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    tops = {name.split(".")[0] for name in imported}
    # A relative import ("") would not survive being copied.
    assert not tops & {"cookbook", "tests", "benchmarks", ""}
    # A pitfall may take the rest of its application from the recipe that does it right.
    assert "recipes" not in tops or path.parent.name == "pitfalls"
