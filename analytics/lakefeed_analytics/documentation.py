"""The page `/docs`: Swagger UI over the API's own OpenAPI document, without external resources.

Script and styles come from the package `fastapi-offline`, which contains Swagger UI. The page's headers allow
the browser to load from and send to this service only.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException

_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
# Swagger UI inserts styles and small images into the page.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lakefeed analytics: API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="api"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Without `validatorUrl`, Swagger UI would load a badge from an external server.
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null,
  showExtensions: true, showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def routes() -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)
    folder = Path(str(resources.files("fastapi_offline"))) / "static"

    @router.get("/docs")
    async def page() -> Response:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=_HEADERS)

    @router.get("/docs/{file}")
    def part(file: str) -> Response:
        if file not in _FILES:
            raise HTTPException(404, "there is no such file")
        return FileResponse(folder / file, media_type=_FILES[file], headers=_HEADERS)

    return router
