"""One WebRTC connection of the server, by aiortc: decodes, changes and encodes the pictures."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aioice.ice
import av
import structlog
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import h264
from typing_extensions import override

from gateway.aio import tasks
from gateway.devnet.comfystream import control
from gateway.devnet.comfystream.pipeline import Pipeline
from gateway.devnet.runner.picture import Effect

log = structlog.get_logger("devnet.comfystream")

BIT_RATE = 2_000_000
"""Bits a second that ComfyStream sets its encoder to after the first estimate."""
TEXT_EVERY = 0.25

# The devnet runs on this machine only, and aioice leaves loopback out.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
h264.MAX_BITRATE = h264.MIN_BITRATE = BIT_RATE


class ChangedTrack(MediaStreamTrack):
    """A track's pictures changed by the pipeline; none while its prompts are paused."""

    kind = "video"

    def __init__(self, source: MediaStreamTrack, pipeline: Pipeline) -> None:
        super().__init__()
        self.pictures = 0
        self._source = source
        self._pipeline = pipeline
        self._effect = Effect()

    @override
    async def recv(self) -> av.VideoFrame:
        frame = await self._source.recv()
        if not self._pipeline.running:
            frame = await self._first_after_pause(frame)
        assert isinstance(frame, av.VideoFrame)
        pts, time_base = frame.pts, frame.time_base
        changed = await asyncio.to_thread(self._effect.apply, frame, self._pipeline.effect)
        changed.pts, changed.time_base = pts, time_base
        self.pictures += 1
        return changed

    async def _first_after_pause(self, frame: Any) -> Any:
        going_on = tasks.spawn(self._pipeline.wait_running(), name="pipeline wait")
        try:
            while not going_on.done():
                frame = await self._source.recv()
        finally:
            await tasks.cancel(going_on)
        return frame


class ClientConnection:
    """One peer: after `answer` it lives until either side closes it."""

    def __init__(self, pipeline: Pipeline, *, has_prompts: bool) -> None:
        self.closed = asyncio.Event()
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._pipeline = pipeline
        self._has_prompts = has_prompts
        self._text: asyncio.Task[None] | None = None
        self.peer.on("track", self._on_track)
        self.peer.on("datachannel", self._on_channel)
        self.peer.on("connectionstatechange", self._on_state)

    async def answer(self, offer: RTCSessionDescription) -> RTCSessionDescription:
        """The answer with all candidates. Raises ValueError for an invalid SDP."""
        for kind, codec in (("video", "video/H264"), ("audio", "audio/opus")):
            if f"m={kind}" in offer.sdp:
                transceiver = self.peer.addTransceiver(kind, direction="sendrecv")
                known = RTCRtpSender.getCapabilities(kind).codecs
                # as ComfyStream does: without rtx, lost packets are sent again unchanged
                transceiver.setCodecPreferences([one for one in known if one.mimeType == codec])
        await self.peer.setRemoteDescription(offer)
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        return self.peer.localDescription

    async def close(self) -> None:
        """Close it. That ends its prompts for every connection, as in ComfyStream."""
        if self.closed.is_set():
            return
        self.closed.set()
        await tasks.cancel(self._text)
        await self.peer.close()
        if self._has_prompts:
            self._pipeline.stop(cleanup=True)

    def _on_track(self, track: MediaStreamTrack) -> None:
        changed = track.kind == "video" and self._has_prompts
        self.peer.addTrack(ChangedTrack(track, self._pipeline) if changed else track)

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label == "control":

            def on_message(message: str | bytes) -> None:
                reply = control.answer(message, self._pipeline, has_prompts=self._has_prompts)
                if reply is not None:
                    channel.send(reply)

            channel.on("message", on_message)
        elif channel.label == "data" and self._has_prompts:
            self._text = tasks.spawn(self._send_text(channel), name="text output")

    async def _send_text(self, channel: RTCDataChannel) -> None:
        while channel.readyState == "open":
            if self._pipeline.running:
                for text in self._pipeline.texts:
                    channel.send(json.dumps({"type": "text", "data": text}))
            await asyncio.sleep(TEXT_EVERY)

    async def _on_state(self) -> None:
        log.info("connection", state=self.peer.connectionState)
        if self.peer.connectionState in ("failed", "closed"):
            await self.close()
