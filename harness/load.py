"""Publishers and viewers that cost little: aiortc shakes hands, then packets are only sent and counted.

A program: `load publish|watch|both|churn URL COUNT [HEIGHT]`, with `{n}` in the URL for the number of the
stream and `{way}` for whip or whep; HEIGHT is that of the pictures. Each line on stdin is answered with the
counters as one JSON object; the end of it ends the program. `churn` connects and leaves again, one every
CHURN_EVERY seconds, and prints its counters each time.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from struct import Struct
from typing import Any

import aiohttp
import av
import numpy as np
import uvloop
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from gateway.aio.tasks import spawn
from gateway.media.h264 import split_annex_b
from gateway.media.rtp_h264 import packetize
from harness.ice import prepare_clients
from harness.insides import ice_of, protect_rtp, selected_pair, sockets_of
from harness.waiting import DEADLINE, within

FPS = 30
SIZE = (1280, 720)
BIT_RATE = 2_650_000
PICTURES = GOP = 60
CHURN_EVERY = 1.25
"""Seconds. A gateway remembers ended streams for a minute: fifty at this rate."""
_HEADER = Struct("!BBHII")

prepare_clients()


@functools.cache
def pictures(size: tuple[int, int] = SIZE, bit_rate: int = BIT_RATE, gop: int = GOP) -> list[list[bytes]]:
    """NAL units of 2 s of a camera's pictures, coded as OBS does (x264 veryfast, high profile)."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height = size
    codec.pix_fmt = "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
    codec.gop_size = gop
    codec.bit_rate = bit_rate
    codec.thread_count = 1  # so that it is the same everywhere: a slice a picture
    rate = str(bit_rate)
    codec.options = {
        "preset": "veryfast",
        "profile": "high",
        "tune": "zerolatency",
        "sc_threshold": "0",
        "maxrate": rate,
        "bufsize": rate,
    }
    packets: list[av.Packet] = []
    for number, luma in enumerate(_scene(size)):
        frame = av.VideoFrame.from_ndarray(luma, "gray").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, codec.time_base
        packets += codec.encode(frame)
    packets += codec.encode(None)
    return [split_annex_b(bytes(packet)) for packet in packets]


def size(height: int) -> tuple[int, int]:
    """Width and height in pixels of a picture that is so high."""
    return height * 16 // 9, height


def _scene(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """A moving figure before a panning camera, with a sensor's noise; the end fits to the start.

    Detail falls off with its frequency, as in pictures of the world: noise alone, or plain colours, would
    make coded pictures that are far too cheap to decode for their size.
    """
    width, height = size
    chance = np.random.default_rng(7)
    background = _texture(chance, height + height // 4, width + width // 4)
    figure = _texture(chance, height // 3, height // 3)
    for number in range(PICTURES):
        turn = np.exp(2j * np.pi * number / PICTURES)
        top, left = int(height * (1 + turn.imag) / 10), int(width * (1 + turn.real) / 10)
        luma = background[top : top + height, left : left + width].copy()
        top, left = int(height * (1 + turn.real) / 3), int(width * (1 + turn.imag) / 3)
        luma[top : top + len(figure), left : left + len(figure)] = figure
        yield np.clip(luma + chance.normal(0, 1, luma.shape), 16, 235).astype(np.uint8)


def _texture(chance: np.random.Generator, height: int, width: int) -> np.ndarray:
    spectrum = np.fft.rfft2(chance.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # zero mean
    texture = np.fft.irfft2(spectrum / frequency, s=(height, width))
    return np.asarray(128 + 45 * texture / texture.std())


class Silent(MediaStreamTrack):
    """A track without frames: aiortc only does the handshakes."""

    kind = "video"

    async def recv(self) -> Any:
        return await asyncio.get_running_loop().create_future()


class Counters:
    def __init__(self) -> None:
        self.connected = 0
        self.packets_sent = 0
        self.frames_sent = 0
        self.packets_received = 0
        self.frames_received = 0
        self.packets_missing = 0


class Session:
    """One WHIP or WHEP session, up to the point where packets may flow."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, publish: bool) -> None:
        self._http = http
        self._url = url
        self._location = ""
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.track = Silent()
        if publish:
            self.transceiver = self.peer.addTransceiver(self.track, direction="sendonly")
        else:
            self.transceiver = self.peer.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        self.transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/H264"])

    async def open(self) -> None:
        connected = asyncio.Event()

        @self.peer.on("connectionstatechange")
        def changed() -> None:
            if self.peer.connectionState == "connected":
                connected.set()

        await self.peer.setLocalDescription(await self.peer.createOffer())
        headers = {"Content-Type": "application/sdp"}
        async with self._http.post(
            self._url, data=self.peer.localDescription.sdp, headers=headers
        ) as response:
            answer = await response.text()
            if response.status != 201:
                raise RuntimeError(f"{self._url}: {response.status} {answer[:300]}")
            self._location = str(response.url.join(aiohttp.client.URL(response.headers["Location"])))
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(20):
            await connected.wait()

    @property
    def ice(self) -> Any:
        return ice_of(self.peer)

    async def close(self) -> None:
        self.track.stop()
        async with self._http.delete(self._location):
            pass
        await within(self.peer.close())


class Sender:
    """Sends the pictures under one SSRC at their pace."""

    def __init__(self, session: Session, payloads: list[list[bytes]], counters: Counters) -> None:
        pair = selected_pair(session.ice)
        self._send = pair.protocol.transport.sendto
        self._to = pair.remote_addr
        self._protect = protect_rtp(session.peer)
        sdp = session.peer.remoteDescription.sdp
        line = next(line for line in sdp.splitlines() if line.startswith("m=video"))
        self._type = int(line.split()[3])
        self._ssrc = random.getrandbits(31) + 1
        self._sequence = random.getrandbits(15)
        self._payloads = payloads
        self._counters = counters

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        started, number = loop.time() + random.random() / FPS, 0
        while True:
            await asyncio.sleep(max(0.0, started + number / FPS - loop.time()))
            payloads = self._payloads[number % len(self._payloads)]
            last = len(payloads) - 1
            for place, payload in enumerate(payloads):
                kind = self._type | (0x80 if place == last else 0)
                header = _HEADER.pack(0x80, kind, self._sequence & 0xFFFF, number * 3000, self._ssrc)
                self._sequence += 1
                self._send(self._protect(header + payload), self._to)
            self._counters.packets_sent += last + 1
            self._counters.frames_sent += 1
            number += 1


def count_packets(session: Session, counters: Counters) -> None:
    """Only count a viewer's packets from now on; SRTP leaves RTP headers readable."""
    highest: int | None = None

    def take(received: Any, data: bytes, addr: Any) -> None:
        nonlocal highest
        if not 127 < data[0] < 192 or 192 <= data[1] <= 223:
            received(data, addr)
            return
        counters.packets_received += 1
        counters.frames_received += data[1] >> 7
        sequence = int.from_bytes(data[2:4], "big")
        step = 1 if highest is None else (sequence - highest) & 0xFFFF
        if 0 < step < 0x8000:
            highest = sequence
            counters.packets_missing += step - 1
        else:
            counters.packets_missing -= 1  # late, or sent again

    for protocol in sockets_of(session.ice):
        protocol.datagram_received = functools.partial(take, protocol.datagram_received)


async def run(way: str, url: str, count: int, height: int = SIZE[1]) -> None:
    counters = Counters()
    payloads = [packetize(nals) for nals in pictures(size(height))] if way != "watch" else []
    sessions: list[Session] = []
    sending: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as http:
        for number in range(count):
            for what in ("whep", "whip"):
                began = time.monotonic()
                publish = what == "whip"
                if (way in ("publish", "churn") and not publish) or (way == "watch" and publish):
                    continue
                session = Session(http, url.format(n=number, way=what), publish=publish)
                await session.open()
                if publish:
                    sending.append(spawn(Sender(session, payloads, counters).run(), name="load sender"))
                else:
                    count_packets(session, counters)
                counters.connected += 1
                if way != "churn":
                    sessions.append(session)
                    continue
                await asyncio.sleep(0.3)
                sending.pop().cancel()
                await session.close()
                _print(counters)
                await asyncio.sleep(max(0.0, began + CHURN_EVERY - time.monotonic()))
        _print(counters)
        while await asyncio.to_thread(sys.stdin.readline):
            _print(counters)
        for task in sending:
            task.cancel()
        await asyncio.gather(*(session.close() for session in sessions))


def _print(counters: Counters) -> None:
    now = {"at": time.monotonic(), "cpu": time.process_time()}
    print(json.dumps({**now, **vars(counters)}), flush=True)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
