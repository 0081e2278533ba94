"""What is known of orchestrators outlives the gateway."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from gateway.candidates.trust import Trust
from gateway.payments.database import Database
from gateway.payments.ledger import Ledger
from gateway.payments.trust_store import TrustStore
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
