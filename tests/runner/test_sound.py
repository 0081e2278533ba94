"""Sound of an app over a channel of its own: what comes, and where it stands beside the pictures."""

from __future__ import annotations

from itertools import pairwise

import aiohttp
import pytest
import structlog
from aiohttp import web

from gateway.aio.tasks import cancel, spawn
from gateway.devnet.app.tone import send_tone
from gateway.devnet.trickle_server import TrickleServer
from gateway.media.frames import TICKS_PER_SECOND, Frame, OpusPacket
from gateway.media.timeline import MAX_SKEW
from gateway.runner.sound import SoundChannel, SoundPlacer
from harness.waiting import eventually, within

NEWEST = 1_000 * TICKS_PER_SECOND


def times(placer: SoundPlacer, newest: int | None, *pts: int) -> list[int]:
    return [placer.place(OpusPacket(b"", one), newest).pts for one in pts]


def test_sound_on_the_pictures_clock_keeps_its_times() -> None:
    placer = SoundPlacer()
    near = [NEWEST - MAX_SKEW, NEWEST, NEWEST + MAX_SKEW]
    assert times(placer, NEWEST, *near) == near
    assert times(placer, None, 7) == [7]


def test_sound_on_a_clock_of_its_own_goes_on_from_the_newest_picture() -> None:
    placer = SoundPlacer()
    assert times(placer, NEWEST, 0, 1_800) == [NEWEST, NEWEST + 1_800]
    # pictures that came on meanwhile change nothing
    assert times(placer, NEWEST + TICKS_PER_SECOND, 3_600) == [NEWEST + 3_600]
    # a clock that starts anew, and one that comes to the pictures' own
    assert times(placer, NEWEST + MAX_SKEW + TICKS_PER_SECOND, 0) == [NEWEST + MAX_SKEW + TICKS_PER_SECOND]
    assert times(placer, NEWEST, NEWEST) == [NEWEST]


@pytest.mark.asyncio
async def test_sound_comes_as_it_is_sent_and_its_end_ends_nothing() -> None:
    trickle = TrickleServer()
    app = web.Application()
    app.add_routes(trickle.routes())
    app.on_shutdown.append(trickle.shutdown)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    trickle.create("sound")
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/ai/trickle/sound"
    heard: list[Frame] = []
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as http:
            sending = spawn(send_tone(http, url), name="tone")
            sound = SoundChannel(http, url, structlog.get_logger("test"), name="app", resume=False)
            reading = spawn(sound.read(heard.append, lambda: NEWEST), name="sound")
            await eventually(lambda: len(heard) >= 60, what="more than a second of sound")
            trickle.terminate("sound")
            await within(reading)
            await cancel(sending)
    finally:
        await runner.cleanup()
    pts = [one.pts for one in heard if isinstance(one, OpusPacket)]
    assert len(pts) == len(heard)
    assert abs(pts[0] - NEWEST) < MAX_SKEW
    assert {after - before for before, after in pairwise(pts)} == {1_800}
