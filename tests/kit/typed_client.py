"""Generate the types of the clients of typed_client, as its page says.

python -m tests.kit.typed_client     writes the schema, and the types in both languages
"""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from fastapi import FastAPI

from cookbook.catalog import ROOT
from recipes import typed_client
from tests.kit import node

CLIENT = ROOT / "docs/clients/typed_client"
MODELS = ROOT / "docs/clients/typed_client_models.py"
# What the page prints; `openapi.json` and the results lie in the working folder.
IN_PYTHON = (
    "datamodel-codegen --input openapi.json --output typed_client_models.py "
    "--target-python-version 3.11 --formatters builtin --use-annotated "
    "--use-double-quotes --disable-timestamp"
)
# What a reader types, most of it in `my-client`, a copy of the client's folder.
COMMANDS = {
    "cp -r docs/clients/typed_client my-client",
    "cd my-client",
    "npm ci",
    "npm run types",
    "npm run check",
    "npm run build",
    "node dist/print.js",
    "python ../docs/clients/typed_client_page.py",
    "curl -o openapi.json http://127.0.0.1:8000/openapi.json",
    f"uvx --from datamodel-code-generator==0.89.0 {IN_PYTHON}",
}
# The change of the page's "Break it".
CHANGE = "cents: int", "cents: int | None"


def schema(app: FastAPI = typed_client.app) -> str:
    """Give an application's OpenAPI document, as `/openapi.json` tells it, indented."""
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def app_in(folder: Path) -> FastAPI:
    """Load the recipe of a changed copy of the repository, beside ours."""
    path = folder / "recipes/typed_client.py"
    app: FastAPI = runpy.run_path(str(path), run_name="changed")["app"]
    return app


def copied(folder: Path) -> Path:
    """Copy the client into `folder`, with what npm has installed for it."""
    target = folder / "my-client"
    shutil.copytree(CLIENT, target)
    (target / "node_modules").symlink_to(node.modules(CLIENT))
    return target


def in_typescript(folder: Path) -> str:
    """Write and give `schema.ts`, from the `openapi.json` in the same folder."""
    run(f"{node.modules(CLIENT)}/.bin/{script('types')}", folder)
    return (folder / "schema.ts").read_text("utf-8")


def in_python(folder: Path) -> str:
    """Write and give the models, from the `openapi.json` in the same folder."""
    run(f"{Path(sys.executable).parent}/{IN_PYTHON}", folder)
    return (folder / "typed_client_models.py").read_text("utf-8")


def script(name: str) -> str:
    """Give the command that `npm run` runs for a name."""
    package = json.loads((CLIENT / "package.json").read_text("utf-8"))
    command: str = package["scripts"][name]
    return command


def run(command: str, folder: Path) -> None:
    """Run a command in a folder.

    Raises AssertionError with what it said if it fails.
    """
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    (CLIENT / "openapi.json").write_text(schema(), "utf-8")
    in_typescript(CLIENT)
    MODELS.write_text(in_python(CLIENT), "utf-8")
    (CLIENT / MODELS.name).unlink()
