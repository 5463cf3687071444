"""A recipe's `/docs` and `/redoc`, with nothing loaded from another host.

FastAPI's own two pages name a CDN. The files that they load come with the package
`fastapi-offline`; only the addresses in the pages differ.
"""

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

FILES = "/docs-files"  # below the recipe's own address
# What a page would still like to have from elsewhere, such as a maker's logo, it goes
# without: https://www.w3.org/TR/CSP3/
POLICY = "default-src 'self' 'unsafe-inline' data: blob:"


class OwnDocs:
    """A recipe whose pages about its API load their files from this server."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.files: ASGIApp = StaticFiles(packages=[("fastapi_offline", "static")])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; all but three addresses are the recipe's."""
        answer: ASGIApp = self.app
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            root = scope.get("root_path", "").rstrip("/")
            path = scope["path"].removeprefix(root)
            if path.startswith(f"{FILES}/"):
                scope = {**scope, "root_path": root + FILES}
                answer = self.files
            elif path in {self.app.docs_url, self.app.redoc_url}:
                answer = self.page(path, root) or self.app
        await answer(scope, receive, send)

    def page(self, path: str, root: str) -> Response | None:
        """Write FastAPI's page with the addresses of this server's files."""
        app, here = self.app, root + FILES
        if not app.openapi_url:
            return None
        schema = root + app.openapi_url
        if path == app.redoc_url:
            page = get_redoc_html(
                openapi_url=schema,
                title=f"{app.title} - ReDoc",
                redoc_js_url=f"{here}/redoc.standalone.js",
                redoc_favicon_url=f"{here}/favicon.png",
                with_google_fonts=False,
            )
        else:
            page = get_swagger_ui_html(
                openapi_url=schema,
                title=f"{app.title} - Swagger UI",
                swagger_js_url=f"{here}/swagger-ui-bundle.js",
                swagger_css_url=f"{here}/swagger-ui.css",
                swagger_favicon_url=f"{here}/favicon.png",
                init_oauth=app.swagger_ui_init_oauth,
                swagger_ui_parameters=app.swagger_ui_parameters,
            )
        page.headers["content-security-policy"] = POLICY
        return page
