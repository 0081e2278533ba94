"""The web pages and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from gateway.http.route import Route

PAGES = Path(__file__).parent / "pages"

_HEADERS = {"Cache-Control": "no-cache"}


class PageRoutes:
    """Pages at `/` and `/watch`, their scripts and styles under `/pages/`. There is no build step.

    Pages of the origins `watch_in_frame` may show `/watch` in a frame; `/` is for the gateway's own only.
    """

    def __init__(self, watch_in_frame: Sequence[str] = ()) -> None:
        self._watch_in_frame = watch_in_frame

    def routes(self) -> list[Route]:
        html = "text/html"
        return [
            Route("GET", "/", self.index, "the page for publishers", {200: "the page"}, gives=html),
            Route("GET", "/watch", self.watch, "the page for viewers", {200: "the page"}, gives=html),
            Route(
                "GET",
                "/pages/{file}",
                self.file,
                "scripts and styles of the pages",
                {200: "the file", 404: "no such file"},
                gives="*/*",
            ),
        ]

    async def index(self, _: web.Request) -> web.FileResponse:
        return _page("index.html", ())

    async def watch(self, _: web.Request) -> web.FileResponse:
        return _page("watch.html", self._watch_in_frame)

    async def file(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["file"]
        if name not in {path.name for path in PAGES.iterdir()}:
            raise web.HTTPNotFound
        return web.FileResponse(PAGES / name, headers=_HEADERS)


def _page(name: str, framed_by: Sequence[str]) -> web.FileResponse:
    policy = " ".join(["frame-ancestors 'self'", *framed_by])
    return web.FileResponse(PAGES / name, headers={**_HEADERS, "Content-Security-Policy": policy})
