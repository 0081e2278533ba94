"""The publisher's own frames, for an output that wants the stream as it came in."""

from __future__ import annotations

from gateway.media.fanout import FrameTap
from gateway.media.frames import AccessUnit, Frame
from gateway.media.h264 import ParameterSets
from gateway.media.timeline import Timeline


class SourceTap:
    """Hands the publisher's frames on, with parameter sets in each key frame and times that never go back."""

    def __init__(self, tap: FrameTap) -> None:
        self._tap = tap
        self._parameter_sets = ParameterSets()
        self._timeline = Timeline()

    def on_frame(self, frame: Frame) -> None:
        if not isinstance(frame, AccessUnit):
            placed = self._timeline.audio(frame)
            if placed is not None:
                self._tap.on_frame(placed)
            return
        self._parameter_sets.observe(frame.nals)
        unit = self._timeline.video(frame)
        nals = unit.nals
        if unit.key:
            if not self._parameter_sets.complete:
                return
            nals = self._parameter_sets.ahead_of(nals)
        self._tap.on_frame(AccessUnit(nals, unit.pts, unit.dts, unit.key))

    def on_clear(self) -> None:
        """Another publisher comes: other times, other parameter sets."""
        self._timeline.new_source()
        self._parameter_sets = ParameterSets()
        self._tap.on_clear()
