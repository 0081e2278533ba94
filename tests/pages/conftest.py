"""A browser, and a gateway with scripted answers and real media."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from playwright.async_api import Browser, BrowserContext, Page

from harness.browser import chromium
from harness.serving import serving
from harness.waiting import DEADLINE

PAGES = Path(__file__).parents[2] / "gateway" / "http" / "pages"
PREFIX = "/live/video-to-video"


def problem(status: int, code: str, detail: str = "", **members: Any) -> web.Response:
    body = {"title": code, "status": status, "code": code, "detail": detail, **members}
    return web.Response(status=status, text=json.dumps(body), content_type="application/problem+json")


class ScriptedGateway:
    """Serves the pages and the routes that they use; sends a publisher's picture back to viewers.

    Served below `prefix`, as a reverse proxy would. Tests set `refusal`, `status`, `devnet` and `nodes`, and
    read what the pages asked for.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.url = ""
        self.refusal: web.Response | None = None
        self.play_refusal: web.Response | None = None
        self.update_refusal: web.Response | None = None
        self.status: dict[str, Any] = {"gateway_status": {"state": "starting", "request_id": "r1"}}
        self.devnet = False
        self.nodes: list[dict[str, Any]] = []
        """Of a cluster, whose last one serves viewers; none: it is a single gateway."""
        self.offers: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.authorizations: list[str | None] = []
        self.play_authorizations: list[str | None] = []
        self.updates: list[Any] = []
        self.deleted: list[str] = []
        self.watches = 0
        self.publishers: list[RTCPeerConnection] = []
        self.viewers: list[RTCPeerConnection] = []
        self._asked = asyncio.Condition()
        self._relay = MediaRelay()
        self._video: MediaStreamTrack | None = None
        self._peers: list[RTCPeerConnection] = []
        self._sinks: list[MediaBlackhole] = []

    def script(self, **gateway_status: Any) -> None:
        """Change fields of `gateway_status`, keeping the others."""
        self.status["gateway_status"].update(gateway_status)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the requests that came have made `condition` true."""
        async with asyncio.timeout(DEADLINE), self._asked:
            await self._asked.wait_for(lambda: bool(condition()))

    def app(self) -> web.Application:
        @web.middleware
        async def notice(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            async with self._asked:
                self._asked.notify_all()
            return response

        app = web.Application(middlewares=[notice])
        app.add_routes(
            [
                web.get(f"{self.prefix}/", self._file("index.html")),
                web.get(f"{self.prefix}/watch", self._file("watch.html")),
                web.static(f"{self.prefix}/pages", PAGES),
                web.get(f"{self.prefix}/devnet", self._devnet),
                web.get(f"{self.prefix}/nodes", self._nodes),
                web.post(f"{self.prefix}{PREFIX}/{{stream}}/whip", self._publish),
                web.post(f"{self.prefix}{PREFIX}/{{stream}}/whep", self._watch),
                web.post(f"{self.prefix}{PREFIX}/{{stream}}/update", self._update),
                web.get(f"{self.prefix}{PREFIX}/{{stream}}/status", self._status),
                web.delete(f"{self.prefix}{PREFIX}/{{stream}}/{{kind}}/{{id}}", self._delete),
            ]
        )
        return app

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()
        for sink in self._sinks:
            await sink.stop()

    def _file(self, name: str) -> Any:
        async def serve(_: web.Request) -> web.FileResponse:
            return web.FileResponse(PAGES / name)

        return serve

    async def _devnet(self, _: web.Request) -> web.Response:
        return web.json_response({"orchestrators": []}) if self.devnet else problem(404, "not_found")

    async def _nodes(self, _: web.Request) -> web.Response:
        return web.json_response({"nodes": self.nodes}) if self.nodes else problem(404, "not_found")

    async def _publish(self, request: web.Request) -> web.Response:
        self.offers.append(await request.text())
        self.queries.append(dict(request.query))
        self.authorizations.append(request.headers.get("Authorization"))
        if self.refusal is not None:
            return self.refusal
        peer = self._peer()
        self.publishers.append(peer)

        @peer.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            if track.kind == "video":
                self._video = track

        answer = await self._answer(peer, self.offers[-1])
        if self._video is not None:
            sink = MediaBlackhole()
            sink.addTrack(self._relay.subscribe(self._video))
            await sink.start()
            self._sinks.append(sink)
        return self._created(request, answer, "r1")

    async def _watch(self, request: web.Request) -> web.Response:
        self.watches += 1
        self.play_authorizations.append(request.headers.get("Authorization"))
        if self.play_refusal is not None:
            return self.play_refusal
        offer = await request.text()
        peer = self._peer()
        self.viewers.append(peer)
        if self._video is not None:
            peer.addTrack(self._relay.subscribe(self._video, buffered=False))
        return self._created(request, await self._answer(peer, offer), f"v{self.watches}")

    async def _update(self, request: web.Request) -> web.Response:
        self.updates.append(await request.json())
        return self.update_refusal or web.json_response({"status": "ok"})

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self.status)

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.path_qs)
        return web.Response()

    def _peer(self) -> RTCPeerConnection:
        peer = RTCPeerConnection()
        self._peers.append(peer)
        return peer

    @staticmethod
    async def _answer(peer: RTCPeerConnection, offer: str) -> str:
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    def _created(self, request: web.Request, answer: str, name: str) -> web.Response:
        headers = {"Location": f"{request.path}/{name}"}
        if self.nodes:
            headers["Livepeer-Node"] = self.nodes[-1]["name"]
        return web.Response(status=201, text=answer, content_type="application/sdp", headers=headers)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
def prefix() -> str:
    """The path below which the gateway is served; parametrised where it matters."""
    return ""


@asynccontextmanager
async def scripted_gateway(prefix: str = "") -> AsyncIterator[ScriptedGateway]:
    scripted = ScriptedGateway(prefix)
    async with serving(app=scripted.app()) as url:
        scripted.url = f"{url}{prefix}/"
        yield scripted
        await scripted.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def desktop(browser: Browser) -> BrowserContext:
    """One for all tests of a module, since it takes two seconds to make. Each test has its own tab in it."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1000 * DEADLINE)
    return context


@asynccontextmanager
async def opened(desktop: BrowserContext, gateway: ScriptedGateway) -> AsyncIterator[Page]:
    """The publishing page in a tab of its own; a script error on it is a failure."""
    page = await desktop.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(gateway.url)
    yield page
    await page.close()
    assert not errors


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(prefix: str) -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway(prefix) as scripted:
        yield scripted


@pytest_asyncio.fixture(loop_scope="module")
async def page(desktop: BrowserContext, gateway: ScriptedGateway) -> AsyncIterator[Page]:
    """The publishing page, open; a script error on it fails the test."""
    async with opened(desktop, gateway) as page:
        yield page
        await desktop.set_offline(False)
        for other in set(desktop.pages) - {page}:
            await other.close()
