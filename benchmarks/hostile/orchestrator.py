"""A free orchestrator: it gives pictures back as they are, or what a hostile one has to say.

Which of the two is told by the stream's name.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from gateway.devnet.trickle_server import TrickleServer
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.grpc import GET_ORCHESTRATOR, PlainBytes
from harness.insides import port_of
from harness.serving import serving

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PIECE = 65_536
WAYS = {"way-empty": "empty segments", "way-byte": "segments of one byte", "way-continue": "100 Continue"}
"""What a job's output is without end, by the stream's name."""


class FreeOrchestrator:
    """`outputs` are what jobs of the streams with these names get back, as one segment."""

    def __init__(self) -> None:
        self.outputs: dict[str, bytes] = {}
        self.events: dict[str, bytes] = {}
        self.answers: dict[str, bytes] = {}
        self.url = self.addr = ""
        self.models = b""
        self.trickle = TrickleServer()
        self._jobs = 0

    async def info(self, stream: Any) -> None:
        await stream.recv_message()
        info = livepeer_pb2.OrchestratorInfo(transcoder=self.url, address=b"\1" * 20)
        info.auth_token.session_id = f"s{self._jobs}"
        info.capabilities.capacities[35] = 100
        # a message's fields may come in pieces, which are read as one
        await stream.send_message(info.SerializeToString() + self.models)

    def offer_models(self, number: int) -> None:
        """Say that so many are offered, each with its name and a capacity."""
        info = livepeer_pb2.OrchestratorInfo()
        for one in range(number):
            info.capabilities.constraints.PerCapability[35].models[f"model {one}"].warm = True
        self.models = info.SerializeToString()

    def __mapping__(self) -> dict[str, Handler]:
        return {GET_ORCHESTRATOR: Handler(self.info, Cardinality.UNARY_UNARY, bytes, bytes)}

    async def start(self, request: web.Request) -> web.Response:
        stream = (await request.json())["stream_id"]
        if stream in self.answers:
            headers = {"Content-Encoding": "gzip"} if stream == "compressed" else {}
            body = self.answers[stream]
            return web.Response(body=body, content_type="application/json", headers=headers)
        self._jobs += 1
        name = f"{stream}-{self._jobs}"
        for suffix in ("", "-control"):
            self.trickle.create(name + suffix)
        hostile = stream in self.outputs or stream in self.events or stream in WAYS
        out = f"/hostile/{stream}/out" if hostile else f"/ai/trickle/{name}"
        urls = {"publish_url": f"/ai/trickle/{name}", "control_url": f"/ai/trickle/{name}-control"}
        if stream in self.events:
            urls["events_url"] = f"/hostile/{stream}/events"
        return web.json_response({"manifest_id": name, "subscribe_url": out, **urls})

    async def say(self, request: web.Request) -> web.StreamResponse:
        """Segment 0 of a hostile channel, and then silence; or the same event in every segment."""
        stream, number = request.match_info["stream"], request.match_info["number"]
        if request.match_info["channel"] == "events":
            return web.Response(body=self.events[stream], headers={"Lp-Trickle-Seq": number})
        if stream in WAYS:
            return await _without_end(request, stream)
        if int(number):
            await asyncio.Event().wait()
        response = web.StreamResponse(headers={"Lp-Trickle-Seq": "0"})
        await response.prepare(request)
        data = self.outputs.get(stream, b"")
        for at in range(0, len(data), PIECE):
            await response.write(data[at : at + PIECE])
        return response


async def _without_end(request: web.Request, way: str) -> web.Response:
    while way == "way-continue" and request.transport is not None and not request.transport.is_closing():
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await asyncio.sleep(0.001)
    body = b"x" if way == "way-byte" else b""
    return web.Response(body=body, headers={"Lp-Trickle-Seq": request.match_info["number"]})


@asynccontextmanager
async def free_orchestrator() -> AsyncIterator[FreeOrchestrator]:
    orchestrator = FreeOrchestrator()
    routes = (
        web.post("/live-video-to-video", orchestrator.start),
        web.get("/hostile/{stream}/{channel}/{number}", orchestrator.say),
        *orchestrator.trickle.routes(),
    )
    async with serving(*routes) as orchestrator.url:
        server = Server([orchestrator], codec=PlainBytes())
        await server.start("127.0.0.1", 0)
        orchestrator.addr = f"http://127.0.0.1:{port_of(server)}"
        try:
            yield orchestrator
        finally:
            server.close()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


FLOODS = {
    "SETTINGS": frame(4, 0, 0),
    "PING": frame(6, 0, 0, bytes(8)),
    "WINDOW_UPDATE": frame(8, 0, 0, struct.pack(">I", 1)),
    "RST_STREAM": frame(3, 0, 1, struct.pack(">I", 8)),
    "PRIORITY": frame(2, 0, 1, struct.pack(">IB", 0, 1)),
    "DATA after the end": frame(0, 0, 1),
}


@asynccontextmanager
async def flooding(unit: bytes, size: int) -> AsyncIterator[str]:
    """A gRPC server that answers with these frames, `size` bytes of them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        with suppress(OSError):
            writer.write(SETTINGS)
            for _ in range(0, size, PIECE):
                writer.write(unit * (PIECE // len(unit)))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
