"""See what a client of `llm_errors` gets in every scenario of the scripted provider.

python -m tests.kit.llm_errors     writes docs/learn/llm_errors.txt, a table
"""

import json
from collections.abc import Callable, Mapping
from unittest.mock import patch

import stamina

from cookbook.catalog import ROOT
from cookbook.llm import scripted
from recipes import llm_errors
from tests.kit import sse
from tests.kit.asgi import Run, drive

TABLE = ROOT / "docs/learn/llm_errors.txt"
ASK = "/answer?prompt=Why+is+tea+hot"
HEADINGS = ["scenario", "OpenAI alone", "Anthropic alone", "OpenAI, then Anthropic"]
SILENT = {"gated", "no-head", "stall-before-first", "stall-after-first"}


def environment(
    provider: scripted.Provider, *, openai: str = "", anthropic: str = ""
) -> dict[str, str]:
    """Give the variables with which the recipe asks for these scenarios, or nobody."""
    env = dict.fromkeys(provider.env, "")
    for name, scenario in {"OPENAI": openai, "ANTHROPIC": anthropic}.items():
        env[f"{name}_MODEL"] = scenario
        if scenario:
            env |= {k: v for k, v in provider.env.items() if k.startswith(name)}
    return env


def asked(
    env: Mapping[str, str],
    deadline: float = 5.0,
    *,
    stall_at: int | None = None,
    disconnect_at: int | None = None,
    cancel_at: int | None = None,
    leave_after: Callable[[], object] | None = None,
) -> Run:
    """Ask the recipe once, with other variables and deadlines (seconds), and no pause.

    What it remembers of earlier failures is forgotten. The rest is told to `drive`.
    """
    llm_errors.recent.extend([-60.0] * 20)
    with (
        patch.dict("os.environ", env),
        patch.object(llm_errors, "FIRST", deadline),
        patch.object(llm_errors, "IDLE", deadline),
        stamina.set_testing(True, attempts=3),
    ):
        return drive(
            llm_errors.app,
            ASK,
            stall_at=stall_at,
            disconnect_at=disconnect_at,
            cancel_at=cancel_at,
            leave_after=leave_after,
        )


def told(run: Run) -> str:
    """Say what a client gets: `8 tokens, done`, or a status and its reason."""
    if run.status != 200:
        failed = json.loads(run.body)["detail"]
        return f"{run.status}, `{failed['type']}`"
    start, *tokens, last = sse.parse(run.chunks).events
    data = json.loads(last.data)
    reason = data.get("type") or data["finish_reason"]
    who = json.loads(start.data)["provider"]
    by = ", from Anthropic" if who == "anthropic" else ""
    count = f"{len(tokens)} token{'s' if len(tokens) != 1 else ''}"
    return f"{count}, `{last.event}` ({reason}){by}"


def cell(provider: scripted.Provider, scenario: str, who: str) -> str:
    """Run one scenario, and say what the client gets and how often it was asked for."""
    provider.reset()
    models = {"openai": scenario} if "OpenAI" in who else {}
    if "Anthropic" in who:
        models["anthropic"] = "ok" if models else scenario
    deadline = 0.5 if scenario in SILENT else 5.0
    text = told(asked(environment(provider, **models), deadline))
    if scenario == "reset":
        # A reset may overtake the tokens, so how many come is a matter of luck.
        no_token = "8 tokens from Anthropic" if len(models) == 2 else "502"
        return f"`failed` (provider); before the first token {no_token}"
    requests = [r for r in provider.requests() if r.scenario == scenario]
    if len(requests) > 1 and scenario != "ok":
        text += f"; asked {len(requests)} times"
    return text.replace(", from Anthropic", "") if len(models) == 1 else text


def table() -> str:
    """Run every scenario with each provider alone, and with both."""
    lines = [HEADINGS, ["---"] * len(HEADINGS)]
    with scripted.running(pace=0) as provider:
        for scenario in provider.scenarios:
            cells = [cell(provider, scenario, who) for who in HEADINGS[1:]]
            lines.append([f"`{scenario}`", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    TABLE.write_text(table(), "utf-8")
