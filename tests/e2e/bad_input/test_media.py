"""Bad WebRTC peers and bad media."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiortc import RTCSessionDescription

from harness.gateway import GatewayProcess
from harness.insides import send_rtp
from harness.waiting import eventually, within
from harness.webrtc import WhipPublisher, encoded_pattern
from tests.e2e.bad_input.test_requests import without
from tests.e2e.sessions import SDP

pytestmark = pytest.mark.asyncio(loop_scope="module")


class ForgedPublisher(WhipPublisher):
    """A publisher whose offer, or the answer to it, is changed on its way."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        change: Callable[[str], str] = str,
        change_answer: Callable[[str], str] = str,
        **options: Any,
    ) -> None:
        super().__init__(http, url, **options)
        self._change = change
        self._change_answer = change_answer
        self.answer = ""

    async def __aenter__(self) -> ForgedPublisher:
        try:
            await self._offer()
        except BaseException:
            await within(self.peer.close())
            raise
        return self

    async def _offer(self) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = self._change(self.peer.localDescription.sdp)
        async with self._http.post(self._url, data=offer, headers=SDP) as response:
            assert response.status == 201, await response.text()
            self.answer = await response.text()
            self.location = response.headers["Location"]
        await self.peer.setRemoteDescription(
            RTCSessionDescription(self._change_answer(self.answer), "answer")
        )

    async def connected(self) -> None:
        await eventually(lambda: self.peer.connectionState == "connected", what="the connection")

    async def send(self, payload_type: int, payload: bytes, sequence: int = 1) -> None:
        """One RTP packet of our making, through the keys of the connection."""
        header = struct.pack("!BBHII", 0x80, 0x80 | payload_type, sequence, 0, 0x1234)
        await send_rtp(self.peer, header + payload)


async def end_of(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    async def ended() -> Any:
        return (await gateway.status(name))["ended"]

    return dict(await eventually(ended, what=f"the end of {name}"))


def forged_fingerprint(sdp: str) -> str:
    # all of them: one correct line would be enough
    return re.sub(
        r"(?<=a=fingerprint:)(\S+ )(\S+)", lambda line: line[1] + re.sub(r"\w\w", "AB", line[2]), sdp
    )


async def test_a_certificate_with_another_fingerprint_is_refused(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with ForgedPublisher(http, gateway.live("forged/whip"), forged_fingerprint):
        ended = await end_of(gateway, "forged")
    assert ended["reason"] == "ingest_timeout"
    assert "fingerprint" in ended["detail"]


async def test_a_peer_that_refuses_our_certificate_ends_the_stream(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with ForgedPublisher(http, gateway.live("refuses/whip"), change_answer=forged_fingerprint):
        ended = await end_of(gateway, "refuses")
    assert ended["reason"] in ("publisher_left", "ingest_timeout")
    assert ended["detail"]


async def test_unreachable_candidates_end_the_stream_with_what_to_open(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    nowhere = without(r"^a=candidate.*\n") + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n" * 100
    async with http.post(gateway.live("nowhere/whip"), data=nowhere, headers=SDP) as response:
        assert response.status == 201
    ended = await end_of(gateway, "nowhere")
    assert ended["reason"] == "ingest_timeout"
    assert "UDP" in ended["detail"]


async def test_garbage_beside_and_inside_the_media_is_ignored(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with ForgedPublisher(http, gateway.live("garbage/whip")) as publisher:
        await publisher.connected()
        port = int(re.findall(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) ", publisher.answer)[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for first in range(256):
                stranger.sendto(bytes([first]) * 200, ("127.0.0.1", port))
            stranger.sendto(b"", ("127.0.0.1", port))
        video = int(re.findall(r"^m=video \d+ \S+ (\d+)", publisher.answer, re.MULTILINE)[0])
        for number, payload in enumerate(
            [b"", b"\x00", b"\x7c", b"\x78\xff\xff", b"\x7c\x85", b"\xff" * 1200]
        ):
            await publisher.send(video, payload, number)
        for payload_type in (0, 33, 77, 127):
            await publisher.send(payload_type, b"\x65" * 500)

        async def live() -> bool:
            return (await gateway.status("garbage"))["state"] == "live"

        await eventually(live, what="the stream in spite of it")
        await publisher.stop()
    assert (await end_of(gateway, "garbage"))["reason"] == "deleted"


async def test_frames_of_a_megabyte_neither_grow_nor_end_the_gateway(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    huge = b"\x00\x00\x00\x01\x65" + b"\x88" * (1 << 20)
    units = [*encoded_pattern()[:10], huge]  # as many as this process can send beside its other work
    async with ForgedPublisher(http, gateway.live("huge/whip"), units=units) as publisher:
        await publisher.connected()

        async def seen() -> bool:
            status = await gateway.status("huge")
            assert status["ended"] is None
            return (status["ingest"] or {}).get("bitrate_bps", 0) > 10_000_000

        await eventually(seen, what="the large frames")
        assert (await gateway.get("debug/state"))["held_bytes"] < 64 << 20
        await publisher.stop()
    assert (await end_of(gateway, "huge"))["reason"] == "deleted"
