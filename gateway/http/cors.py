"""What OPTIONS answers, and which headers pages of other origins may read."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http.route import Route

EXPOSED = (
    "Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch, WWW-Authenticate, "
    "Livepeer-Playback-URL, Livepeer-Node"
)
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match, Last-Event-ID"
PREFLIGHT_SECONDS = 86_400


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
