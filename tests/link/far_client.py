"""On the far side of a link: publish a pattern, watch what comes back, say how it went as one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import pairwise

import aiohttp
import aioice.ice
import aiortc.rtcrtpsender

from benchmarks.load import pictures
from tests.clients.gateway import eventually
from tests.clients.webrtc import WhepViewer, WhipPublisher
from tests.link.network import FAR


async def run(url: str, seconds: float) -> None:
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [FAR]
    # close to the wrap of its 16 bits
    aiortc.rtcrtpsender.random_sequence_number = lambda: 65_500
    units = [b"".join(b"\0\0\0\1" + nal for nal in nals) for nals in pictures()]
    async with (
        aiohttp.ClientSession() as http,
        WhepViewer(http, f"{url}live/video-to-video/cam/whep") as viewer,
        WhipPublisher(http, f"{url}live/video-to-video/cam/whip", units=units, audio=True) as publisher,
    ):
        await eventually(lambda: viewer.frames > 10, what="the first pictures")
        print("up", flush=True)
        began, frames, sent = time.monotonic(), viewer.frames, publisher.track.sent
        await asyncio.sleep(seconds)
        times = [at for at in viewer.times if at >= began]
        print(
            json.dumps(
                {
                    "frames_sent": publisher.track.sent - sent,
                    "frames_shown": viewer.frames - frames,
                    "longest_freeze_s": max(b - a for a, b in pairwise(times)),
                    "times_rise": all(a < b for a, b in pairwise(viewer.pts)),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], float(sys.argv[2])))
