"""The web pages and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from gateway.http.route import Route

PAGES = Path(__file__).parent / "pages"

FILES = "/pages/{file}"
_HEADERS = {"Cache-Control": "no-cache"}
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "media-src 'self' blob:",
    "base-uri 'none'",
    "form-action 'self'",
)
"""What the pages may load (Content Security Policy 3): their own files, nothing written into the document."""


class OperatorPageRoutes:
    """The operator's page at `/operator`, whose files are under `/pages/` too."""

    def __init__(self) -> None:
        self._pages = PageRoutes()

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/operator", self.page, "the operator's page", {200: "the page"}, gives="text/html")
        ]

    def files(self) -> list[Route]:
        """Scripts and styles, for an address that does not serve the other pages."""
        return [route for route in self._pages.routes() if route.path == FILES]

    async def page(self, _: web.Request) -> web.FileResponse:
        return self._pages.page("operator.html", ())


class PageRoutes:
    """Pages at `/` and `/watch`, their scripts and styles under `/pages/`. There is no build step.

    Pages of the origins `watch_in_frame` may show `/watch` in a frame; `/` is for the gateway's own only.
    Both may talk to the gateway by the address that they were loaded from and by `external_url`.
    """

    def __init__(self, watch_in_frame: Sequence[str] = (), external_url: str | None = None) -> None:
        self._watch_in_frame = watch_in_frame
        self._reached = "connect-src 'self'"
        if external_url is not None:
            parts = urlsplit(external_url)
            self._reached += f" {parts.scheme}://{parts.netloc}"

    def routes(self) -> list[Route]:
        html = "text/html"
        return [
            Route("GET", "/", self.index, "the page for publishers", {200: "the page"}, gives=html),
            Route("GET", "/watch", self.watch, "the page for viewers", {200: "the page"}, gives=html),
            Route(
                "GET",
                FILES,
                self.file,
                "scripts and styles of the pages",
                {200: "the file", 404: "no such file"},
                gives="*/*",
            ),
        ]

    async def index(self, _: web.Request) -> web.FileResponse:
        return self.page("index.html", ())

    async def watch(self, _: web.Request) -> web.FileResponse:
        return self.page("watch.html", self._watch_in_frame)

    async def file(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["file"]
        if name not in {path.name for path in PAGES.iterdir()}:
            raise web.HTTPNotFound
        return web.FileResponse(PAGES / name, headers=_HEADERS)

    def page(self, name: str, framed_by: Sequence[str]) -> web.FileResponse:
        """One of the pages, which pages of these origins may show in a frame."""
        policy = "; ".join([*_POLICY, self._reached, " ".join(["frame-ancestors 'self'", *framed_by])])
        return web.FileResponse(PAGES / name, headers={**_HEADERS, "Content-Security-Policy": policy})
