"""Fan-out of one output stream, packetised once, to all its viewers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame, OpusPacket
from gateway.media.gop import MAX_GOP_BYTES, MAX_GOP_ENTRIES, GopBuffer, HeldGop
from gateway.media.h264 import ParameterSets
from gateway.media.opus import SAMPLE_RATE
from gateway.media.rate import RateMeter
from gateway.media.rtp_h264 import packetize as packetize_h264
from gateway.media.rtp_h264 import unpacketize
from gateway.media.timeline import Timeline

__all__ = ["Fanout", "FrameTap", "GopBuffer", "ViewerSink"]


class ViewerSink(Protocol):
    """A viewer, as the fan-out sees it. Calls must not block; a viewer whose call raises is removed."""

    def send_video(self, payloads: Sequence[bytes], timestamp: int, key: bool) -> None:
        """The RTP payloads of one picture (marker on the last); times are 90 kHz ticks that never wrap."""

    def send_audio(self, payload: bytes, timestamp: int) -> None:
        """One Opus packet; times are 48 kHz ticks that never wrap."""

    def congested(self) -> bool:
        """Whether it cannot take more now. It then gets nothing until the next key frame."""


class FrameTap(Protocol):
    """Takes the output's frames before they are packetised. Calls must neither block nor raise."""

    def on_frame(self, frame: Frame) -> None:
        """A frame on the output's time line; a key frame has its parameter sets."""

    def on_clear(self) -> None:
        """The stream ended."""


@dataclass(slots=True)
class _Viewer:
    sink: ViewerSink
    waits_for_key: bool = True
    new: bool = True
    """Nothing was sent yet."""


@dataclass(frozen=True, slots=True)
class _Video:
    payloads: list[bytes]
    timestamp: int
    dts: int
    key: bool


@dataclass(frozen=True, slots=True)
class _Audio:
    payload: bytes
    timestamp: int
    pts: int


class Fanout:
    """The output of one stream name. It and its viewers outlive jobs and publishers.

    A picture is packetised once, whatever the number of viewers. The current group of pictures is
    held packetised: a new viewer gets it at once, then the live frames. Times never go back, also when the
    source changes (`new_source`). A congested viewer is skipped to the next key frame that it can take.
    `on_key_frame_needed` is called with each picture that a new viewer cannot be shown without a key frame.
    """

    def __init__(
        self,
        *,
        packetize: Callable[[Sequence[bytes]], list[bytes]] = packetize_h264,
        clock: Callable[[], float] = time.monotonic,
        log: Any = None,
        on_key_frame_needed: Callable[[], None] = lambda: None,
        max_gop_bytes: int = MAX_GOP_BYTES,
        max_gop_entries: int = MAX_GOP_ENTRIES,
    ) -> None:
        self.frames = 0
        """Pictures that came in."""
        self.frames_before_key = 0
        """Pictures left out because none could be decoded before a key frame."""
        self.frames_skipped = 0
        """Pictures not sent to a congested viewer, summed over viewers."""
        self.viewers_failed = 0
        """Viewers removed because they raised."""
        self.taps: list[FrameTap] = []
        """These take all frames from now on; `held_frames` are those before."""
        self._packetize = packetize
        self._on_key_frame_needed = on_key_frame_needed
        self._log = log if log is not None else structlog.get_logger("fanout")
        self._timeline = Timeline(clock=clock)
        self._parameter_sets = ParameterSets()
        self._gop: HeldGop[_Video | _Audio] = HeldGop(max_bytes=max_gop_bytes, max_entries=max_gop_entries)
        self._rate = RateMeter(clock=clock)
        self._audio_rate = RateMeter(clock=clock)
        self._viewers: dict[int, _Viewer] = {}
        self._waits_for_key = True

    def __len__(self) -> int:
        return len(self._viewers)

    @property
    def fps(self) -> float:
        """Pictures per second that came in recently."""
        return self._rate.per_second

    @property
    def bitrate_bps(self) -> int:
        """Bits of video per second that came in recently."""
        return self._rate.bits_per_second

    @property
    def has_audio(self) -> bool:
        """Whether sound came in of late."""
        return self._audio_rate.per_second > 0

    @property
    def held_bytes(self) -> int:
        """Bytes held for new viewers."""
        return self._gop.size

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the pictures in pixels, None before the first key frame."""
        sps = self._parameter_sets.sps
        return sps.size if sps is not None else None

    @property
    def profile(self) -> str:
        """The profile of the pictures: the first two bytes of a profile-level-id in hex; empty if unknown."""
        sps = self._parameter_sets.sps
        return sps.profile_level_id[:4] if sps is not None else ""

    def new_source(self, made: Sequence[Frame] = ()) -> None:
        """The next frames are from another job: other times, other parameter sets.

        The held group stays for those who join before the new source's first key frame. `made` is what the
        job has made since its last key frame: it goes out at once, the newest of it in the present's place.
        """
        times = [frame.dts for frame in made if isinstance(frame, AccessUnit)]
        self._timeline.new_source(behind=times[-1] - times[0] if times else 0)
        self._parameter_sets = ParameterSets()
        self._waits_for_key = True
        for frame in made:
            self.push(frame)

    def clear(self) -> None:
        """The stream ended: drop the held pictures, which later viewers are not to see."""
        self.new_source()
        self._gop.clear()
        for tap in tuple(self.taps):
            tap.on_clear()

    def held_frames(self) -> list[Frame]:
        """The held pictures and sound, key frame first, as they were before they were packetised."""
        return [_unpacked(held) for held in self._gop.entries()]

    def add(self, viewer: ViewerSink) -> bool:
        """Send `viewer` the held pictures, then all further frames. Idempotent.

        False where it has to wait for a key frame.
        """
        if id(viewer) in self._viewers:
            return True
        entry = _Viewer(viewer)
        self._viewers[id(viewer)] = entry
        for held in self._gop.entries():
            if isinstance(held, _Video):
                entry.waits_for_key = entry.new = False
            if not self._deliver(entry, held):
                break
        return not entry.waits_for_key

    def remove(self, viewer: ViewerSink) -> None:
        """Send nothing more to `viewer`; no error where it is not there."""
        self._viewers.pop(id(viewer), None)

    def push(self, frame: Frame) -> None:
        """Send `frame` to all viewers; never blocks and never raises for one of them."""
        if isinstance(frame, AccessUnit):
            self._push_video(frame)
        else:
            self._push_audio(frame)

    def _push_video(self, unit: AccessUnit) -> None:
        self.frames += 1
        self._parameter_sets.observe(unit.nals)
        if unit.key and self._parameter_sets.complete:
            self._waits_for_key = False
        if self._waits_for_key:
            self.frames_before_key += 1
            return
        unit = self._timeline.video(unit)
        nals = self._parameter_sets.ahead_of(unit.nals) if unit.key else unit.nals
        for tap in tuple(self.taps):
            tap.on_frame(AccessUnit(nals, unit.pts, unit.dts, unit.key))
        video = _Video(self._packetize(nals), unit.pts, unit.dts, unit.key)
        size = sum(map(len, video.payloads))
        self._rate.add(size)
        if unit.key:
            self._gop.begin(video, size)
        else:
            self._gop.add(video, size)
        for viewer in tuple(self._viewers.values()):
            self._send_video(viewer, video)

    def _push_audio(self, packet: OpusPacket) -> None:
        placed = None if self._waits_for_key else self._timeline.audio(packet)
        if placed is None:
            return
        for tap in tuple(self.taps):
            tap.on_frame(placed)
        timestamp = placed.pts * SAMPLE_RATE // TICKS_PER_SECOND
        audio = _Audio(placed.data, timestamp, placed.pts)
        self._audio_rate.add(len(placed.data))
        self._gop.add(audio, len(placed.data))
        for viewer in tuple(self._viewers.values()):
            self._deliver(viewer, audio)

    def _send_video(self, viewer: _Viewer, video: _Video) -> None:
        try:
            congested = viewer.sink.congested()
        except Exception:
            self._fail(viewer)
            return
        if congested:
            viewer.waits_for_key = True
        elif video.key:
            viewer.waits_for_key = viewer.new = False
        if viewer.waits_for_key:
            self.frames_skipped += 1
            if viewer.new:
                self._on_key_frame_needed()
        else:
            self._deliver(viewer, video)

    def _deliver(self, viewer: _Viewer, entry: _Video | _Audio) -> bool:
        try:
            if isinstance(entry, _Video):
                viewer.sink.send_video(entry.payloads, entry.timestamp, entry.key)
            else:
                viewer.sink.send_audio(entry.payload, entry.timestamp)
        except Exception:
            self._fail(viewer)
            return False
        return True

    def _fail(self, viewer: _Viewer) -> None:
        if self._viewers.pop(id(viewer.sink), None) is not None:
            self.viewers_failed += 1
            self._log.warning("viewer removed", exc_info=True)


def _unpacked(held: _Video | _Audio) -> Frame:
    if isinstance(held, _Audio):
        return OpusPacket(held.payload, held.pts)
    return AccessUnit(unpacketize(held.payloads), held.timestamp, held.dts, held.key)
