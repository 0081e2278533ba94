"""What strangers send to `-httpAddr`: offers, fragments, bodies, connections."""

from __future__ import annotations

import asyncio
import json
import socket
import zlib
from contextlib import suppress
from pathlib import Path

import aiohttp

from gateway.aio.json_text import MAX_VALUES
from harness.gateway import GatewayProcess

ROOT = Path(__file__).parents[2]
OFFER = (ROOT / "tests" / "data" / "offers" / "chromium-camera-sendonly.sdp").read_text()
OFFER_BYTES = 64 * 1024 - 1
MEGABYTE = 1024 * 1024
IDLE_CONNECTIONS = 300
MANY_CONNECTIONS = 1000
JSON = {"Content-Type": "application/json"}
TCP_CANDIDATE = "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host\r\n"


class Strangers:
    """They know the address of `gateway`, and that it has a stream `honest`."""

    def __init__(self, gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
        self._gateway = gateway
        self._http = http

    async def offer(self, name: str, way: str, sdp: str) -> None:
        kind = {"Content-Type": "application/sdp"}
        await self._post(f"live/video-to-video/{name}/{way}", sdp.encode()[:OFFER_BYTES], kind)

    async def offers(self) -> None:
        formats = " ".join(str(n % 128) for n in range(10_900))
        lines = "".join(f"a=rtpmap:{n % 128} H264/90000\r\n" for n in range(900))
        sdp = f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF {formats}\r\n{lines}"
        await asyncio.gather(*(self.offer(f"o{n}", "whip", sdp) for n in range(6)))

    async def bundles(self) -> None:
        mids = " 1" * 14_000
        sdp = OFFER.replace("a=group:BUNDLE 0 1", f"a=group:BUNDLE 0 1{mids}") + 700 * TCP_CANDIDATE
        await asyncio.gather(*(self.offer("o", way, sdp) for way in ("whip", "whep")))

    async def fragments(self) -> None:
        url = self._gateway.live("fragments/whip")
        kind = {"Content-Type": "application/sdp"}
        async with self._http.post(url, data=OFFER.encode(), headers=kind) as answer:
            session = self._gateway.url.rstrip("/") + answer.headers["Location"]
        fragment = ("a=mid:0\r\n" + 1500 * TCP_CANDIDATE).encode()[:OFFER_BYTES]
        for _ in range(10):
            kind = {"Content-Type": "application/trickle-ice-sdpfrag"}
            async with self._http.patch(session, data=fragment, headers=kind) as answer:
                await answer.read()
        async with self._http.delete(session) as answer:
            await answer.read()

    async def compressed(self) -> None:
        packer = zlib.compressobj(9, wbits=31)
        body = await asyncio.to_thread(packer.compress, bytes(64 * MEGABYTE)) + packer.flush()
        await self._post("nowhere", body, {"Content-Encoding": "gzip", "Content-Type": "application/sdp"})

    async def updates(self) -> None:
        for number in range(20):
            await self._update(json.dumps({f"key{number}": "x" * 900_000}).encode())

    async def values(self) -> None:
        body = json.dumps({f"{n:050}": 0 for n in range(MAX_VALUES)}).encode()
        for _ in range(10):
            await self._update(body)

    async def deep(self) -> None:
        for body in (b"[" * MEGABYTE, b"[" + b"[]," * 300_000 + b"0]", b'{"a":' * 150_000):
            await self._update(body)

    async def no_numbers(self) -> None:
        digits = b"1" * 900_000
        for number in (b"NaN", b"-Infinity", b"1e999", b"1e-99999999", digits, b"0." + digits):
            await self._update(b'{"strength":' + number + b"}")

    async def idle(self, number: int = IDLE_CONNECTIONS) -> None:
        host, port = self._gateway.url.split("/")[2].rsplit(":", 1)
        held: list[socket.socket] = []
        for _ in range(number):
            with suppress(OSError):
                held.append(await asyncio.to_thread(socket.create_connection, (host, int(port)), 1))
        await asyncio.sleep(1)
        for one in held:
            one.close()

    async def long_paths(self) -> None:
        for path in ("pages/" + "x" * 300, "live/video-to-video/" + "y" * 4000 + "/whip", "%00" * 1000):
            async with self._http.get(self._gateway.url + path) as response:
                await response.read()

    async def _update(self, body: bytes) -> None:
        await self._post("live/video-to-video/honest/update", body, JSON)

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        async with self._http.post(self._gateway.url + path, data=body, headers=headers) as response:
            await response.read()
