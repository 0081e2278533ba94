"""The web page and the files that it is made of."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.http.route import Route

PAGES = Path(__file__).parent / "pages"

_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class PageRoutes:
    """Two documents at `/` and `/watch`, their scripts and style under `/pages/`. No build step."""

    def routes(self) -> list[Route]:
        html = "text/html"
        return [
            Route("GET", "/", self.index, "the page that publishes", {200: "the page"}, gives=html),
            Route("GET", "/watch", self.watch, "the page that watches", {200: "the page"}, gives=html),
            Route(
                "GET",
                "/pages/{file}",
                self.file,
                "what the pages are made of",
                {200: "the file", 404: "no such file"},
                gives="*/*",
            ),
        ]

    async def index(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGES / "index.html", headers=_HEADERS)

    async def watch(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGES / "watch.html", headers=_HEADERS)

    async def file(self, request: web.Request) -> web.FileResponse:
        path = PAGES / request.match_info["file"]
        if path.parent != PAGES or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers=_HEADERS)
