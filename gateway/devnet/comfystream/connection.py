"""One WebRTC connection of the server, by aiortc: decodes, changes and encodes the pictures."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
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
from aiortc.mediastreams import MediaStreamError
from typing_extensions import override

from gateway.aio import tasks
from gateway.devnet.comfystream import control, encoder
from gateway.devnet.comfystream.pipeline import Pipeline
from gateway.devnet.runner.picture import Effect

log = structlog.get_logger("devnet.comfystream")

TEXT_EVERY = 0.25

# The devnet runs on this machine only, and aioice leaves loopback out.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
encoder.use_in_aiortc()


class ChangedTrack(MediaStreamTrack):
    """A track's pictures changed by the pipeline; none while its prompts are paused.

    As in ComfyStream, each picture that is made has the time of the oldest one received that has none yet,
    and those received meanwhile are kept for that: `kept` grows while the prompts are paused or slow.
    """

    kind = "video"

    def __init__(self, source: MediaStreamTrack, pipeline: Pipeline) -> None:
        super().__init__()
        self.pictures = 0
        self._source = source
        self._pipeline = pipeline
        self._effect = Effect()
        self._times: deque[tuple[int | None, Any]] = deque()
        self._newest: asyncio.Queue[av.VideoFrame] = asyncio.Queue(1)
        self._receiving = tasks.spawn(self._receive(), name="comfystream pictures")

    @property
    def kept(self) -> int:
        """Pictures that were received and not yet made."""
        return len(self._times)

    @override
    async def recv(self) -> av.VideoFrame:
        await self._pipeline.wait_running()
        next_picture = tasks.spawn(self._newest.get(), name="comfystream next")
        await asyncio.wait([next_picture, self._receiving], return_when=asyncio.FIRST_COMPLETED)
        if not next_picture.done():
            await tasks.cancel(next_picture)
            raise MediaStreamError
        frame = next_picture.result()
        self._pipeline.run()
        changed = await asyncio.to_thread(self._effect.apply, frame, self._pipeline.effect)
        changed.pts, changed.time_base = self._times.popleft()
        self.pictures += 1
        return changed

    @override
    def stop(self) -> None:
        self._receiving.cancel()
        super().stop()

    async def _receive(self) -> None:
        with suppress(MediaStreamError):
            while True:
                frame = await self._source.recv()
                assert isinstance(frame, av.VideoFrame)
                self._times.append((frame.pts, frame.time_base))
                if self._newest.full():
                    self._newest.get_nowait()
                self._newest.put_nowait(frame)


class ClientConnection:
    """One peer: after `answer` it lives until either side closes it."""

    def __init__(self, pipeline: Pipeline, *, has_prompts: bool) -> None:
        self.closed = asyncio.Event()
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._pipeline = pipeline
        self._has_prompts = has_prompts
        self._text: asyncio.Task[None] | None = None
        self._changed: ChangedTrack | None = None
        self.peer.on("track", self._on_track)
        self.peer.on("datachannel", self._on_channel)
        self.peer.on("connectionstatechange", self._on_state)

    @property
    def kept(self) -> int:
        """Pictures that it keeps."""
        return self._changed.kept if self._changed is not None else 0

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
        if self._changed is not None:
            self._changed.stop()
        if self._has_prompts:
            self._pipeline.stop(cleanup=True)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "video" and self._has_prompts:
            self._changed = ChangedTrack(track, self._pipeline)
            self.peer.addTrack(self._changed)
        else:
            self.peer.addTrack(track)

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label == "control":

            def on_message(message: str | bytes) -> None:
                reply = control.answer(message, self._pipeline, has_prompts=self._has_prompts)
                if reply is not None:
                    channel.send(reply)

            channel.on("message", on_message)
        elif channel.label == "data" and self._has_prompts and self._pipeline.texts:
            # as in ComfyStream: who has no texts now gets none later
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
