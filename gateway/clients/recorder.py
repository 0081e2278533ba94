"""Writes what is watched to a file: pictures as H.264, sound as AAC, or as the file's ending asks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from gateway.clients.session import ClientFailed

STDOUT = "-"
RATE = 30
"""Pictures a second that the encoder is told; their own times count."""


class Recorder:
    """The file is begun with the first picture; sound from before it is left out. Raises ClientFailed."""

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            self._container: Any = (
                av.open("pipe:1", "w", format="mpegts") if name == STDOUT else av.open(name, "w")
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ClientFailed(f"{name} cannot be written: {error}") from error
        self._streams: dict[str, Any] = {}
        self._first: Fraction | None = None

    async def take(self, track: MediaStreamTrack) -> None:
        """Write a track until it ends."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame | av.AudioFrame):
                self._write(track.kind, frame)

    def close(self) -> None:
        """Write what the encoders hold, and the end of the file."""
        for stream in self._streams.values():
            self._container.mux(stream.encode(None))
        self._container.close()

    def _write(self, kind: str, frame: Any) -> None:
        if not self._streams:
            if kind != "video":
                return
            self._begin(frame)
        stream = self._streams[kind]
        if kind == "video":
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            frame.pict_type = av.video.frame.PictureType.NONE
        if kind == "video":
            at = frame.pts * frame.time_base
            self._first = at if self._first is None else self._first
            frame.pts = round((at - self._first) / frame.time_base)
        else:
            frame.pts = None  # sound goes on without gaps
        try:
            self._container.mux(stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise ClientFailed(f"{self._name} cannot be written on: {error}") from error

    def _begin(self, frame: Any) -> None:
        """All streams are added before the first is written: the header names them."""
        webm = "webm" in self._container.format.name
        video = self._container.add_stream("libvpx" if webm else "libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = frame.width & ~1, frame.height & ~1, "yuv420p"
        if not webm:
            video.options = {"preset": "veryfast", "tune": "zerolatency"}
        audio = self._container.add_stream("libopus" if webm else "aac", rate=48_000)
        self._streams = {"video": video, "audio": audio}
