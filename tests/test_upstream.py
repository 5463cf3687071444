"""Who is passed on by a recipe that needs another service, and what is said of it."""

import os
from dataclasses import replace

import httpx2
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from cookbook import catalog, cli, site, transcript, upstream
from tests.kit.servers import free_port

runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
PROXY = catalog.find("http_proxy")
YOURS = "http://127.0.0.1:9"  # the discard port: nobody answers


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(upstream.VARIABLE, raising=False)


def test_a_recipe_is_started_and_named_in_the_environment_meanwhile() -> None:
    with upstream.running() as shop:
        assert os.environ[upstream.VARIABLE] == shop.url
        assert httpx2.get(f"{shop.url}/openapi.json").json()["info"]["title"] == (
            upstream.RECIPE
        )
        assert shop.url in shop.description
    assert upstream.VARIABLE not in os.environ
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(shop.url)


def test_a_service_of_your_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(upstream.VARIABLE, YOURS)
    with upstream.running() as shop:
        assert (shop.url, os.environ[upstream.VARIABLE]) == (YOURS, YOURS)
        assert YOURS not in shop.description
    assert os.environ[upstream.VARIABLE] == YOURS


def test_a_transcript_has_the_recipe_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(upstream.VARIABLE, YOURS)
    assert "Ready to ship" in transcript.record(PROXY)
    assert os.environ[upstream.VARIABLE] == YOURS


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Collect what the environment says when it would be served; do not serve."""
    seen: list[str | None] = []

    def run(self: site.Server, sockets: list[object]) -> None:
        assert self.config.port
        assert sockets
        seen.append(os.environ.get(upstream.VARIABLE))

    monkeypatch.setattr(site.Server, "run", run)
    monkeypatch.setattr(site, "is_stale", lambda: False)
    return seen


@pytest.mark.parametrize("command", [["run", "http_proxy"], ["serve"]])
def test_it_is_started_for_a_recipe_that_needs_it(
    command: list[str], served: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "create_app", lambda **_: FastAPI())
    monkeypatch.setattr(catalog, "recipes", lambda: [PROXY])
    result = runner.invoke(cli.app, [*command, "--port", str(free_port())])
    assert result.exit_code == 0, result.output
    (url,) = served
    assert (
        f"The recipe plain_text is the service that http_proxy asks: {url}"
        in result.stdout
    )


def test_it_is_not_started_for_any_other(
    served: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(PROXY, needs=frozenset())
    monkeypatch.setattr(catalog, "find", lambda _: other)
    result = runner.invoke(cli.app, ["run", "http_proxy", "--port", str(free_port())])
    assert (result.exit_code, served) == (0, [None])


def test_the_page_names_the_command_that_starts_it_by_hand() -> None:
    page = (catalog.ROOT / "docs/recipes/http_proxy.md").read_text("utf-8")
    assert f"uvicorn recipes.{upstream.RECIPE}:app --port 8002" in page
    assert "127.0.0.1:8002" in PROXY.source.read_text("utf-8")
