"""A publisher and a viewer made of aiortc, which shares no media code with the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType

import aiohttp
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from gateway.clients import pattern
from gateway.clients.pattern import CLOCK as CLOCK
from gateway.clients.pattern import FPS as FPS
from gateway.clients.pattern import encoded_pattern as encoded_pattern
from harness.ice import prepare_clients
from harness.link import Link
from harness.waiting import DEADLINE, within

prepare_clients()


def vcl_hashes(access_unit: bytes) -> list[str]:
    """SHA-256 of each slice NAL unit in an Annex B access unit."""
    nals = [part.rstrip(b"\0") for part in access_unit.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]]
    return [hashlib.sha256(nal).hexdigest() for nal in nals if nal and 1 <= nal[0] & 31 <= 5]


def luma_of_halves(frame: av.VideoFrame) -> tuple[float, float]:
    """Mean luma of a picture's left and right half, 0 to 255."""
    luma = frame.to_ndarray(format="gray")
    middle = luma.shape[1] // 2
    return float(luma[:, :middle].mean()), float(luma[:, middle:].mean())


def longest_gap(times: Iterable[float]) -> float:
    """Seconds between two moments that follow each other, at most; 0 where there are no two."""
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


class PatternTrack(pattern.PatternTrack):
    """Counts and remembers what it sends, and can be paused."""

    def __init__(self, units: list[bytes]) -> None:
        super().__init__(units)
        self.paused = asyncio.Event()
        self.sent = 0
        self.hashes: list[str] = []

    async def recv(self) -> av.Packet:
        if self.paused.is_set() and self.readyState == "live":
            await asyncio.get_running_loop().create_future()
        packet = await super().recv()
        self.hashes += vcl_hashes(bytes(packet))
        self.sent += 1
        return packet


@dataclass
class Refused(Exception):
    """The gateway did not answer 201."""

    status: int
    problem: dict[str, object]
    headers: dict[str, str] = field(default_factory=dict)


class WhipPublisher:
    """Publishes the pattern: `async with WhipPublisher(http, url)`, over `link` where one is given.

    Who is `patient` waits where the gateway is overloaded, as viewers do.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        units: list[bytes] | None = None,
        track: PatternTrack | None = None,
        audio: bool = False,
        link: Link | None = None,
        patient: bool = True,
    ) -> None:
        self._link = link
        self._patient = patient
        self._http = http
        self._url = url
        self.track = track or PatternTrack(units or encoded_pattern())
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = self.peer.addTransceiver(self.track, direction="sendonly")
        capabilities = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences(
            [c for c in capabilities if c.mimeType in ("video/H264", "video/rtx")]
        )
        if audio:
            from aiortc.mediastreams import AudioStreamTrack

            self.peer.addTransceiver(AudioStreamTrack(), direction="sendonly")
        self.location = ""
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> WhipPublisher:
        try:
            await self.peer.setLocalDescription(await self.peer.createOffer())
            offer = self.peer.localDescription.sdp
            if self._link is not None:
                offer = self._link.offer(offer)
            self.headers, answer = await _exchange(self._http, self._url, offer, patient=self._patient)
            self.location = self.headers["Location"]
            if self._link is not None:
                answer = await self._link.answer(answer)
            await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except BaseException:
            await _close(self.peer)
            raise
        return self

    async def stop(self, *, resume: bool = True) -> None:
        """As OBS does: DELETE on the Location. Without `resume` as the page's Stop does."""
        url = aiohttp.client.URL(self._url).join(aiohttp.client.URL(self.location))
        async with self._http.delete(url, params={} if resume else {"resume": "false"}) as response:
            assert response.status == 200

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.track.stop()
        try:
            await _close(self.peer)
        finally:
            if self._link is not None:
                self._link.close()


class WhepViewer:
    """Watches and decodes; keeps what the newest frames look like."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, audio: bool = False) -> None:
        self._http = http
        self._url = url
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peer.addTransceiver("video", direction="recvonly")
        if audio:
            self.peer.addTransceiver("audio", direction="recvonly")
        self.frames = 0
        self.sound = 0
        self.times: deque[float] = deque(maxlen=10_000)
        self.pts: deque[int] = deque(maxlen=10_000)
        self.negatives: deque[float] = deque(maxlen=10_000)
        """When a frame came that shows the negative."""
        self.originals: deque[float] = deque(maxlen=10_000)
        """When a frame came whose bright half is the published one's: as it was, or in grey."""
        self.halves: tuple[float, float] = (0.0, 0.0)
        """Mean luma of the newest frame's left and right half, 0 to 255."""
        self.size = (0, 0)
        self._tasks: list[asyncio.Task[None]] = []
        self.location = ""
        self.headers: dict[str, str] = {}

    @property
    def shows_negative(self) -> bool:
        """The pattern is bright on its left: in its negative the right is the bright one."""
        left, right = self.halves
        return self.frames > 0 and right - left > 60

    @property
    def shows_original(self) -> bool:
        left, right = self.halves
        return self.frames > 0 and left - right > 60

    async def __aenter__(self) -> WhepViewer:
        @self.peer.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            watch = self._watch(track) if track.kind == "video" else self._listen(track)
            self._tasks.append(asyncio.get_running_loop().create_task(watch))

        try:
            await self.peer.setLocalDescription(await self.peer.createOffer())
            self.headers, answer = await _exchange(self._http, self._url, self.peer.localDescription.sdp)
            self.location = self.headers["Location"]
            await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except BaseException:
            await _close(self.peer)
            raise
        return self

    async def _watch(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.VideoFrame)
            self.halves = luma_of_halves(frame)
            self.size = (frame.width, frame.height)
            self.frames += 1
            self.times.append(time.monotonic())
            self.pts.append(frame.pts)
            if self.shows_negative:
                self.negatives.append(self.times[-1])
            elif self.shows_original:
                self.originals.append(self.times[-1])

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                await track.recv()
            except MediaStreamError:
                return
            self.sound += 1

    async def stop(self) -> None:
        url = aiohttp.client.URL(self._url).join(aiohttp.client.URL(self.location))
        async with self._http.delete(url) as response:
            assert response.status == 200

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await _close(self.peer)
        await within(asyncio.gather(*self._tasks, return_exceptions=True), what="the viewer's tasks")


async def _close(peer: RTCPeerConnection) -> None:
    await within(peer.close(), what="aiortc to close a connection")


async def _exchange(
    http: aiohttp.ClientSession, url: str, offer: str, *, patient: bool = True
) -> tuple[dict[str, str], str]:
    """POST an offer. Who is `patient` asks a gateway that is overloaded again when that says so."""
    until = time.monotonic() + DEADLINE
    while True:
        async with http.post(url, data=offer, headers={"Content-Type": "application/sdp"}) as response:
            headers = dict(response.headers)
            if response.status == 201:
                return headers, await response.text()
            refused = Refused(response.status, await response.json(content_type=None), headers)
        if not patient or refused.problem.get("code") != "overloaded" or time.monotonic() > until:
            raise refused
        await asyncio.sleep(int(headers["Retry-After"]))
