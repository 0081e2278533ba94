"""A tone over a channel of its own, as Scope gives its sound: Opus alone in MPEG-TS, in real time."""

from __future__ import annotations

import array
import asyncio
import math
import time

import aiohttp
import av
import structlog
from av.audio.stream import AudioStream

from gateway.aio.tasks import TaskGroup
from gateway.trickle.errors import ChannelError
from gateway.trickle.publisher import TricklePublisher

RATE = 48_000
SAMPLES = 960
"""Of one Opus packet: 20 ms."""
WAVES = 8
"""In one packet: 400 Hz."""
MUXER_OPTIONS = {"flush_packets": "1", "mpegts_copyts": "1", "pes_payload_size": "0"}

log = structlog.get_logger("devnet.app")


class Tone:
    """Its time stamps begin at zero, whatever the pictures have."""

    def __init__(self) -> None:
        self._made = bytearray()
        self._container = av.open(self, "w", format="mpegts", options=MUXER_OPTIONS)
        stream = self._container.add_stream("libopus", rate=RATE, layout="mono")
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._samples = 0

    def write(self, data: bytes) -> int:
        """For the muxer."""
        self._made += data
        return len(data)

    def second(self) -> bytes:
        """The next second as MPEG-TS."""
        for _ in range(RATE // SAMPLES):
            frame = av.AudioFrame(format="s16", layout="mono", samples=SAMPLES)
            frame.planes[0].update(_WAVE)
            frame.sample_rate, frame.pts = RATE, self._samples
            self._samples += SAMPLES
            self._container.mux(self._stream.encode(frame))
        made, self._made = bytes(self._made), bytearray()
        return made


async def send_tone(http: aiohttp.ClientSession, url: str) -> None:
    """Send it until the channel ends."""
    channel, tone = TricklePublisher(http, url, log=log), Tone()
    begun = time.monotonic()
    try:
        async with TaskGroup() as group:
            group.create_task(channel.run(), name="app-sound")
            seconds = 0
            while True:
                segment = channel.open_segment()
                segment.write(tone.second())
                segment.close()
                seconds += 1
                await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))
    except ChannelError as error:
        log.info("no more sound", error=str(error))
    finally:
        await channel.close()


_WAVE = array.array(
    "h", (round(8_000 * math.sin(2 * math.pi * WAVES * n / SAMPLES)) for n in range(SAMPLES))
).tobytes()
