"""The recipe cross_origin for the origins that a test names, and what it is not."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse

from recipes import cross_origin

ORIGINS = os.environ.get("ORIGINS", "").split()
cross_origin.ORIGINS[:] = ORIGINS
cross_origin.PAUSE = float(os.environ.get("PAUSE", "0.02"))
app = cross_origin.app

# Says which cookies and which id a browser has sent, and sets what it is asked to.
other = FastAPI()
other.add_middleware(
    CORSMiddleware,
    allow_origins=ORIGINS,
    allow_credentials=os.environ.get("CREDENTIALS") != "no",
    allow_methods=["*"],
    max_age=int(os.environ.get("MAX_AGE", "600")),
)


@other.post("/cookies")
async def set_cookies(response: Response) -> None:
    """Set a cookie of each kind."""
    response.set_cookie("lax", "1", samesite="lax", secure=True)
    response.set_cookie("none", "1", samesite="none", secure=True)
    apart = "apart=1; Path=/; SameSite=None; Secure; Partitioned"
    response.headers.append("Set-Cookie", apart)


@other.get("/cookies")
async def cookies(request: Request) -> list[str]:
    """Name the cookies that came."""
    return sorted(request.cookies)


@other.get("/id")
async def again(request: Request, id_: str, times: int = 1) -> StreamingResponse:
    """Send an event with this id, and the id that came."""
    came = request.headers.get("Last-Event-ID", "").encode("latin-1").decode()
    data = json.dumps(came)

    async def body() -> AsyncIterator[str]:
        yield f"retry: 10\nid: {id_ * times}\ndata: {data}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


@other.post("/json")
async def post() -> str:
    """Take a request that needs a preflight, if its type is JSON's."""
    return "ok"


@app.get("/tasks")
async def tasks() -> int:
    """Count the tasks of this process."""
    return len(asyncio.all_tasks())
