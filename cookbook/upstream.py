"""Start a recipe as the service that another recipe passes on.

with upstream.running() as shop:
    print(shop.description)

Your own service is passed on if `SHOP_URL` in the environment names one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cookbook import catalog
from cookbook.background import serving

VARIABLE = "SHOP_URL"
RECIPE = "plain_text"


@dataclass(frozen=True)
class Upstream:
    """The service that is passed on."""

    url: str
    description: str


@contextmanager
def started() -> Iterator[Upstream]:
    """Serve the recipe on a free port, and name it in the environment meanwhile."""
    before = os.environ.get(VARIABLE)
    recipe = catalog.read(catalog.ROOT / "recipes" / f"{RECIPE}.py")
    with serving(recipe.load()) as url:
        os.environ[VARIABLE] = url
        try:
            yield Upstream(
                url, f"The recipe {RECIPE} is the service that http_proxy asks: {url}"
            )
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


@contextmanager
def running() -> Iterator[Upstream]:
    """Leave it at the service that the environment names, or start the recipe."""
    if url := os.environ.get(VARIABLE):
        yield Upstream(url, f"Your own service is passed on: {VARIABLE} is set.")
        return
    with started() as recipe:
        yield recipe
