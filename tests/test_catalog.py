"""The catalog: a recipe's docstring is all that it needs to be known."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from cookbook import catalog
from cookbook.catalog import ROOT, Recipe
from cookbook.curl import Request

RECIPES = catalog.recipes()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory of recipes, in place of the real one."""
    monkeypatch.setattr(catalog, "ROOT", tmp_path)
    (tmp_path / "recipes").mkdir()
    return tmp_path / "recipes"


def put(shop: Path, slug: str, docstring: str, metadata: str = "") -> Path:
    path = shop / f"{slug}.py"
    path.write_text(f'{metadata}"""{dedent(docstring).strip()}\n"""\n', "utf-8")
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
        root=shop.parent,
    )


MODEL = """# /// script
# dependencies = ["fastapi>=0.165"]
#
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""


def test_what_a_recipe_needs_is_declared_in_its_inline_metadata(shop: Path) -> None:
    recipe = catalog.read(put(shop, "tea", TEA, MODEL))
    assert recipe.needs == {"model"}
    assert recipe.application
    assert catalog.metadata(recipe.source) == {
        "dependencies": ["fastapi>=0.165"],
        "tool": {"cookbook": {"needs": ["model"], "application": True}},
    }


def test_a_name_alone_declares_nothing(shop: Path) -> None:
    recipe = catalog.read(put(shop, "llm_tea", TEA))
    assert (recipe.needs, recipe.application) == (frozenset(), False)


def test_an_unknown_need_is_refused(shop: Path) -> None:
    kettle = MODEL.replace('"model"', '"kettle"')
    with pytest.raises(ValueError, match="known are model, redis, postgres"):
        catalog.read(put(shop, "tea", TEA, kettle))


def test_a_recipe_with_an_html_file_has_a_page_of_its_own(shop: Path) -> None:
    recipe = catalog.read(put(shop, "tea", TEA))
    assert not recipe.has_page
    (shop / "tea.html").touch()
    assert recipe.has_page


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def pour(:", "SyntaxError: "),
        ("x = 1", "ValueError: tea.py: the docstring lacks a summary"),
        ('"""Pour."""', "ValueError: tea.py: the docstring lacks Run it:"),
        (f'"""{TEA.replace("curl -N", "wget").strip()}"""', "ValueError: 'wget"),
        (f'"""{TEA.replace("curl -N", "curl -T none").strip()}"""', "FileNotFound"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_listed_with_its_problem(
    shop: Path, text: str, problem: str
) -> None:
    put(shop, "honey", TEA)
    (shop / "tea.py").write_text(text, "utf-8")
    honey, tea = catalog.recipes()
    assert honey.problem is None
    assert tea.slug == "tea"
    assert str(tea.problem).startswith(problem)


PAGE = """---
title: Tea
theme: bytes
place: 10
want: drink
because: it is hot
---

# Tea
"""


def test_the_front_matter_of_a_page_is_read(shop: Path) -> None:
    pages = shop.parent / "docs/recipes"
    pages.mkdir(parents=True)
    (pages / "tea.md").write_text(PAGE, "utf-8")
    found = catalog.page("tea", shop.parent)
    assert found == catalog.Page("Tea", "bytes", 10, "drink", "it is hot")
    for broken in (PAGE.replace("place: 10\n", ""), PAGE.replace("drink", ""), "# Tea"):
        (pages / "tea.md").write_text(broken, "utf-8")
        with pytest.raises(ValueError, match=r"tea\.md: its front matter needs title"):
            catalog.page("tea", shop.parent)


def test_recipes_stand_in_their_theme_by_place(shop: Path) -> None:
    pages = shop.parent / "docs/recipes"
    pages.mkdir(parents=True)
    for slug, theme, place in [
        ("a", "events", 1),
        ("b", "bytes", 9),
        ("c", "bytes", 2),
    ]:
        put(shop, slug, TEA)
        text = PAGE.replace(": bytes", f": {theme}").replace("10", str(place))
        (pages / f"{slug}.md").write_text(text, "utf-8")
    order = [(t, [r.slug for r, _ in own]) for t, own in catalog.by_theme(shop.parent)]
    assert order == [("bytes", ["c", "b"]), ("events", ["a"])]


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
    assert recipe.requests[0].body == b'{"cups": 2}'
    assert recipe.requests[0].method == "POST"
    assert recipe.requests[1] == Request("/tea?sort=green&cups=2")


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


def test_a_recipe_is_read_without_being_run(shop: Path) -> None:
    path = put(shop, "tea", TEA)
    path.write_text(path.read_text("utf-8") + "raise SystemExit\n", "utf-8")
    assert catalog.find("tea").summary == "Pour tea."


def test_every_module_is_a_recipe_but_those_with_an_underscore(shop: Path) -> None:
    for slug in ("tea", "honey"):
        put(shop, slug, TEA)
    put(shop, "__init__", "The recipes.")
    (shop / "pitfalls" / "tea").mkdir(parents=True)
    put(shop / "pitfalls" / "tea", "cold_tea", WRONG)
    (shop / "tea.html").touch()
    assert [recipe.slug for recipe in catalog.recipes()] == ["honey", "tea"]


WRONG = """
Wrong: too late.

Run it:   uvicorn recipes.pitfalls.tea.cold_tea:app
Try it:   curl http://127.0.0.1:8000/tea
          curl -i http://127.0.0.1:8000/pot
See it:   30 °C, and falling
"""


def test_a_pitfall_says_how_it_is_seen_to_be_wrong(shop: Path) -> None:
    (shop / "pitfalls" / "tea").mkdir(parents=True)
    put(shop / "pitfalls" / "tea", "cold_tea", WRONG)
    (pitfall,) = catalog.pitfalls()
    assert pitfall.name == "tea/cold_tea"
    assert pitfall.run == "uvicorn recipes.pitfalls.tea.cold_tea:app"
    assert [line.split()[-1][-4:] for line in pitfall.tries] == ["/tea", "/pot"]
    assert pitfall.see == "30 °C, and falling"


def test_a_pitfall_without_a_proof_is_refused(shop: Path) -> None:
    (shop / "pitfalls" / "tea").mkdir(parents=True)
    put(shop / "pitfalls" / "tea", "cold_tea", WRONG.replace("See it:", "Feel:  "))
    with pytest.raises(ValueError, match=r"cold_tea\.py: the docstring lacks See it:"):
        catalog.pitfalls()


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
    assert "recipes" not in tops or path.parents[1].name == "pitfalls"


def test_a_recipe_names_the_packages_that_it_declares() -> None:
    packages = catalog.find("llm_anthropic").packages
    assert packages == {"anthropic", "anyio", "fastapi", "httpx2", "uvicorn"}
