"""Publishers and viewers over bad links at one gateway: `lossy SECONDS`. Checks itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.ffmpeg_reader import Read, channels, read_segment
from harness.gateway import GatewayProcess, gateway_process
from harness.load import pictures
from harness.processes import line, program
from harness.waiting import DEADLINE, SLACK, within
from tests.e2e.test_loop import ended
from tests.link.network import NEAR, Link, link

DELAY, JITTER = 0.01, 0.03
"""Of every link: packets overtake each other."""
SMALL = ((640, 360), 560_000)
LARGE = ((1280, 720), 2_650_000)
"""Width and height, bits a second."""
FPS = 30
KEY_FRAME_EVERY = 1.0
FREEZE = KEY_FRAME_EVERY + 4 * (DELAY + JITTER)
"""Seconds without a picture: until the next key frame, and the round trips."""
MAX_HELD = 2 << 20
"""Bytes, a stream."""
CHANNELS = 4
"""Trickle channels of a stream."""
FEWEST_SHOWN = 0.8
"""Share of the pictures sent that are shown: a lost one takes the others up to the next key frame with it."""
FEWEST_RELAYED = 0.9
"""Share of the pictures sent that come to the worker: the gateway asks for what is lost until it is there."""


@dataclass
class Case:
    """One stream over a link of its own, and what was seen of it."""

    name: str
    loss: float = 0.0
    bits_per_second: float = float("inf")
    picture: tuple[tuple[int, int], int] = SMALL
    seen: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    segments: list[Read] = field(default_factory=list)


def rounds() -> list[list[Case]]:
    """Those of a round are on at once. Two cores hardly code and decode large pictures beside the others."""
    small = [
        Case("loses-1", loss=0.01),
        Case("loses-3", loss=0.03),
        Case("loses-5", loss=0.05),
        Case("narrow", bits_per_second=1_000_000),
    ]
    return [small, [Case("large", loss=0.03, picture=LARGE)]]


async def run(seconds: float) -> None:
    flags = ("-effect", "none", "-livePaymentInterval", "1s")
    listening = ("-httpAddr", f"{NEAR}:0", "-cliAddr", f"{NEAR}:0")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        sources = {picture: folder / str(number) for number, picture in enumerate((SMALL, LARGE))}
        for picture, source in sources.items():
            source.write_bytes(pickle.dumps(pictures(*picture, gop=FPS)))
        numbers = itertools.count()
        links = [
            [(case, stack.enter_context(link(seed=7 + (n := next(numbers)), number=n))) for case in together]
            for together in rounds()
        ]
        grown: list[tuple[list[dict[str, Any]], int]] = []
        async with gateway_process(folder, *flags, *listening) as gateway:
            for together in links:
                all_up = asyncio.Barrier(len(together))
                async with asyncio.TaskGroup() as group:
                    streams = [
                        group.create_task(stream(case, path, gateway, sources[case.picture], seconds, all_up))
                        for case, path in together
                    ]
                    grown.append((await watch(gateway, streams), len(together)))
        tried = [pair for together in links for pair in together]
        for case, path in tried:
            print(
                json.dumps({"case": case.name, "dropped": path.dropped, **case.seen, **case.status["ingest"]})
            )
        for case, path in tried:
            check(case)
            assert path.dropped > 0 or not case.loss
        for states, count in grown:
            check_growth(states, count)


async def stream(
    case: Case, path: Link, gateway: GatewayProcess, source: Path, seconds: float, all_up: asyncio.Barrier
) -> None:
    """Publish and watch over the link, bad once all have their picture, and keep what was relayed."""
    urls = (gateway.live(f"{case.name}/whip"), gateway.live(f"{case.name}/whep"))
    command = path.far(
        *(sys.executable, "-m", "tests.link.far_client", path.far_address, *urls, str(source), str(seconds))
    )
    pipe = asyncio.subprocess.PIPE
    async with program(*command, stdin=pipe, stdout=pipe) as client:
        assert client.stdin is not None
        assert await line(client) == b"up\n"
        await within(all_up.wait(), what="the others' pictures")
        client.stdin.write(b"begin\n")
        path.conditions.delay, path.conditions.jitter = DELAY, JITTER
        path.conditions.loss, path.conditions.bits_per_second = case.loss, case.bits_per_second
        channel, _ = await channels(gateway, case.name)
        async with asyncio.TaskGroup() as group:
            relayed = group.create_task(segments_of(gateway, channel))
            case.seen = json.loads(await line(client, deadline=seconds + DEADLINE))
            case.status = await gateway.status(case.name)
            path.conditions.loss = 0.0
            client.stdin.close()
            await within(client.wait(), what="the client to leave")
        case.segments = await asyncio.to_thread(lambda: [read_segment(data) for data in relayed.result()])
    last = await ended(gateway, case.name)
    assert last["ended"]["reason"] in ("publisher_left", "deleted")


async def segments_of(gateway: GatewayProcess, channel: str) -> list[bytes]:
    """Each segment that comes to a channel from the one begun last on, until it is closed."""
    number, found = -2, []
    while True:
        async with gateway.http.get(f"{channel}/{number}", ssl=False) as response:
            if response.status == 404 or "Lp-Trickle-Closed" in response.headers:
                return found
            assert response.status == 200, f"{channel}/{number}: {response.status}"
            found.append(await response.read())
            number = int(response.headers["Lp-Trickle-Seq"]) + 1


async def watch(gateway: GatewayProcess, streams: Sequence[asyncio.Task[None]]) -> list[dict[str, Any]]:
    """What the gateway holds, twice a second while all streams are on, paid for and relayed."""
    states: list[dict[str, Any]] = []
    while not any(stream.done() for stream in streams):
        state = await gateway.get("debug/state")
        on = {state[what] for what in ("streams", "viewers", "sessions")}
        if on == {len(streams)} and state["trickle"] == CHANNELS * len(streams):
            states.append(state)
        await asyncio.wait(streams, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
    return states


def check(case: Case) -> None:
    seen, status = case.seen, case.status
    assert (status["state"], status["error"]) == ("live", None)
    assert status["output"]["gaps"] == 0
    # sequence numbers began just below their wrap
    assert seen["frames_sent"] > 100
    assert seen["frames_shown"] > FEWEST_SHOWN * seen["frames_sent"]
    # what is lost is seen by the pictures' own times; how long they took, by the clock
    assert seen["longest_skip_s"] < 2 * KEY_FRAME_EVERY
    assert seen["longest_freeze_s"] < SLACK * FREEZE
    assert seen["times_rise"]
    for segment in case.segments:
        assert (segment.corrupt, segment.sizes) == (0, {case.picture[0]})
        assert segment.keys
    # the last one is cut off by the farewell, before its first sound at times
    assert all(segment.sound for segment in case.segments[:-1])
    times = [at for segment in case.segments for at in segment.pictures]
    assert len(times) > FEWEST_RELAYED * seen["frames_sent"]
    # what could not be got again costs the pictures up to the next key frame, and no more
    assert all(0 < b - a < KEY_FRAME_EVERY + 1.5 / FPS for a, b in pairwise(times))


def check_growth(states: list[dict[str, Any]], streams: int) -> None:
    assert len(states) > 6
    assert max(state["held_bytes"] for state in states) < streams * MAX_HELD
    for what in ("tasks_total", "fds"):
        first, last = max(state[what] for state in states[:3]), min(state[what] for state in states[-3:])
        # requests of a stream may meet at any moment, and the connection is kept for when they do again
        assert last <= first + streams, f"{what}: {first}, at the end {last}"


if __name__ == "__main__":
    asyncio.run(run(float(sys.argv[1])))
