"""Real peers for tests: aiortc clients that publish coded pictures and watch what comes back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import aioice.ice
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from gateway.media.h264 import split_annex_b

FPS = 30

# tests talk over loopback only, which aioice by itself leaves out
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


def coded_pictures(count: int, *, size: tuple[int, int] = (320, 180), gop: int = 15) -> list[av.Packet]:
    """`count` H.264 pictures as FFmpeg's encoder makes them, a key frame every `gop`."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height = size
    codec.pix_fmt = "yuv420p"
    codec.time_base = Fraction(1, FPS)
    codec.framerate = Fraction(FPS)
    codec.gop_size = gop
    codec.bit_rate = 600_000
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}
    packets: list[av.Packet] = []
    for number in range(count):
        frame = av.VideoFrame(*size, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes((number * 3 + at // 7) & 0xFF for at in range(plane.buffer_size)))
        frame.pts = number
        frame.time_base = codec.time_base
        packets += codec.encode(frame)
    return packets + codec.encode(None)


def nals_of(packet: av.Packet) -> list[bytes]:
    """The NAL units of a coded picture."""
    return split_annex_b(bytes(packet))


class CodedTrack(MediaStreamTrack):
    """Hands coded pictures to aiortc's sender at their pace, over and over."""

    kind = "video"

    def __init__(self, packets: list[av.Packet]) -> None:
        super().__init__()
        self.sent: list[list[bytes]] = []
        self._packets = packets
        self._next = 0
        self._started = 0.0

    async def recv(self) -> av.Packet:
        loop = asyncio.get_running_loop()
        if self._next == 0:
            self._started = loop.time()
        await asyncio.sleep(max(0.0, self._started + self._next / FPS - loop.time()))
        source = self._packets[self._next % len(self._packets)]
        packet = av.Packet(bytes(source))
        packet.pts = self._next
        packet.time_base = Fraction(1, FPS)
        self.sent.append(nals_of(packet))
        self._next += 1
        return packet


def aiortc_client() -> RTCPeerConnection:
    """A client without STUN servers: nothing leaves the machine."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def prefer_h264(client: RTCPeerConnection) -> None:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    wanted = [codec for codec in codecs if codec.mimeType in ("video/H264", "video/rtx")]
    for transceiver in client.getTransceivers():
        if transceiver.kind == "video":
            transceiver.setCodecPreferences(wanted)


async def offer_of(client: RTCPeerConnection) -> str:
    prefer_h264(client)
    await client.setLocalDescription(await client.createOffer())
    return client.localDescription.sdp


async def take_answer(client: RTCPeerConnection, answer: str) -> None:
    await client.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))


def open_descriptors() -> set[str]:
    """What this process has open, sockets by their inode."""
    found = set()
    for name in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(name.readlink()))
    return found
