"""The feed, and a middleware that somebody has added: it logs how long an answer is."""

# --8<-- [start:fastapi]
from fastapi import Request, Response

# --8<-- [end:fastapi]
from feed import app, log

# --8<-- [start:starlette]
from starlette.middleware.base import RequestResponseEndpoint


# --8<-- [end:starlette]
# --8<-- [start:middleware]
@app.middleware("http")
async def log_size(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Log how many bytes were sent."""
    response = await call_next(request)
    body = b"".join([chunk async for chunk in response.body_iterator])
    log.info("%s: %s bytes", request.url.path, len(body))
    return Response(body, response.status_code, response.headers)


# --8<-- [end:middleware]
