"""Cross-origin access: a page of any origin may publish and watch."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http.route import Route

EXPOSED = (
    "Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch, WWW-Authenticate, Livepeer-Playback-URL"
)
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match"
PREFLIGHT_SECONDS = 86_400


@web.middleware
async def cross_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let pages of every origin read every answer."""
    response = await handler(request)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    return response


def options(routes: Sequence[Route]) -> Handler:
    """Answers OPTIONS for the `routes` of one path: methods and content types. Needs no token."""
    methods = sorted({route.method for route in routes} | {"OPTIONS"})
    if "GET" in methods:
        methods.append("HEAD")
    allowed = ", ".join(methods)
    headers = {
        "Allow": allowed,
        "Access-Control-Allow-Methods": allowed,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
    for route in routes:
        if route.takes is not None:
            headers[f"Accept-{route.method.capitalize()}"] = route.takes

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=204, headers=headers)

    return answer
