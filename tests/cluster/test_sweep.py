"""Keys of dead nodes are removed, on a real nats-server."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus
from gateway.cluster.ownership import value_of
from gateway.cluster.presence import Identity, Life, NodeView
from gateway.cluster.subjects import Subjects
from gateway.cluster.sweep import Sweep
from gateway.cluster.tally import Tally
from harness.nats import NatsServer

pytestmark = pytest.mark.asyncio

ALIVE, DEAD, UNSURE = (Identity(node, "1") for node in ("alive", "dead", "unsure"))


class View:
    def judge(self, node: Identity) -> Life:
        return {"dead": Life.DEAD, "unsure": Life.UNSURE}.get(node.node, Life.ALIVE)


async def test_what_dead_nodes_left_is_removed_after_its_time(nats: NatsServer) -> None:
    async with Bus([nats.url], Subjects("sweep")) as bus:
        names, counts = Bucket(bus, "sweep-names"), Bucket(bus, "sweep-counts")
        for node in (ALIVE, DEAD, UNSURE):
            await names.create(node.node, value_of(node))
        await names.create("left", value_of(ALIVE, left=True))
        await names.create("later-release", b"{}")
        both = Tally("-max", {ALIVE: 2, DEAD: 3})
        await counts.create("both", both.value())
        await counts.create("gone", Tally("-max", {DEAD: 3}).value())
        await counts.create("later-release", b"{}")
        now, mine = 0.0, True
        view = cast("NodeView", View())
        sweep = Sweep(names, counts, view, lambda: mine, clock=lambda: now, sleep=lambda _: asyncio.sleep(0))
        assert await sweep.once(keep=60) == 1
        assert sorted(await counts.keys()) == ["both", "later-release"]
        entry = await counts.get("both")
        assert entry is not None and Tally.read(entry.value).counts == {ALIVE: 2}
        assert len(await names.keys()) == 5
        now = 59.0
        assert await sweep.once(keep=60) == 0
        again = await names.get("left")
        assert again is not None
        await names.update("left", value_of(ALIVE), again.revision)  # its publisher came back
        mine = False
        now = 61.0
        assert await sweep.once(keep=60) == 0
        mine = True
        assert await sweep.once(keep=60) == 0  # it was not on duty meanwhile, and begins anew
        now = 130.0
        assert await sweep.once(keep=60) == 1
        assert sorted(await names.keys()) == ["alive", "later-release", "left", "unsure"]
