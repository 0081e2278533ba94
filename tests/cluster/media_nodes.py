"""Nodes as far as media between them goes: outputs, viewers that keep what they get, a relay over NATS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

from gateway.cluster.bus import Bus
from gateway.cluster.relay import MediaRelay
from gateway.cluster.subjects import Subjects
from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit
from harness.waiting import eventually
from tests.webrtc.loopback import coded_pictures, nals_of

SUBJECTS = Subjects("test")
GOP = 15
STEP = 3_000


@cache
def _coded() -> list[list[bytes]]:
    return [nals_of(packet) for packet in coded_pictures(GOP, gop=GOP)]


def picture(number: int) -> AccessUnit:
    """The picture of this number of a stream whose every 15th is a key frame."""
    time = number * STEP
    return AccessUnit(_coded()[number % GOP], time, time, number % GOP == 0)


def pictures(start: int = 0) -> Iterator[AccessUnit]:
    """Those from a number on, without end."""
    while True:
        yield picture(start)
        start += 1


class KeepingViewer:
    """A viewer that keeps the pictures that it gets, and their times."""

    def __init__(self) -> None:
        self.payloads: list[list[bytes]] = []
        self.times: list[int] = []
        self.sounds = 0

    def send_video(self, payloads: Sequence[bytes], timestamp: int, key: bool) -> None:
        self.payloads.append(list(payloads))
        self.times.append(timestamp)

    def send_audio(self, payload: bytes, timestamp: int) -> None:
        self.sounds += 1

    def congested(self) -> bool:
        return False


class MediaNode:
    """One node. `epoch` is its right to the names that it publishes from then on."""

    def __init__(self, bus: Bus, name: str, epoch: int = 1) -> None:
        self.bus = bus
        self.epoch = epoch
        self.live: set[str] = set()
        self.asked: list[str] = []
        """Names whose publishers were asked for a key frame."""
        self.outputs: dict[str, Fanout] = {}
        self.relay = MediaRelay(
            bus,
            name,
            is_live=self.live.__contains__,
            request_key_frame=self.asked.append,
            epoch_of=lambda _: self.epoch,
        )

    def output(self, name: str = "cam") -> Fanout:
        return self.outputs.setdefault(name, Fanout(on_key_frame_needed=lambda: None))

    async def publish(self, name: str = "cam") -> Fanout:
        """Begin to publish, until requests of other nodes come here; gives the output to push pictures to."""
        self.live.add(name)
        self.relay.began(name, self.output(name))
        await self.bus.flush()  # its task has run by now
        await self.bus.flush()
        return self.output(name)

    def stop(self, name: str = "cam") -> None:
        """End a publish."""
        self.output(name).clear()
        self.live.discard(name)
        self.relay.ended(name)

    async def watch(self, name: str = "cam") -> KeepingViewer:
        viewer = KeepingViewer()
        await self.relay.watch(name, self.output(name))
        self.output(name).add(viewer)
        return viewer

    def leave(self, viewer: KeepingViewer, name: str = "cam") -> None:
        self.output(name).remove(viewer)
        self.relay.unwatch(name)


@asynccontextmanager
async def media_node(url: str, name: str, epoch: int = 1) -> AsyncIterator[MediaNode]:
    async with Bus([url], SUBJECTS, name=name) as bus:
        node = MediaNode(bus, name, epoch)
        try:
            yield node
        finally:
            await node.relay.close()


async def pushed_until(
    condition: Callable[[], object], output: Fanout, source: Iterator[AccessUnit], what: str
) -> None:
    """Push one picture after the other until the condition holds."""

    def step() -> object:
        output.push(next(source))
        return condition()

    await eventually(step, every=0.01, what=what)
