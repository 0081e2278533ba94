"""The outbox on both databases: order, bound, lease, and streams without an end."""

from __future__ import annotations

import pytest

from gateway.payments.event_outbox import OpenStream, OutboxEvent
from gateway.payments.ledger import Ledger
from tests.payments.ledgers import credited, fill

pytestmark = pytest.mark.asyncio


def event(number: int, stream: str = "cam") -> OutboxEvent:
    return OutboxEvent(f"evt_{number}", stream, f'{{"n":{number}}}', number)


async def test_a_streams_events_come_in_their_order_over_a_restart(where: str) -> None:
    ledger = await Ledger.open(where)
    await ledger.events.add([event(1), event(2, "other"), event(3)])
    await ledger.events.add([event(4)])
    await ledger.close()
    ledger = await Ledger.open(where)
    assert sorted(await ledger.events.streams()) == ["cam", "other"]
    assert [one.id for one in await ledger.events.of_stream("cam", 2)] == ["evt_1", "evt_3"]
    await ledger.events.remove(["evt_1"])
    assert await ledger.events.of_stream("cam", 9) == [event(3), event(4)]
    await ledger.close()


async def test_the_oldest_are_dropped_and_counted(where: str) -> None:
    ledger = await Ledger.open(where)
    assert await ledger.events.add([event(n) for n in range(4)], most=5) == 0
    assert await ledger.events.add([event(n) for n in range(4, 8)], most=5) == 3
    assert [one.wall_ns for one in await ledger.events.of_stream("cam", 9)] == [3, 4, 5, 6, 7]
    await ledger.close()


async def test_streams_without_an_end_are_known(where: str) -> None:
    ledger = await Ledger.open(where)
    begun = [OpenStream(f"r{n}", "cam", "id", "token 1", "alice", n) for n in range(3)]
    await ledger.events.add([event(1)], begun=begun)
    await ledger.events.add([event(2)], begun=[begun[0]], ended=["r1"])
    assert [one.request_id for one in await ledger.events.open_streams()] == ["r0", "r2"]
    await ledger.close()


async def test_what_a_publish_cost_is_read_from_the_ledger(where: str) -> None:
    ledger = await Ledger.open(where)
    await fill(ledger)
    publish = OpenStream("r1", "cam", "one", "", "", 0)
    assert await ledger.events.credited(publish) == await credited(ledger) > 0
    await ledger.close()


async def test_one_node_at_a_time_has_the_lease(where: str) -> None:
    ledger = await Ledger.open(where)
    outbox = ledger.events
    assert await outbox.lease(60)
    outbox.node = "another"
    assert not await outbox.lease(60)
    outbox.node = ""
    assert await outbox.lease(-1)
    outbox.node = "another"
    assert await outbox.lease(60)
    await ledger.close()
