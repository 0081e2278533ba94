"""Parts of the media path alone, each a program that prints its URL: `parts decode|ingest|egress [HEIGHT]`.

`decode` is what a plain aiortc server does with a publisher, the baseline; `ingest` is the gateway's way from
the datagram to the coded picture; `egress` its way from the coded picture to the viewers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from gateway.aio.tasks import spawn
from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit
from gateway.media.h264 import has_idr
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.publisher import Publisher
from gateway.webrtc.viewer import Viewer
from harness.ice import prepare_clients
from harness.load import FPS, SIZE, pictures, size
from harness.serving import serving

prepare_clients()
log = structlog.get_logger("bench")
peers: set[object] = set()


async def decode(offer: str) -> str:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peers.add(peer)

    @peer.on("track")
    def took(track: MediaStreamTrack) -> None:
        spawn(_drain(track), name="bench track")

    await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    return str(peer.localDescription.sdp)


async def _drain(track: MediaStreamTrack) -> None:
    try:
        while True:
            await track.recv()
    except MediaStreamError:
        return


async def ingest(offer: str) -> str:
    publisher = await Publisher.answer_offer(offer, config=WebRtcConfig(), sink=lambda frame: None, log=log)
    peers.add(publisher)
    spawn(publisher.connect(), name="bench connect")
    return publisher.answer


class Egress:
    """One stream to all viewers."""

    def __init__(self, height: int = SIZE[1]) -> None:
        self._height = height
        self._output = Fanout()
        self._source: asyncio.Task[None] | None = None

    async def __call__(self, offer: str) -> str:
        if self._source is None:
            self._source = spawn(self._run(), name="bench source")
        viewer = await Viewer.answer_offer(offer, config=WebRtcConfig(), log=log)
        peers.add(viewer)
        spawn(self._serve(viewer), name="bench viewer")
        return viewer.answer

    async def _serve(self, viewer: Viewer) -> None:
        await viewer.connect()
        self._output.add(viewer)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        coded, started, number = pictures(size(self._height)), loop.time(), 0
        while True:
            await asyncio.sleep(max(0.0, started + number / FPS - loop.time()))
            nals = coded[number % len(coded)]
            self._output.push(AccessUnit(nals, number * 3000, number * 3000, has_idr(nals)))
            number += 1


async def serve(answer: Callable[[str], Awaitable[str]]) -> None:
    async def post(request: web.Request) -> web.Response:
        text = await answer(await request.text())
        headers = {"Location": "/session"}
        return web.Response(status=201, text=text, content_type="application/sdp", headers=headers)

    async def gone(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(web.post("/session", post), web.delete("/session", gone)) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    part = {"decode": decode, "ingest": ingest, "egress": Egress(*map(int, sys.argv[2:]))}[sys.argv[1]]
    # aiortc as it comes runs on asyncio's own loop
    (asyncio.run if sys.argv[1] == "decode" else uvloop.run)(serve(part))
