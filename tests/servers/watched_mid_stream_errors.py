"""The recipe mid_stream_errors over sources of the tests; `/open` counts them."""

import itertools
import sys
from collections.abc import AsyncGenerator

import anyio
from fastapi import FastAPI

from recipes import mid_stream_errors as recipe
from recipes.mid_stream_errors import Order

BIG = 16 * 1024 * 1024  # bytes, more than the buffers of a connection hold
read_orders = recipe.read_orders
opened: list[str] = []  # the sources that are open


def serving(size: int) -> FastAPI:
    """Give the recipe a source without end, whose second order has that size."""

    async def endless(customer: str, fail_at: int) -> AsyncGenerator[Order]:
        opened.append(f"{customer} {fail_at}")
        try:
            for number in itertools.count(1):
                sys.stdout.write(f"order {number}\n")
                yield Order(id=number, item="x" * size if number == 2 else "tea")
                await anyio.sleep(0.01)
        finally:
            opened.pop()

    recipe.read_orders = endless
    recipe.app.get("/open")(count)
    return recipe.app


def count() -> int:
    """Count the sources that are open."""
    return len(opened)


def trickling() -> FastAPI:
    """Serve small orders without end."""
    return serving(1)


def flooding() -> FastAPI:
    """Serve an order too big for a client that does not read."""
    return serving(BIG)


def failing_at(number: int) -> FastAPI:
    """Serve the recipe with a shop that fails at that order, whatever is asked."""

    def source(customer: str, fail_at: int) -> AsyncGenerator[Order]:
        return read_orders(customer, number or fail_at)

    recipe.read_orders = source
    return recipe.app


def down() -> FastAPI:
    """Serve the recipe with a shop that fails at its first order."""
    return failing_at(1)


def complete() -> FastAPI:
    """Serve the recipe with a shop that does not fail."""
    return failing_at(6)
