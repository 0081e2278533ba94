"""One output timeline over all changes of its source."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.media import opus
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, OpusPacket

MAX_STEP_FORWARD = 10 * TICKS_PER_SECOND
"""A longer step in a source's decoding times is a jump of its clock, not a gap in its pictures."""

MAX_STEP_BACK = TICKS_PER_SECOND // 2
"""Limit of a step back that is smoothed; a longer one is a source that restarted."""

MAX_SKEW = 3 * TICKS_PER_SECOND
"""Sound further away from the picture than this belongs to another clock and is dropped."""

AUDIO_TOLERANCE = TICKS_PER_SECOND // 1_000
"""Ticks by which a packet of sound may begin before the end of the one before: 1 ms."""
SHORTEST_PACKET = TICKS_PER_SECOND // 400
"""Ticks that a packet of sound lasts at least, one that cannot be read too: 2.5 ms."""

MIN_JUMP = 3_000
MAX_JUMP = 10 * TICKS_PER_SECOND
"""Limits of the output's step over a change of source, which else is the time that passed."""


class Timeline:
    """Maps a source's times to output times that never go back.

    The first source's times are kept as they are. When a source starts over or another takes its
    place, the output goes on from where it was by the wall-clock time since the last picture,
    so that a viewer's playout clock sees no jump. Pictures lead: one offset, found by them, is used
    for the sound too, which keeps both together; a packet of sound whose place is taken is left out. `after`
    is a time that another output has come to now: this one goes on from there.
    """

    def __init__(self, *, after: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.jumps = 0
        """How often the source's clock was mapped anew."""
        self.audio_dropped = 0
        """Packets of sound left out."""
        self._clock = clock
        self._offset = 0
        self._source_dts: int | None = None
        self._video_out = after
        self._audio_end: int | None = None
        """Where the newest packet of sound ends."""
        self._picture_at = clock()
        self._behind = 0

    @property
    def newest(self) -> int | None:
        """The decoding time of the newest picture; None before the first."""
        return self._video_out

    def new_source(self, behind: int = 0) -> None:
        """What comes from now on has nothing to do with the times before.

        Its first picture is `behind` ticks older than the present one: those up to there follow each other
        at once, as viewers have had that time's pictures from another source. The very first source keeps
        its times all the same.
        """
        self._source_dts = None
        self._behind = max(0, behind)

    def video(self, unit: AccessUnit) -> AccessUnit:
        """The picture with output times; its DTS is above all before it."""
        now = self._clock()
        if not self._continues(unit.dts):
            self._offset = self._resume_at(unit.dts, now) - unit.dts
            self._behind = 0
        self._source_dts = unit.dts
        self._picture_at = now
        dts = unit.dts + self._offset
        if self._video_out is not None and dts <= self._video_out:
            dts = self._video_out + 1
        self._video_out = dts
        pts = max(unit.pts + self._offset, dts)
        if pts == unit.pts and dts == unit.dts:
            return unit
        return AccessUnit(unit.nals, pts, dts, unit.key)

    def audio(self, packet: OpusPacket) -> OpusPacket | None:
        """The packet with its output time; None before the first picture, too far from it, or with no place.

        From one packet to the next these times rise by the packet's length less AUDIO_TOLERANCE, or more.
        """
        pts = packet.pts + self._offset
        if (
            self._source_dts is None
            or abs(packet.pts - self._source_dts) > MAX_SKEW
            or (self._audio_end is not None and pts < self._audio_end - AUDIO_TOLERANCE)
        ):
            self.audio_dropped += 1
            return None
        self._audio_end = pts + max(opus.duration(packet.data), SHORTEST_PACKET)
        return OpusPacket(packet.data, pts) if self._offset else packet

    def _continues(self, dts: int) -> bool:
        last = self._source_dts
        return last is not None and -MAX_STEP_BACK <= dts - last <= MAX_STEP_FORWARD

    def _resume_at(self, dts: int, now: float) -> int:
        if self._video_out is None:
            return dts
        self.jumps += 1
        passed = int((now - self._picture_at) * TICKS_PER_SECOND)
        video = self._video_out + min(max(passed, MIN_JUMP), MAX_JUMP)
        present = video if self._audio_end is None else max(video, self._audio_end)
        return present - self._behind
