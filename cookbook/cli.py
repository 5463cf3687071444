"""The `cookbook` command."""

import contextlib
import errno
import socket
import time
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape

from cookbook import catalog, site

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
    """Serve until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listener])
    console.print("Stopped.")


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
def serve(port: Port = 8000) -> None:
    """Serve the site and every recipe, in one process."""
    with listen(port, f"make serve PORT={port % 65535 + 1}") as listener:
        bring_up_to_date()
        with console.status("Starting the recipes …"):
            server = site.Server(site.create_app())
        console.print(
            f"Serving {len(catalog.recipes())} recipes and the site:", end=" "
        )
        console.print(f"[bold]http://{HOST}:{port}[/]")
        console.print("Ctrl-C stops it")
        until_stopped(server, listener)


@app.command("list")
def list_recipes() -> None:
    """List the recipes, each with a request to try."""
    for recipe in catalog.recipes():
        summary = escape(recipe.summary)
        console.print(f"[bold]{recipe.slug}[/]  {summary}", soft_wrap=True)
        console.print("  " + recipe.tries[0], soft_wrap=True, markup=False)


@app.command("run")
def run(slug: Slug, port: Port = 8000) -> None:
    """Serve one recipe."""
    try:
        recipe = catalog.find(slug)
    except LookupError as error:
        raise fail(str(error.args[0])) from None
    again = f"cookbook run {slug} --port {port % 65535 + 1}"
    with listen(port, again) as listener:
        summary = escape(recipe.summary)
        console.print(f"Serving [bold]{slug}[/]: {summary}", soft_wrap=True)
        for line in recipe.tries:
            request = line.replace(":8000", f":{port}")
            console.print("  " + request, soft_wrap=True, markup=False)
        console.print("Ctrl-C stops it")
        until_stopped(site.Server(site.HangUp(recipe.load()), "info"), listener)


if __name__ == "__main__":
    app()
