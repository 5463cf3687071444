"""Choose who answers the recipes that talk to a language model.

    with provider.running() as who:
        print(who.description)
        client = AsyncOpenAI()  # finds it in the environment

Your own provider answers if the environment names one. Else it is the small model on
this machine, and where that cannot run, the scripted provider.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from cookbook.llm import local

Kind = Literal["yours", "local", "scripted"]

# The recipes ask through OpenAI's SDK; either makes it talk to whom you have chosen.
YOURS = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
# If one of these is set, all of them stay as they are.
ANTHROPIC = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
LOCAL = "A small model on this machine answers: real tokens, little knowledge."
SCRIPTED = "The scripted provider answers, always in the same words."


@dataclass(frozen=True)
class Provider:
    """Who answers, in words for the console and the page."""

    kind: Kind
    description: str
    model: str | None = None  # None if that is not ours to say
    url: str | None = None  # without /v1; None if that is not ours to say
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Choice:
    """Who is to answer, and a sentence that says so."""

    kind: Kind
    description: str


_current: list[Provider] = []


def current() -> Provider | None:
    """Give the provider to which this process's environment leads, if it is known."""
    return _current[-1] if _current else None


def choose(env: Mapping[str, str]) -> Choice:
    """Choose by the environment; an empty variable counts as none.

    The sentence names variables, never their values: one of them is a secret.
    """
    if yours := [name for name in YOURS if env.get(name)]:
        verb = "are" if len(yours) > 1 else "is"
        names = " and ".join(yours)
        return Choice("yours", f"Your own provider answers: {names} {verb} set.")
    if reason := local.available():
        return Choice("scripted", f"{SCRIPTED} {reason}")
    return Choice("local", LOCAL)


@contextmanager
def started() -> Iterator[Provider]:
    """Start whom `choose` names until the block ends; the environment stays as it is.

    A local model that does not start is no error: the scripted provider takes its
    place, and its description says why.
    """
    with ExitStack() as stack:
        yield _start(choose(os.environ), stack)


def _start(choice: Choice, stack: ExitStack) -> Provider:
    if choice.kind == "yours":
        return Provider("yours", choice.description)
    description = choice.description
    if choice.kind == "local":
        try:
            model = stack.enter_context(local.running())
        except (OSError, RuntimeError) as error:
            description = f"{SCRIPTED} {error}"
        else:
            return Provider("local", description, model.model, model.url, model.env)
    # Imported here, since most often it is not needed.
    from cookbook.llm import scripted

    script = stack.enter_context(scripted.running())
    return Provider("scripted", description, "scripted", script.url, script.env)


@contextmanager
def starting() -> Iterator[Future[Provider]]:
    """Start it beside other work: what the block gets is a promise of `started`."""
    # The pool is left first, and waits: the stack then ends all that was started.
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        yield pool.submit(stack.enter_context, started())


@contextmanager
def visible(who: Provider) -> Iterator[Provider]:
    """Let this process's SDK clients find a provider until the block ends."""
    added = dict(who.env)
    if any(os.environ.get(name) for name in ANTHROPIC):
        added = {name: added[name] for name in added if name not in ANTHROPIC}
    if who.url:
        # A proxy that the environment asks for must not be asked for this machine.
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        added["no_proxy"] = f"{known},{local.HOST}" if known else local.HOST
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    _current.append(who)
    try:
        yield who
    finally:
        _current.remove(who)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def running() -> Iterator[Provider]:
    """Start a provider, and let SDK clients find it until the block ends."""
    with started() as who, visible(who):
        yield who
