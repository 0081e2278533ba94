"""Client on the far side of a link: publishes, watches the result, and prints one JSON object on how it went.

It says "up" with the first pictures and begins with a line on stdin. It leaves when that ends: on a link that
loses nothing its farewell arrives.

A program: `far_client ADDRESS WHIP WHEP PICTURES SECONDS`, PICTURES a file of pickled
NAL units, ADDRESS its own.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from itertools import pairwise
from pathlib import Path

import aiohttp
import aioice.ice
import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender

from harness.waiting import eventually
from harness.webrtc import CLOCK, FPS, WhepViewer, WhipPublisher, longest_gap

HISTORY = 1024
"""Packets that can be sent or asked for again, as with a browser: aiortc's own 128 are soon gone at 720p."""


async def run(own: str, whip: str, whep: str, pictures: Path, seconds: float) -> None:
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [own]
    # close to the wrap of its 16 bits
    aiortc.rtcrtpsender.random_sequence_number = lambda: 65_500
    aiortc.rtcrtpsender.RTP_HISTORY_SIZE = aiortc.rtcrtpreceiver.RTP_HISTORY_SIZE = HISTORY
    units = [b"".join(b"\0\0\0\1" + nal for nal in nals) for nals in pickle.loads(pictures.read_bytes())]
    async with (
        aiohttp.ClientSession() as http,
        WhepViewer(http, whep) as viewer,
        WhipPublisher(http, whip, units=units, audio=True) as publisher,
    ):
        await eventually(lambda: viewer.frames > 10, what="the first pictures")
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began, first, sent = time.monotonic(), viewer.pts[-1], publisher.track.sent
        await asyncio.sleep(seconds)
        sent = publisher.track.sent - sent
        last = first + sent * CLOCK // FPS
        await eventually(lambda: viewer.pts[-1] >= last, what="the last picture, late on a busy machine")
        shown = [pts for pts in viewer.pts if first <= pts <= last]
        print(
            json.dumps(
                {
                    "frames_sent": sent,
                    "frames_shown": len(shown),
                    "longest_skip_s": longest_gap(shown) / CLOCK,
                    "longest_freeze_s": longest_gap(at for at in viewer.times if at >= began),
                    "times_rise": all(a < b for a, b in pairwise(viewer.pts)),
                }
            ),
            flush=True,
        )
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:4], Path(sys.argv[4]), float(sys.argv[5])))
