"""Cuts a live stream into MPEG-TS segments, each playable alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from gateway.media.decode_order import DecodeOrder
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame, OpusPacket
from gateway.media.h264 import ParameterSets
from gateway.media.timeline import Timeline
from gateway.media.ts_muxer import TsMuxer

MAX_BYTES = 9_500_000
"""Bytes of one segment: a node of live runners closes a channel at the 10,000,000th."""


class Segment(Protocol):
    """Where the bytes of one segment go."""

    def write(self, data: bytes) -> bool:
        """Take bytes without blocking; False where they were dropped."""

    def close(self) -> None:
        """The segment is complete."""


class Segmenter:
    """Frames in, MPEG-TS bytes out, in segments made by `open_segment`.

    A segment starts with PAT, PMT and a key frame with its parameter sets. It is at least
    `min_duration` seconds long by the media's clock and by the wall clock, except that a key frame
    of another size always starts one. Each frame is written at once, in one piece. A segment that would be
    over `max_bytes` ends before that, and frames are dropped until the next key frame.

    `audio` declares sound for the first segment; a later one declares it where some came since the
    segment before began. A reader waits for a stream that is declared and silent.

    `after` is a time that another segmenter has come to now, whose output this one goes on with.

    `sprop` holds parameter sets from the SDP, for encoders that do not repeat them in band.
    """

    def __init__(
        self,
        open_segment: Callable[[], Segment],
        *,
        min_duration: float = 1.0,
        max_bytes: int = MAX_BYTES,
        audio: bool = False,
        after: int | None = None,
        sprop: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.segments = 0
        self.frames = 0
        self.frames_before_key = 0
        """Frames dropped because no decoder could start with them."""
        self.frames_dropped = 0
        """Frames that their segment did not take."""
        self._open_segment = open_segment
        self._min_duration = min_duration
        self._max_bytes = max_bytes
        self._clock = clock
        self._parameter_sets = ParameterSets(sprop)
        self._order = DecodeOrder()
        self._timeline = Timeline(after=after, clock=clock)
        self._muxer = TsMuxer()
        self._segment: Segment | None = None
        self._bytes = 0
        self._was_full = False
        self._began_at = 0.0
        self._began_dts = self._newest_dts = 0
        self._audio_declared = False
        self._audio_came = audio
        self._closed = False

    @property
    def newest(self) -> int | None:
        """The output time of the newest picture, in ticks; None before the first."""
        return self._timeline.newest

    @property
    def reordered(self) -> bool:
        """Whether the stream was seen to have B-frames."""
        return self._order.reordered

    @property
    def age(self) -> float:
        """Seconds of media in the segment; 0 while it is too young, by the wall clock, to be ended.

        After one that was full they are those since it began, until a key frame comes.
        """
        if self._was_full:
            return self._clock() - self._began_at
        if self._segment is None or self._clock() - self._began_at < self._min_duration:
            return 0.0
        return (self._newest_dts - self._began_dts) / TICKS_PER_SECOND

    def push(self, frame: Frame) -> None:
        """Write `frame`, to a new segment where it may start one; never blocks."""
        if self._closed:
            return
        if isinstance(frame, AccessUnit):
            self._push_video(frame)
        else:
            self._push_audio(frame)

    def new_source(self) -> None:
        """End the segment. What comes from now on is another encoder's: other times, other parameter sets."""
        self._end_segment()
        self._was_full = False
        self._audio_came = False
        self._parameter_sets = ParameterSets()
        self._order = DecodeOrder()
        self._timeline.new_source()

    def close(self) -> None:
        """End the last segment; frames pushed later are ignored."""
        self._closed = True
        self._end_segment()

    def _end_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _push_video(self, unit: AccessUnit) -> None:
        resized = self._parameter_sets.observe(unit.nals)
        if self._segment is None and not (unit.key and self._parameter_sets.complete):
            self.frames_before_key += 1
            if self._was_full:
                # else the next key frame would get a time from before the gap
                self._order.dts(unit, self._parameter_sets.sps)
            return
        dts = self._order.dts(unit, self._parameter_sets.sps)
        unit = self._timeline.video(AccessUnit(unit.nals, unit.pts, dts, unit.key))
        self._newest_dts = unit.dts
        if unit.key and (resized or self._long_enough(unit)):
            self._begin(unit)
        else:
            self._write(self._muxer.video(unit))

    def _push_audio(self, packet: OpusPacket) -> None:
        self._audio_came = True
        if self._segment is None:
            self.frames_before_key += 1
            return
        placed = self._timeline.audio(packet) if self._audio_declared else None
        if placed is None:
            self.frames_dropped += 1
        else:
            self._write(self._muxer.audio(placed))

    def _long_enough(self, unit: AccessUnit) -> bool:
        if self._segment is None:
            return True
        media = (unit.dts - self._began_dts) / TICKS_PER_SECOND
        return media >= self._min_duration and self._clock() - self._began_at >= self._min_duration

    def _begin(self, unit: AccessUnit) -> None:
        if self._segment is not None:
            self._segment.close()
        self._segment = self._open_segment()
        self._bytes, self._was_full = 0, False
        self.segments += 1
        self._began_at = self._clock()
        self._began_dts = unit.dts
        self._audio_declared, self._audio_came = self._audio_came, False
        unit = AccessUnit(self._parameter_sets.ahead_of(unit.nals), unit.pts, unit.dts, True)
        self._write(self._muxer.tables(audio=self._audio_declared) + self._muxer.video(unit))

    def _write(self, data: bytes) -> None:
        self.frames += 1
        if self._segment is None:
            return
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            self._end_segment()
            self._was_full = True
            self.frames_dropped += 1
        elif not self._segment.write(data):
            self.frames_dropped += 1
