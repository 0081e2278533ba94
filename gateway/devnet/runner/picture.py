"""Pictures: decodes H.264, applies an effect, encodes again, without delay. Blocking code."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from gateway.media.frames import TICKS_PER_SECOND

TICK = Fraction(1, TICKS_PER_SECOND)
LONGEST_KEY_INTERVAL = 2 * TICKS_PER_SECOND
"""Ticks after which a key frame is made even where the input has none."""
NOMINAL_FPS = 30
BITS_PER_PIXEL = 0.1
LOWEST_BIT_RATE = 200_000
HIGHEST_BIT_RATE = 8_000_000

FILTERS = {
    "negative": ("negate", ""),
    "mirror": ("hflip", ""),
    "grey": ("lutyuv", "u=128:v=128"),
    "blur": ("avgblur", ""),
}
"""Effects as libavfilter's filters. Exact on yuv420p: negate is 255 - x in all planes."""
BLUR_RADIUS = 9
"""Pixels around each that it is the mean of."""


class Decoder:
    """Decodes H.264 access units, without delay for streams without B-frames."""

    def __init__(self) -> None:
        self._codec = self._new()

    def decode(self, packet: av.Packet[Any]) -> Iterator[av.VideoFrame]:
        """Pictures with `pts` in 90 kHz ticks. Raises av.FFmpegError."""
        for frame in self._codec.decode(packet):
            if frame.pts is not None:
                frame.time_base = TICK
                yield frame

    def reset(self) -> None:
        """Forget all pictures, before a jump in the stream."""
        self._codec = self._new()

    def _new(self) -> VideoCodecContext:
        codec = av.CodecContext.create("h264", "r")
        assert isinstance(codec, VideoCodecContext)
        codec.thread_count = 1
        codec.flags |= Flags.low_delay
        return codec


class Effect:
    """Applies an effect; rebuilds its filter graph when effect or format change."""

    def __init__(self) -> None:
        self.blur_radius = BLUR_RADIUS
        self._made_for: tuple[str, int, int, int, str] | None = None
        self._graph: av.filter.Graph | None = None

    def apply(self, frame: av.VideoFrame, effect: str) -> av.VideoFrame:
        """The changed picture, as yuv420p with even sides and the same pts."""
        wanted = (effect, self.blur_radius, frame.width, frame.height, frame.format.name)
        if wanted != self._made_for:
            self._graph = self._build(frame, effect)
            self._made_for = wanted
        assert self._graph is not None
        self._graph.vpush(frame)
        changed = self._graph.vpull()
        assert isinstance(changed, av.VideoFrame)
        changed.pts = frame.pts
        changed.time_base = TICK
        return changed

    def _build(self, frame: av.VideoFrame, effect: str) -> av.filter.Graph:
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, name="in", time_base=TICK
            ),
            graph.add("format", "pix_fmts=yuv420p"),
        ]
        if frame.width % 2 or frame.height % 2:
            nodes.append(graph.add("crop", f"{frame.width & ~1}:{frame.height & ~1}:0:0"))
        if effect in FILTERS:
            name, options = FILTERS[effect]
            nodes.append(
                graph.add(name, options or (f"sizeX={self.blur_radius}" if effect == "blur" else ""))
            )
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph


class Encoder:
    """Encodes pictures of one size as H.264, without delay, with SPS and PPS before each key frame."""

    def __init__(self, width: int, height: int, bit_rate: int | None) -> None:
        self.size = (width, height)
        self._last_key: int | None = None
        self._last_pts: int | None = None
        codec = av.CodecContext.create("libx264", "w")
        assert isinstance(codec, VideoCodecContext)
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base, codec.framerate = TICK, Fraction(NOMINAL_FPS)
        codec.thread_count = 1
        codec.bit_rate = _bounded(bit_rate or int(width * height * NOMINAL_FPS * BITS_PER_PIXEL))
        codec.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "forced-idr": "1",
            # x264 accepts a later change of bit rate only if it had a buffer model from the start
            "maxrate": str(HIGHEST_BIT_RATE),
            "bufsize": str(HIGHEST_BIT_RATE),
            "x264-params": "scenecut=0:keyint=infinite:repeat-headers=1",
        }
        self._codec = codec

    def takes(self, frame: av.VideoFrame) -> bool:
        """Whether the picture continues what was encoded: same size, later in time."""
        later = self._last_pts is None or (frame.pts is not None and frame.pts > self._last_pts)
        return later and (frame.width, frame.height) == self.size

    def set_bit_rate(self, bit_rate: int) -> None:
        """Set the target bit rate in bits a second."""
        self._codec.bit_rate = _bounded(bit_rate)

    def encode(self, frame: av.VideoFrame, *, key: bool) -> list[av.Packet[Any]]:
        """Encode a picture that this encoder `takes`; as a key frame where `key` or its own interval says."""
        assert frame.pts is not None
        key = key or self._last_key is None or frame.pts - self._last_key >= LONGEST_KEY_INTERVAL
        frame.pict_type = PictureType.I if key else PictureType.NONE
        if key:
            self._last_key = frame.pts
        self._last_pts = frame.pts
        return self._codec.encode(frame)


def _bounded(bit_rate: int) -> int:
    return min(max(bit_rate, LOWEST_BIT_RATE), HIGHEST_BIT_RATE)
