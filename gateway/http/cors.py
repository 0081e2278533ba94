"""Cross-origin access: a page of any origin may publish and watch."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

EXPOSED = "Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch, Livepeer-Playback-URL"
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match"
PREFLIGHT_SECONDS = 86_400


@web.middleware
async def cross_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS for every route there is, and open every other answer to all origins."""
    refusal = request.match_info.http_exception
    if request.method == "OPTIONS" and isinstance(refusal, web.HTTPMethodNotAllowed):
        methods = ", ".join(sorted({*refusal.allowed_methods, "OPTIONS"}))
        response: web.StreamResponse = web.Response(
            status=204,
            headers={
                "Allow": methods,
                "Access-Control-Allow-Methods": methods,
                "Access-Control-Allow-Headers": ALLOWED_HEADERS,
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            },
        )
        if request.path.endswith(("/whip", "/whep")):
            response.headers["Accept-Post"] = "application/sdp"
    else:
        response = await handler(request)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    return response
