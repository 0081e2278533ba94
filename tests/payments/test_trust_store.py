"""What is known of orchestrators outlives the gateway."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from fractions import Fraction

import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.candidates.trust import Trust
from gateway.payments.database import Database
from gateway.payments.ledger import Ledger
from gateway.payments.trust_store import TrustStore
from harness.postgresql import PostgresqlServer
from harness.waiting import eventually

A, B = "0x" + "a" * 40, "0x" + "b" * 40


@pytest.mark.asyncio
async def test_faults_deliveries_and_paid_addresses_are_there_after_a_restart(where: str) -> None:
    ledger = await Ledger.open(where)
    trust = Trust()
    keeping = asyncio.get_running_loop().create_task(ledger.trust.keep(trust))
    start = trust.begin(A)
    start.paid()
    start.picture()
    start.end(Fraction(10**18, 3))
    trust.pays("o.example:8935", A)

    async def written() -> bool:
        return bool(await ledger.trust.paid_addresses())

    await eventually(written)
    for _ in range(3):
        trust.fault(B, "no picture\0", took_pay=True)
    trust.fault("127.0.0.1:1", "not paid, so not kept", took_pay=False)
    await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await ledger.close()

    database = await Database.open_to_read(where)
    store = TrustStore(database)
    again = Trust(await store.records(), await store.paid_addresses())
    await database.close()
    assert again.paid_as("o.example:8935") == A
    assert (again.record(A).starts, again.record(A).paid) == (1, Fraction(10**18, 3))
    fault = again.record(B).suspension.last_fault
    assert fault is not None
    assert (fault.faults, fault.forgivable, fault.reason) == (3, False, "no picture")
    former = trust.record(B).suspension.last_fault
    assert former is not None
    assert abs(fault.until - former.until) < 1
    assert again.fault(B, "no picture", took_pay=True).faults == 4, "the row goes on"
    assert again.record("127.0.0.1:1").suspension.last_fault is None


@pytest.mark.asyncio
async def test_nodes_of_a_cluster_add_to_what_others_have_seen_and_learn_it(
    postgresql: PostgresqlServer,
) -> None:
    where = postgresql.database()
    async with AsyncExitStack() as stack:
        nodes: list[tuple[Ledger, Trust]] = []
        for name in ("one", "other"):
            ledger = await Ledger.open(where, node=name)
            stack.push_async_callback(ledger.close)
            trust = Trust(await ledger.trust.records())
            stack.push_async_callback(cancel, spawn(ledger.trust.keep(trust), name="trust"))
            nodes.append((ledger, trust))

        for _, trust in nodes:
            for _ in range(3):
                start = trust.begin(A)
                start.paid()
                start.end(Fraction(10**18, 3))
        nodes[0][1].fault(B, "no picture", took_pay=True)

        def known() -> bool:
            records = [trust.record(A) for _, trust in nodes]
            counted = all((one.starts, one.paid) == (6, 2 * 10**18) for one in records)
            return counted and nodes[1][1].suspension(B) is not None

        await eventually(known)
        (stored,) = [one for one in await nodes[0][0].trust.records() if one.key == A]
        assert (stored.starts, stored.paid) == (6, 2 * 10**18)
        assert nodes[1][1].record(B).empty_starts == 1
        assert nodes[1][1].fault(B, "no picture", took_pay=True).faults == 2
