"""Files and streams as tracks: FFmpeg reads them in a thread, at the pace of their times.

H.264 without B-frames goes on as it is; any other picture is encoded anew. Sound is decoded, and sent as
Opus.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.audio.resampler import AudioResampler
from av.bitstream import BitStreamFilterContext
from typing_extensions import override

from gateway.clients.session import ClientFailed

AHEAD = 60
"""Pictures or pieces of sound that are read ahead, each."""
CLOCK = Fraction(1, 90_000)
OPENING = 10.0
"""Seconds for FFmpeg to open a source, and for each read."""
ENCODER = {
    "preset": "veryfast",
    "tune": "zerolatency",
    "profile": "baseline",
    "x264-params": "keyint=60:scenecut=0:repeat-headers=1",
}

Item = Any  # an av.Packet of H.264 in Annex B, or an av.AudioFrame: what aiortc's senders take


class SourceTrack(MediaStreamTrack):
    """One kind of a source. What it gives has times from 0 on, at which it is due."""

    def __init__(self, kind: str, source: MediaSource) -> None:
        super().__init__()
        self.kind = kind
        self.queue: asyncio.Queue[Item | None] = asyncio.Queue(AHEAD)
        self.given = 0
        self._source = source

    @override
    async def recv(self) -> Item:
        if self.readyState != "live":
            raise MediaStreamError
        item = await self.queue.get()
        if item is None:
            self.stop()
            raise MediaStreamError
        due = self._source.began + float(item.pts * item.time_base)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        self.given += 1
        return item


class MediaSource:
    """`name` is a path, a URL that FFmpeg reads, or `-` for MPEG-TS or others on stdin. Raises ClientFailed.

    With `loop` a file begins anew at its end.
    """

    def __init__(self, name: str, *, loop: bool = False) -> None:
        try:
            self._container = av.open("pipe:0" if name == "-" else name, timeout=OPENING)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ClientFailed(f"{name} cannot be read: {error}") from error
        if not self._container.streams.video:
            self._container.close()
            raise ClientFailed(f"{name} has no picture")
        self.began = 0.0
        """When its first picture was due, on the monotonic clock."""
        self.failure = ""
        self.video = SourceTrack("video", self)
        self.audio = SourceTrack("audio", self) if self._container.streams.audio else None
        self._loop_file = loop
        self._quit = threading.Event()
        self._thread = threading.Thread(target=self._read, name="media source", daemon=True)
        self._running = asyncio.get_running_loop()

    def start(self) -> None:
        self.began = time.monotonic()
        self._thread.start()

    async def close(self) -> None:
        self._quit.set()
        for track in filter(None, (self.video, self.audio)):
            track.stop()
            while not track.queue.empty():
                track.queue.get_nowait()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, OPENING)
        else:
            self._container.close()

    # in the thread

    def _read(self) -> None:
        try:
            self._read_all()
        except (av.FFmpegError, OSError, ValueError) as error:
            self.failure = str(error)
        finally:
            self._container.close()
            for track in filter(None, (self.video, self.audio)):
                self._give(track, None)

    def _read_all(self) -> None:
        shift = Fraction(0)
        while not self._quit.is_set():
            end = shift
            for track, item in _items(self._container):
                if self._quit.is_set():
                    return
                at = shift + item.pts * item.time_base
                item.pts, item.time_base = round(at / CLOCK), CLOCK
                end = max(end, at)
                if track == "video":
                    self._give(self.video, item)
                elif self.audio is not None:
                    self._give(self.audio, item)
            if not self._loop_file or end == shift:
                return
            shift = end + Fraction(1, 30)
            self._container.seek(0)

    def _give(self, track: SourceTrack, item: Item | None) -> None:
        """Wait for room, but not for ever: who does not take it may have gone."""
        while not self._quit.is_set():
            putting = asyncio.run_coroutine_threadsafe(_put(track.queue, item), self._running)
            try:
                if putting.result(OPENING):
                    return
            except (TimeoutError, RuntimeError):
                return


async def _put(queue: asyncio.Queue[Item | None], item: Item | None) -> bool:
    """Whether there was room within a moment."""
    try:
        async with asyncio.timeout(0.2):
            await queue.put(item)
    except TimeoutError:
        return False
    return True


def _items(container: Any) -> Iterator[tuple[str, Item]]:
    """Pictures and sound from the beginning of a container to its end, with times from 0 on."""
    video = container.streams.video[0]
    audio = container.streams.audio[0] if container.streams.audio else None
    pictures = _Annexb(video) if _goes_on_as_it_is(video) else _Encoded(video)
    sound = AudioResampler(format="s16", layout="stereo", rate=48_000, frame_size=960)
    first: Fraction | None = None
    for packet in container.demux([video] if audio is None else [video, audio]):
        if packet.stream is video:
            found: Iterator[tuple[str, Item]] = (("video", item) for item in pictures.take(packet))
        else:
            frames = (piece for frame in packet.decode() for piece in sound.resample(frame))
            found = (("audio", frame) for frame in frames)
        for kind, item in found:
            if item.pts is None:
                continue
            at = item.pts * item.time_base
            first = at if first is None else first
            if at < first:
                continue
            item.pts -= round(first / item.time_base)
            yield kind, item


def _goes_on_as_it_is(video: Any) -> bool:
    context = video.codec_context
    return context.name == "h264" and not context.has_b_frames


class _Annexb:
    """H.264 as it is, with start codes and with parameter sets before key frames."""

    def __init__(self, video: Any) -> None:
        self._filters = [BitStreamFilterContext(name, video) for name in ("h264_mp4toannexb", "dump_extra")]

    def take(self, packet: Any) -> Iterator[Item]:
        packets = [packet]
        for one in self._filters:
            packets = [out for given in packets for out in one.filter(given if given.size else None)]
        yield from packets


class _Encoded:
    """Any other picture, decoded and encoded anew."""

    def __init__(self, video: Any) -> None:
        source = video.codec_context
        self._encoder = av.CodecContext.create("libx264", "w")
        self._encoder.width, self._encoder.height = source.width & ~1, source.height & ~1
        self._encoder.pix_fmt, self._encoder.time_base = "yuv420p", CLOCK
        self._encoder.framerate = video.average_rate or Fraction(30)
        self._encoder.bit_rate = 2_500_000
        self._encoder.options = ENCODER

    def take(self, packet: Any) -> Iterator[Item]:
        for frame in packet.decode():
            if frame.pts is None:
                continue
            at = frame.pts * frame.time_base
            fitting = frame.reformat(self._encoder.width, self._encoder.height, "yuv420p")
            fitting.pts, fitting.time_base = round(at / CLOCK), CLOCK
            fitting.pict_type = av.video.frame.PictureType.NONE
            for encoded in self._encoder.encode(fitting):
                encoded.time_base = CLOCK
                yield encoded
