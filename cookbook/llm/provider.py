"""Choose who answers the recipes that talk to a language model.

    with provider.running() as who:
        print(who.description)
        client = AsyncOpenAI()  # finds it in the environment

Recipes ask through OpenAI's library or Anthropic's. For each of the two your own
provider answers if the environment names one. Else it is the small model on this
machine, and where that cannot run, the scripted provider.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from cookbook.llm import local

Kind = Literal["yours", "local", "scripted"]

# Each of its variables makes a library talk to whom you have chosen. If one is set, all
# that begin with the library's name stay as they are.
YOURS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"),
}
NAMES = {"openai": "OpenAI", "anthropic": "Anthropic"}
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
    """Who is to answer for which library, and a sentence that says so.

    `yours` holds the variables that are set, by library; `others` are the libraries for
    which one of ours answers.
    """

    kind: Kind
    description: str
    yours: Mapping[str, list[str]] = field(default_factory=dict)
    others: Collection[str] = ()


_current: list[Provider] = []


def current() -> Provider | None:
    """Give the provider to which this process's environment leads, if it is known."""
    return _current[-1] if _current else None


def choose(env: Mapping[str, str], libraries: Collection[str] = tuple(YOURS)) -> Choice:
    """Choose by the environment for some libraries; an empty variable counts as none.

    The sentence names variables, never their values: one of them is a secret.
    """
    set_ = {one: [name for name in YOURS[one] if env.get(name)] for one in libraries}
    yours = {library: names for library, names in set_.items() if names}
    others = [library for library in set_ if library not in yours]
    if not others:
        return Choice("yours", description(yours, others, ""), yours)
    reason = local.available()
    ours = f"{SCRIPTED} {reason}" if reason else LOCAL
    kind: Kind = "scripted" if reason else "local"
    return Choice(kind, description(yours, others, ours), yours, others)


def description(
    yours: Mapping[str, list[str]], others: Collection[str], ours: str
) -> str:
    """Say who answers; `ours` is the sentence for the libraries in `others`."""
    if not yours:
        return ours
    names = [name for names in yours.values() for name in names]
    verb = "are" if len(names) > 1 else "is"
    own = f"your own provider answers: {' and '.join(names)} {verb} set."
    if not others:
        return capital(own)
    (with_yours,), (with_ours,) = yours, others
    return (
        f"With {NAMES[with_yours]}'s library, {own} "
        f"With {NAMES[with_ours]}'s library, {ours[0].lower()}{ours[1:]}"
    )


def capital(sentence: str) -> str:
    """Begin a sentence with a capital letter, and leave the others as they are."""
    return sentence[0].upper() + sentence[1:]


@contextmanager
def started(libraries: Collection[str] = tuple(YOURS)) -> Iterator[Provider]:
    """Start whom `choose` names until the block ends; the environment stays as it is.

    A local model that does not start is no error: the scripted provider takes its
    place, and its description says why.
    """
    with ExitStack() as stack:
        yield _start(choose(os.environ, libraries), stack)


def _start(choice: Choice, stack: ExitStack) -> Provider:
    if choice.kind == "yours":
        return Provider("yours", choice.description)
    said = choice.description
    if choice.kind == "local":
        try:
            model = stack.enter_context(local.running())
        except (OSError, RuntimeError) as error:
            said = description(choice.yours, choice.others, f"{SCRIPTED} {error}")
        else:
            env = _without(choice.yours, model.env)
            return Provider("local", said, model.model, model.url, env)
    # Imported here, since most often it is not needed.
    from cookbook.llm import scripted

    script = stack.enter_context(scripted.running())
    env = _without(choice.yours, script.env)
    return Provider("scripted", said, "scripted", script.url, env)


def _without(yours: Collection[str], env: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would change the variables of a library that has its own."""
    prefixes = tuple(library.upper() for library in yours)
    return {name: env[name] for name in env if not name.startswith(prefixes)}


@contextmanager
def starting(
    libraries: Collection[str] = tuple(YOURS),
) -> Iterator[Future[Provider]]:
    """Start it beside other work: what the block gets is a promise of `started`."""
    # The pool is left first, and waits: the stack then ends all that was started.
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        yield pool.submit(stack.enter_context, started(libraries))


@contextmanager
def visible(who: Provider) -> Iterator[Provider]:
    """Let this process's SDK clients find a provider until the block ends."""
    added = dict(who.env)
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
