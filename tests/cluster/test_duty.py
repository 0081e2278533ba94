from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.duty import NAME, Duty
from gateway.stream.claims import NameTaken
from gateway.stream.names import BadName, check_name
from harness.waiting import eventually

pytestmark = pytest.mark.asyncio


class Owner:
    """Who has the name, for nodes that share it."""

    def __init__(self) -> None:
        self.node = ""


class Names:
    """One node's names: only one node has it."""

    def __init__(self, node: str, owner: Owner) -> None:
        self._node, self._owner = node, owner
        self.claims = 0

    async def claim(self, names: list[str]) -> bool:
        if self._owner.node not in ("", self._node):
            raise NameTaken("it is taken")
        self._owner.node = self._node
        self.claims += 1
        return False

    def release(self, names: list[str]) -> None:
        self.claims -= 1

    def holds(self, name: str) -> bool:
        return self._owner.node == self._node


def duty(names: Names, connected: Callable[[], bool] = lambda: True) -> Duty:
    return Duty(names, connected, sleep=lambda _: asyncio.sleep(0))


async def test_one_of_several_is_on_duty_and_another_takes_its_place() -> None:
    owner = Owner()
    names = [Names(node, owner) for node in "ab"]
    duties = [duty(one) for one in names]
    tasks = [spawn(one.run(), name="test duty") for one in duties]
    try:
        await eventually(lambda: owner.node)
        first = duties.index(next(one for one in duties if one.mine))
        assert sum(one.mine for one in duties) == 1
        await cancel(tasks[first])
        owner.node = ""
        await eventually(lambda: duties[1 - first].mine)
        assert not duties[first].mine
    finally:
        await cancel(*tasks)


async def test_who_lost_it_gives_up_its_claim_and_takes_it_again_when_it_is_free() -> None:
    owner = Owner()
    names = Names("a", owner)
    task = spawn(duty(names).run(), name="test duty")
    try:
        await eventually(lambda: names.claims == 1)
        owner.node = "b"
        await eventually(lambda: names.claims == 0)
        owner.node = ""
        await eventually(lambda: names.claims == 1)
    finally:
        await cancel(task)


async def test_nobody_is_on_duty_who_is_cut_off() -> None:
    owner, connected = Owner(), True
    one = duty(Names("a", owner), lambda: connected)
    task = spawn(one.run(), name="test duty")
    try:
        await eventually(lambda: one.mine)
        connected = False
        assert not one.mine
    finally:
        await cancel(task)


async def test_no_stream_can_have_its_name() -> None:
    with pytest.raises(BadName):
        check_name(NAME)
