"""The `cookbook` command."""

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape

from cookbook import buffering, catalog, redis, site, upstream
from cookbook.catalog import Recipe
from cookbook.llm import local, provider

HOST = "127.0.0.1"

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
        until_stopped(site.Server(application, "info"), listener)


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


if __name__ == "__main__":
    app()
