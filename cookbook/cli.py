"""The `cookbook` command."""

import asyncio
import contextlib
import errno
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape

from cookbook import buffering, catalog, check, redis, site, upstream, view
from cookbook import take as taking
from cookbook.api_docs import OwnDocs
from cookbook.ask import Ask, NoAnswerError
from cookbook.catalog import Recipe
from cookbook.llm import local, provider

HOST = "127.0.0.1"
NAME = re.compile(
    r"[\w!#$%&'*+.^`|~-]+", re.ASCII
)  # of a header field (RFC 9110, 5.6.2)

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, style="red")

Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")]
Slug = Annotated[str, typer.Argument(help="A recipe, as `cookbook list` names it.")]


def fail(message: str) -> typer.Exit:
    """Print why it cannot go on, and give what ends the command with exit code 1."""
    errors.print(message, markup=False, soft_wrap=True)
    return typer.Exit(1)


def listen(port: int, hint: str) -> socket.socket:
    """Take the port before any work is done, or end with what to do instead."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} is taken. Stop what uses it, or take another: {hint}"
        else:
            reason = f"Cannot listen on port {port}: {error.strerror}. Try: {hint}"
        raise fail(reason) from None


def until_stopped(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until Ctrl+C."""
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listener])
    console.print("Stopped.")


@contextlib.contextmanager
def provider_for(recipes: list[Recipe]) -> Iterator[Callable[[], None]]:
    """Begin to start a provider if one of the recipes needs a language model.

    The block gets a function that waits for the provider and says who it is.
    """
    with contextlib.ExitStack() as stack:
        asking = [recipe for recipe in recipes if "model" in recipe.needs]
        used = {package for recipe in asking for package in recipe.packages}
        libraries = [library for library in provider.YOURS if library in used]
        starting = provider.starting(libraries or tuple(provider.YOURS))
        promise = stack.enter_context(starting) if asking else None

        def ready() -> None:
            if promise:
                with console.status("Starting the language model …"):
                    who = stack.enter_context(provider.visible(promise.result()))
                console.print(who.description, markup=False, soft_wrap=True)

        yield ready


@contextlib.contextmanager
def upstream_for(recipes: list[Recipe]) -> Iterator[None]:
    """Start another service if one of the recipes needs one, and say who it is."""
    with contextlib.ExitStack() as stack:
        if any("upstream" in recipe.needs for recipe in recipes):
            service = stack.enter_context(upstream.running())
            console.print(service.description, markup=False, soft_wrap=True)
        yield


def bring_up_to_date() -> None:
    """Build the site if it is stale, or end with what mkdocs said."""
    if not site.is_stale():
        console.print("The site is up to date")
        return
    if not site.can_be_built():
        raise fail(
            "This installation carries no site: build its wheel by `make wheel`."
        )
    started = time.perf_counter()
    with console.status("Building the site …"):
        try:
            site.build()
        except RuntimeError as error:
            raise fail(f"The site cannot be built:\n{error}") from None
    console.print(f"Built the site in {time.perf_counter() - started:.1f} s")


@app.command("serve")
def serve(port: Port = 8080) -> None:
    """Serve the site and every recipe, in one process."""
    recipes = catalog.recipes()
    with (
        listen(port, f"make serve PORT={port % 65535 + 1}") as listener,
        contextlib.ExitStack() as start,
    ):
        # Until it serves; then uvicorn minds the signal.
        starting = start.enter_context(contextlib.ExitStack())
        starting.enter_context(site.ended_by_sigterm())
        provider_is_ready = start.enter_context(provider_for(recipes))
        bring_up_to_date()
        start.enter_context(upstream_for(recipes))
        provider_is_ready()
        with console.status("Starting the recipes …"):
            proxy = start.enter_context(buffering.running(port))
            server = site.Server(site.create_app(buffering=proxy))
        console.print(f"Serving {len(recipes)} recipes and the site:", end=" ")
        console.print(f"[bold]http://{HOST}:{port}[/]")
        console.print("Ctrl+C stops it")
        starting.close()
        until_stopped(server, listener)


@app.command("list")
def list_recipes() -> None:
    """List the recipes, each with a request to try."""
    for recipe in catalog.recipes():
        if recipe.problem:
            errors.print(f"{recipe.slug}  {recipe.problem}", markup=False)
            continue
        summary = escape(recipe.summary)
        console.print(f"[bold]{recipe.slug}[/]  {summary}", soft_wrap=True)
        console.print("  " + recipe.tries[0], soft_wrap=True, markup=False)


@app.command("run")
def run(slug: Slug, port: Port = 8000) -> None:
    """Serve one recipe."""
    try:
        recipe = catalog.find(slug)
        application = recipe.load()
    except LookupError as error:
        raise fail(str(error.args[0])) from None
    except (Exception, SystemExit) as error:
        reason = site.in_words(error)
        raise fail(f"{slug} cannot be imported: {reason}") from None
    again = f"cookbook run {slug} --port {port % 65535 + 1}"
    with (
        listen(port, again) as listener,
        upstream_for([recipe]),
        provider_for([recipe]) as provider_is_ready,
    ):
        provider_is_ready()
        summary = escape(recipe.summary)
        console.print(f"Serving [bold]{slug}[/]: {summary}", soft_wrap=True)
        if recipe.has_page:
            console.print(f"  http://{HOST}:{port}/ is its page", soft_wrap=True)
        for line in recipe.tries:
            request = line.replace(":8000", f":{port}")
            console.print("  " + request, soft_wrap=True, markup=False)
        console.print("Ctrl+C stops it")
        until_stopped(site.Server(OwnDocs(application), "info"), listener)


@app.command("take")
def take(
    slug: Slug,
    folder: Annotated[
        Path, typer.Argument(help="Your project, or a new folder.", file_okay=False)
    ] = Path(),
    router: Annotated[
        bool, typer.Option("--router", help="Make it an APIRouter to include.")
    ] = False,
) -> None:
    """Put a recipe, its clients and a test into a project of yours."""
    try:
        recipe = catalog.find(slug)
        if recipe.problem:
            raise fail(f"{slug} cannot be taken: {recipe.problem}")
        taken = taking.take(recipe, folder, router=router)
        files = taking.written(taken, folder)
    except (LookupError, ValueError) as error:
        raise fail(str(error.args[0])) from None
    except FileExistsError as error:
        raise fail(f"Nothing was written. {error}") from None
    except OSError as error:
        raise fail(f"Nothing was written. {error.strerror}: {error.filename}") from None
    for name, is_new in files.items():
        said = "" if is_new else " is there already, the same"
        console.print(f"{folder / name}{said}", markup=False, soft_wrap=True)
    for line in taking.advice(taken, files, folder):
        console.print(line, markup=False, soft_wrap=True)


@app.command("llm")
def llm(
    port: Port = 8001,
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Serve scenarios, not the model.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Argument(help="Your own scenarios.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Serve a small language model on this machine, or `--scripted [FILE]`."""
    if file and not scripted:
        raise typer.BadParameter("it belongs to --scripted", param_hint="FILE")
    option = " --scripted" if scripted else ""
    again = f"cookbook llm{option} --port {port % 65535 + 1}"
    with contextlib.suppress(KeyboardInterrupt):
        # llama.cpp takes a number, not a socket: this only shows that the port is free.
        listen(port, again).close()
        reason = None if scripted else serve_local(port)
        if scripted or reason:
            # Somebody else may have taken the port while the model was loaded. That is
            # then why it did not start, and all that there is to say.
            with listen(port, again) as listener:
                if reason:
                    why = f"The scripted provider serves instead. {reason}"
                    console.print(why, markup=False, soft_wrap=True)
                serve_scripted(listener, file)
    console.print("Stopped.")


@app.command("redis")
def serve_redis(port: Port = 6379) -> None:
    """Serve an empty Redis on this machine; what it holds ends with it."""
    # Redis takes a number, not a socket: this only shows that the port is free.
    listen(port, f"cookbook redis --port {port % 65535 + 1}").close()
    with contextlib.suppress(KeyboardInterrupt), site.ended_by_sigterm():
        try:
            with redis.running(port) as process:
                address = f"redis://{HOST}:{port}/0"
                console.print(f"Serving an empty Redis: [bold]{address}[/]")
                console.print("Ctrl+C stops it")
                code = process.wait()
        except LookupError as error:
            raise fail(str(error.args[0])) from None
        raise fail(f"Redis ended with code {code}.")
    console.print("Stopped.")


def serve_local(port: int) -> str | None:
    """Serve the local model until Ctrl+C, or give the reason why it cannot run."""
    if reason := local.available():
        return reason
    with contextlib.ExitStack() as stack:
        try:
            with console.status("Loading the model …"):
                model = stack.enter_context(local.running(port))
        except (OSError, RuntimeError) as error:
            return str(error)
        introduce(f"the language model [bold]{model.model}[/]", model.env, model.url)
        console.print("Ctrl+C stops it")
        code = model.process.wait()
        raise fail(f"The model's process ended with code {code}.")


def serve_scripted(listener: socket.socket, file: Path | None) -> None:
    """Serve the scripted provider until Ctrl+C."""
    from cookbook.llm import scripted

    try:
        scenarios = scripted.load(file)
    except (OSError, ValueError) as error:
        raise fail(f"The scenarios cannot be read: {error}") from None
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    what = f"the scenarios of {file}" if file else "the cookbook's scenarios"
    # The scenario without a fault, so that all printed lines can be typed as they are.
    introduce(escape(what), local.environment(url, "ok"), url)
    lines = [
        "The name of the model chooses one of its scenarios. These are the names:",
        f"  curl {url}/v1/models",
        "What it was asked, and how each answer ended:",
        f"  curl {url}/scripted/record",
        "Ctrl+C stops it",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    scripted.run(listener, scenarios)


def introduce(what: str, variables: dict[str, str], url: str) -> None:
    """Say what is served where, and what makes the official SDKs find it."""
    console.print(f"Serving {what}: [bold]{url}[/]", soft_wrap=True)
    console.print("OpenAI's and Anthropic's libraries, and every recipe, find it by")
    for name, value in variables.items():
        console.print(f"  export {name}={value}", markup=False, soft_wrap=True)


@app.command("watch")
def watch(
    url: Annotated[str, typer.Argument(help="The address; http:// may be left out.")],
    method: Annotated[
        str | None,
        typer.Option("-X", "--request", help="GET, or POST if there is --data."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", help="'Name: value'.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("-d", "--data", help="A body, or @file. JSON is sent as JSON."),
    ] = None,
    location: Annotated[
        bool, typer.Option("-L", "--location", help="Follow redirects.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("-k", "--insecure", help="Trust any certificate.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option("-m", "--seconds", min=0.01, help="Leave after this time."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print lines of JSON instead of a view.")
    ] = False,
    diagnose: Annotated[
        bool,
        typer.Option("--check", help="Say what is wrong; asks up to 5 times more."),
    ] = False,
    silence: Annotated[
        float, typer.Option(min=0.01, help="For --check: seconds without a ping.")
    ] = check.SILENCE,
) -> None:
    """Show a stream as it arrives. Ctrl+C leaves it, and says what it was.

    Ends with 0 if it streams, 1 if nobody answers, 2 if the command is wrong, 3 if the
    status is not 2xx, 4 if it comes whole or is held back, 5 if it is closed early, 6
    if nothing comes, and with --check 7 if something was found, else 0.
    """
    try:
        ask = request(url, method, header or [], data)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    ask = replace(ask, follow=location, insecure=insecure)
    if diagnose and seconds is None:
        seconds = silence + 5
    doctor = check.Check(ask, seconds=seconds, silence=silence)
    shown = view.View(doctor.seen, console, as_json=as_json)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(doctor.run(shown, diagnose=diagnose))
    except NoAnswerError as error:
        status = view.STATUS["no answer"]
        shown.emit("error", message=str(error), exit=status)
        raise fail(str(error)) from None
    raise typer.Exit(doctor.report(shown, diagnose=diagnose))


def request(url: str, method: str | None, headers: list[str], data: str | None) -> Ask:
    """Read what curl's options say. Raises ValueError or OSError if one is wrong."""
    pairs = list[tuple[str, str]]()
    for header in headers:
        name, colon, value = header.partition(":")
        if (
            not colon
            or not NAME.fullmatch(name)
            or not (value.strip() + "x").isprintable()
        ):
            raise ValueError(f"-H {header!r} is no header such as 'Name: value'")
        pairs.append((name, value.strip()))
    if method is not None and not NAME.fullmatch(method):
        raise ValueError(f"-X {method!r} is no method")
    if data is None:
        return Ask(url, method or "GET", tuple(pairs))
    body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
    kind = "application/x-www-form-urlencoded"
    with contextlib.suppress(ValueError):
        if isinstance(json.loads(body), dict | list):
            kind = "application/json"
    if not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("Content-Type", kind))
    return Ask(url, method or "POST", tuple(pairs), body)


if __name__ == "__main__":
    app()
