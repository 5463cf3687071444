"""Scenarios: what the scripted provider says, and how it fails.

They stand in `scenarios.toml`, which also says what their fields mean.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from cookbook.llm.formats.answer import Token

SCENARIOS = Path(__file__).with_name("scenarios.toml")
DEFAULT = "ok"  # the scenario of every model that no scenario is named after
LEFT = "closed by the client"

Count = Annotated[int, Field(ge=0)]
Times = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Status = Annotated[int, Field(ge=400, le=599)]
Fault = Literal[
    "error",
    "stall",
    "truncate",
    "half-event",
    "reset",
    "no-head",
    "endless-line",
    "gzip-bomb",
]
ENDLESS = {"stall", "no-head", "endless-line"}  # the faults that only the client ends


class Tool(BaseModel, extra="forbid", strict=True):
    """A call of a tool, with the tokens of its arguments."""

    name: str
    arguments: list[str]

    @field_validator("arguments")
    @classmethod
    def _are_json(cls, tokens: list[str]) -> list[str]:
        if not isinstance(json.loads("".join(tokens)), dict):
            raise ValueError("put together they are no JSON object")
        return tokens


class Scenario(BaseModel, extra="forbid", strict=True):
    """One scenario; `scenarios.toml` says what the fields mean."""

    about: str
    thinking: list[str] = []
    tokens: list[str] = []
    refusal: list[str] = []
    tools: list[Tool] = []
    repeat: Times = 1
    enlarge: Times = 1
    silences: bool = False
    input_tokens: Count = 12
    cached_tokens: Count = 0
    pause: Seconds = 0
    gate: bool = False
    status: Status | None = None
    headers: dict[str, str] = {}
    fails: Count = 0
    fault: Fault | None = None
    after: Count = 0
    unpacks_to: Count = 200_000_000
    raw: list[str] = []
    nested: Count = 0
    line_end: Literal["lf", "crlf"] = "lf"
    cut: Literal["", "byte", "character", "cr"] = ""
    join: Times = 1
    drip: Seconds = 0

    @field_validator("after")
    @classmethod
    def _comes(cls, after: int, info: ValidationInfo) -> int:
        tokens = len(cls.model_construct(**info.data).said())
        if after > tokens:
            raise ValueError(f"there are only {tokens} tokens")
        return after

    def said(self) -> list[Token]:
        """Give the tokens in their order."""
        texts = [text * self.enlarge for text in self.tokens]
        said = [Token("thinking", text) for text in self.thinking]
        said += [Token("text", text) for text in texts * self.repeat]
        said += [Token("refusal", text) for text in self.refusal]
        for number, tool in enumerate(self.tools):
            said += [Token("tool", text, number) for text in tool.arguments]
        return said


def load(file: Path | None = None) -> dict[str, Scenario]:
    """Read a file of scenarios, by default the one that lies beside this module.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, a field is wrong, or there is no scenario `ok`.
    """
    file = file or SCENARIOS
    scenarios = {}
    try:
        for name, fields in tomllib.loads(file.read_text("utf-8")).items():
            scenarios[name] = Scenario.model_validate(fields)
    except ValidationError as error:
        raise ValueError(f"{file.name}, scenario {name}: {reasons(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file.name} is no TOML: {error}") from None
    if DEFAULT not in scenarios:
        raise ValueError(f"{file.name} lacks the scenario {DEFAULT}, which is for all")
    return scenarios


def reasons(error: ValidationError) -> str:
    """Say in one line what is wrong, and in which fields."""
    lines = []
    for problem in error.errors():
        place = ".".join(map(str, problem["loc"]))
        reason = problem["msg"]
        lines.append(f"{place}: {reason}" if place else reason)
    return "; ".join(lines)


def ending(status: int | None, fault: str | None) -> str:
    """Say how an answer ends if its client stays as long as it can."""
    if status:
        return f"refused with status {status}"
    if fault in ENDLESS:
        return LEFT
    if fault:
        return f"broken off: {fault}"
    return "complete"


def in_markdown(scenarios: Mapping[str, Scenario]) -> str:
    """Write the scenarios as a table for a page."""
    rows = ["| model | what the provider does | the record says |", "|---|---|---|"]
    for name, scenario in scenarios.items():
        end = ending(scenario.status, scenario.fault)
        if scenario.fails:
            end += ", then " + ending(None, scenario.fault)
        rows.append(f"| `{name}` | {scenario.about} | {end} |")
    return "\n".join(["", *rows, "", ""])
