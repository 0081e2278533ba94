"""The thread of one job: reads each input segment as a file and makes the output from it.

Every segment gets a new FFmpeg demultiplexer, so a segment that is damaged or depends on earlier ones is
noticed and does not affect others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import structlog
from av.audio.stream import AudioStream
from structlog.typing import FilteringBoundLogger

from gateway.devnet.runner.feed import Feed, FeedSegment
from gateway.devnet.runner.nal_hashes import NalHashes
from gateway.devnet.runner.output import SegmentMuxer, SegmentSink
from gateway.devnet.runner.picture import Decoder, Effect, Encoder
from gateway.media.clock import Unwrapper
from gateway.media.frames import TICKS_PER_SECOND

DEMUXER_OPTIONS = {
    # take the streams from the first tables: every byte read ahead adds delay
    "probesize": "32",
    "analyzeduration": "1",
    "fpsprobesize": "0",
    # one PES packet is one access unit: do not wait for the next to begin
    "fflags": "+nofillin+noparse",
    "correct_ts_overflow": "0",
}
FIRST_PICTURES = 3 * TICKS_PER_SECOND
"""Ticks of a job's pictures that are all given, whatever the interval."""
PTS_BITS = 33
NO_EFFECT = "none"


@dataclass(slots=True)
class Counters:
    """Counts of a job; written by its thread, read by the loop."""

    segments_in: int = 0
    segments_damaged: int = 0
    frames_in: int = 0
    frames_out: int = 0
    frames_undecodable: int = 0
    audio_in: int = 0
    bytes_in: int = 0


class Transform:
    """Applies `effect` to the pictures from `feed` to `sink` until the feed ends; it may be set at any time.

    A change between two effects applies to the next picture. With `none`, segments are passed on without
    decoding: a change from it applies from the next segment's key frame, and after a change to it pictures
    pass unchanged until then.
    """

    def __init__(
        self, feed: Feed, sink: SegmentSink, *, effect: str, log: FilteringBoundLogger | None = None
    ) -> None:
        self.effect = effect
        self.picture_interval = 0.0
        """Seconds between two pictures at least, after the first ones: for orchestrators that drip."""
        self.paused = False
        """Whether it gives no pictures for now."""
        self.counters = Counters()
        self.received = NalHashes()
        self.last_error: str | None = None
        self._feed = feed
        self._sink = sink
        self._muxer = SegmentMuxer(sink)
        self._decoder = Decoder()
        self._filter = Effect()
        self._encoder: Encoder | None = None
        self._times = Unwrapper(PTS_BITS)
        self._bit_rate: int | None = None
        self._passed_on = 0
        self._first_pts: int | None = None
        self._given_pts = 0
        self._log = log or structlog.get_logger("devnet.runner")

    def set_blur_radius(self, radius: int) -> None:
        """Set the radius of the effect `blur` in pixels, from the next picture on."""
        self._filter.blur_radius = radius

    @property
    def segments_out(self) -> int:
        return self._muxer.segments + self._passed_on

    def start(self, ended: Callable[[], None], *, name: str) -> threading.Thread:
        """Run in a new thread; `ended` is called from there at the end, in every case."""

        def run() -> None:
            try:
                self.run()
            except Exception as error:
                self._failed("job thread failed", error)
            finally:
                ended()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        while (segment := self._feed.next_segment()) is not None:
            self.counters.segments_in += 1
            try:
                if self.effect == NO_EFFECT:
                    self._pass_on(segment)
                else:
                    self._change(segment)
            except (av.FFmpegError, ValueError) as error:
                segment.damaged = True
                self._failed("segment skipped", error)
            finally:
                segment.discard()
            self.counters.segments_damaged += segment.damaged
        self._muxer.close()

    def _pass_on(self, segment: FeedSegment) -> None:
        self._muxer.close()
        self._decoder.reset()
        self._encoder = None
        self._passed_on += 1
        self._sink.open_segment()
        source = _Tee(segment, self._sink)
        try:
            with _demuxer(source) as container:
                for packet in container.demux():
                    if self._record(packet) and packet.stream.type == "video":
                        self.counters.frames_out += 1
        finally:
            # pass on also what the demultiplexer could not read
            while source.read(1 << 16):
                pass
            self._sink.close_segment()

    def _change(self, segment: FeedSegment) -> None:
        video_bytes, first, last = 0, None, 0
        with _demuxer(segment) as container:
            sound = _opus(container)
            for packet in container.demux():
                if not self._record(packet):
                    continue
                if packet.stream.type == "video":
                    video_bytes += packet.size
                    first, last = first if first is not None else packet.pts, packet.pts or last
                    self._change_picture(packet, sound)
                elif sound is not None and packet.stream.index == sound.index:
                    self._muxer.audio(packet)
        if first is not None and last > first:
            self._bit_rate = video_bytes * 8 * TICKS_PER_SECOND // (last - first)
            if self._encoder is not None:
                self._encoder.set_bit_rate(self._bit_rate)

    def _record(self, packet: av.Packet[Any]) -> bool:
        """Count a received packet; False where it is not a frame."""
        if packet.size == 0 or packet.pts is None:
            return False
        self.counters.bytes_in += packet.size
        if packet.stream.type == "video":
            self.counters.frames_in += 1
            self.received.record(bytes(packet))
            # a new demultiplexer does not know of a wrap in an earlier segment
            packet.pts = self._times.unwrap(packet.pts & ((1 << PTS_BITS) - 1))
            packet.dts = None
            return True
        self.counters.audio_in += 1
        return True

    def _change_picture(self, packet: av.Packet[Any], sound: AudioStream | None) -> None:
        try:
            frames = list(self._decoder.decode(packet))
        except av.FFmpegError as error:
            self.counters.frames_undecodable += 1
            self.last_error = f"a picture cannot be decoded: {error}"
            return
        for frame in filter(self._is_due, frames):
            key = frame.key_frame
            changed = self._filter.apply(frame, self.effect)
            if self._encoder is None or not self._encoder.takes(changed):
                self._encoder = Encoder(changed.width, changed.height, self._bit_rate)
            for encoded in self._encoder.encode(changed, key=key):
                self._muxer.video(encoded, self._encoder.size, sound)
                self.counters.frames_out += 1

    def _is_due(self, frame: av.VideoFrame) -> bool:
        assert frame.pts is not None
        if self._first_pts is None:
            self._first_pts = frame.pts
        if self.paused:
            return False
        since = frame.pts - self._given_pts
        if frame.pts - self._first_pts > FIRST_PICTURES and since < self.picture_interval * TICKS_PER_SECOND:
            return False
        self._given_pts = frame.pts
        return True

    def _failed(self, event: str, error: Exception) -> None:
        self.last_error = f"{event}: {error}"
        self._log.warning(event, error=str(error))


class _Tee:
    """Writes to the sink what the demultiplexer reads."""

    def __init__(self, segment: FeedSegment, sink: SegmentSink) -> None:
        self._segment = segment
        self._sink = sink

    def read(self, size: int) -> bytes:
        data = self._segment.read(size)
        if data:
            self._sink.write(data)
        return data


def _demuxer(source: FeedSegment | _Tee) -> av.container.InputContainer:
    return av.open(source, "r", format="mpegts", options=DEMUXER_OPTIONS)


def _opus(container: av.container.InputContainer) -> AudioStream | None:
    for stream in container.streams.audio:
        if stream.codec_context.name == "opus":
            return stream
    return None
