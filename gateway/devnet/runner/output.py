"""The runner's output: MPEG-TS segments that begin with a key frame; frames are passed on at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream

from gateway.devnet.runner.picture import TICK
from gateway.media.frames import TICKS_PER_SECOND

SHORTEST_SEGMENT = 1
"""Seconds between the starts of two segments at least, by time stamps and by the clock."""

MUXER_OPTIONS = {
    "mpegts_copyts": "1",
    "avoid_negative_ts": "disabled",
    "flush_packets": "1",
    # a sound stream without packets must not delay the pictures
    "max_interleave_delta": "1",
    "mpegts_flags": "+initial_discontinuity",
}


class SegmentSink(Protocol):
    """Takes the segments. Called from the thread that makes them; never waits."""

    def open_segment(self) -> None:
        """End the former segment and begin the next."""

    def write(self, data: bytes) -> None: ...

    def close_segment(self) -> None: ...


class _File:
    """The file that PyAV's muxer writes to."""

    def __init__(self, sink: SegmentSink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(bytes(data))
        return len(data)


class SegmentMuxer:
    """Makes segments of packets. Blocking code, but nothing in it waits."""

    def __init__(self, sink: SegmentSink, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.segments = 0
        self._sink = sink
        self._clock = clock
        self._container: OutputContainer | None = None
        self._video: Stream | None = None
        self._audio: Stream | None = None
        self._began: tuple[int, float] | None = None
        """Start of the newest segment: its first pts in ticks, and the clock in seconds."""

    def video(self, packet: av.Packet[Any], size: tuple[int, int], sound: AudioStream | None) -> None:
        """Write one encoded picture; `sound` is the input's sound stream, if any."""
        if packet.is_keyframe and self._is_due(packet):
            self._open(packet, size, sound)
        if self._container is not None:
            packet.stream = self._video
            self._container.mux(packet)

    def audio(self, packet: av.Packet[Any]) -> None:
        """Write one sound packet into the open segment, if that has sound."""
        if self._container is not None and self._audio is not None:
            packet.stream = self._audio
            self._container.mux(packet)

    def close(self) -> None:
        """End the open segment."""
        container, self._container = self._container, None
        self._video = self._audio = None
        if container is not None:
            container.close()
            self._sink.close_segment()

    def _is_due(self, packet: av.Packet[Any]) -> bool:
        if self._container is None or self._began is None:
            return True
        pts, wall = self._began
        assert packet.pts is not None
        if packet.pts < pts:
            return True  # the time stamps start anew
        return (
            packet.pts - pts >= SHORTEST_SEGMENT * TICKS_PER_SECOND
            and self._clock() - wall >= SHORTEST_SEGMENT
        )

    def _open(self, packet: av.Packet[Any], size: tuple[int, int], sound: AudioStream | None) -> None:
        self.close()
        assert packet.pts is not None
        self._began = (packet.pts, self._clock())
        self.segments += 1
        self._sink.open_segment()
        container = av.open(_File(self._sink), "w", format="mpegts", options=MUXER_OPTIONS)
        self._container = container
        self._video = container.add_mux_stream("h264", width=size[0], height=size[1], time_base=TICK)
        self._audio = None if sound is None else container.add_stream_from_template(sound)
