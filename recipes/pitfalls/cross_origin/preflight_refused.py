"""Wrong: a middleware in front of CORS asks the preflight for a cookie.

Run it:   uvicorn recipes.pitfalls.cross_origin.preflight_refused:app
Try it:   curl -i -X OPTIONS -H 'Origin: http://127.0.0.1:8003' \
            -H 'Access-Control-Request-Method: POST' http://127.0.0.1:8000/search
See it:   HTTP/1.1 401 Unauthorized
"""

# --8<-- [start:program]
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse
from starlette.middleware.base import RequestResponseEndpoint

from recipes.cross_origin import ORIGINS, lifespan, search, sign_in

app = FastAPI(lifespan=lifespan)
app.post("/sign-in", status_code=204)(sign_in)
app.post("/search")(search)


# --8<-- [end:program]
# --8<-- [start:wrong]
app.add_middleware(
    CORSMiddleware,
    allow_origins=ORIGINS,
    allow_credentials=True,
    allow_methods=["POST"],
    expose_headers=["X-Total"],
)


@app.middleware("http")
async def only_customers(
    request: Request, call_next: RequestResponseEndpoint
) -> Response:
    """Let nobody in who has no cookie, except to get one."""
    if request.url.path != "/sign-in" and "customer" not in request.cookies:
        return PlainTextResponse("Sign in first.", 401)
    return await call_next(request)


# --8<-- [end:wrong]
