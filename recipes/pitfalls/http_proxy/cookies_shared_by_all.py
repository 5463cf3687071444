"""Wrong: the client in the lifespan keeps one visitor's session, and sends it for all.

Run it:   uvicorn recipes.pitfalls.http_proxy.cookies_shared_by_all:app
Try it:   curl -sS http://127.0.0.1:8000/login
          curl -sS http://127.0.0.1:8000/account
See it:   These are the orders of Ada.
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI, Request, Response

shop = FastAPI()  # the service that is passed on


@shop.get("/login")
def login(answer: Response) -> str:
    """Begin a session."""
    answer.set_cookie("user", "Ada")
    return "Welcome, Ada."


@shop.get("/account")
def account(request: Request) -> str:
    """Show the orders of whoever the cookie names."""
    return f"These are the orders of {request.cookies.get('user', 'nobody')}."


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client for all visitors; it also keeps the cookies of all."""
    transport = httpx2.ASGITransport(shop)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://shop"
    ) as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


@app.get("/{path}")
async def pass_on(request: Request, path: str) -> Response:
    """Pass on what the service says, without any cookie of the visitor."""
    response = await request.state.client.get(f"/{path}")
    return Response(response.content)


# --8<-- [end:wrong]
