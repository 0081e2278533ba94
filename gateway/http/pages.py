"""The web pages and their files."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.http.route import Route

PAGES = Path(__file__).parent / "pages"

_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class PageRoutes:
    """Pages at `/` and `/watch`, their scripts and styles under `/pages/`. There is no build step."""

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
        return web.FileResponse(PAGES / "index.html", headers=_HEADERS)

    async def watch(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGES / "watch.html", headers=_HEADERS)

    async def file(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["file"]
        if name not in {path.name for path in PAGES.iterdir()}:
            raise web.HTTPNotFound
        return web.FileResponse(PAGES / name, headers=_HEADERS)
