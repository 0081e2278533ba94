"""Redemptions in the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gateway.payments.ledger import Ledger
from gateway.payments.payment import Payment
from gateway.payments.redemptions import Checkpoint, FollowedSender, Redemption
from harness.payment_models import SENDER_TEXT, orchestrator_info, signed_payment
from tests.payments.test_ledger import payment, record, sign

pytestmark = pytest.mark.asyncio

FOLLOWED = FollowedSender("0x" + "c0" * 20, SENDER_TEXT)
OTHER = FollowedSender("0x" + "c1" * 20, SENDER_TEXT)


@pytest_asyncio.fixture
async def ledger(where: str) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(where)
    yield ledger
    await ledger.close()


def redemption(block: int, nonce: int, rand_hash: bytes = bytes(32), **changes: object) -> Redemption:
    one = Redemption(
        transaction_hash=f"0x{nonce:064x}",
        log_index=0,
        block=block,
        block_hash=f"0x{block}",
        recipient="0x00",
        face_value=2**100,
        win_prob=2**255,
        sender_nonce=nonce,
        recipient_rand_hash=rand_hash.hex(),
        aux="",
        amount=2**100,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


async def test_sent_tickets_and_redemptions_are_listed_by_day_and_orchestrator(ledger: Ledger) -> None:
    book, made = ledger.redemptions, payment(tickets=3, first_nonce=4)
    session = await ledger.open_session(record())
    await sign(ledger, session, 1, made)
    await ledger.handed_out(session, 1, "its tickets may win all the same")
    await ledger.intended(session, 2)
    await ledger.signed(session, 2, payment(first_nonce=7), manifest_id="m", price=made.ticket_ev)
    hashed = made.recipient_rand_hash
    found = [
        redemption(9, 6, hashed),
        redemption(9, 10, hashed),
        redemption(9, 5, hashed, recipient="0x01"),
        redemption(9, 2**256 - 1),
    ]
    await book.take(FOLLOWED, found, Checkpoint(10, "0xa"))
    assert [row["payment_id"] for row in await book.rows()].count(f"{session}-1") == 1
    (handed,) = await book.handed_out()
    assert (handed.tickets, handed.win_probs, handed.variance) == (3, 3 * made.win_prob, 0)
    assert handed.value == 3 * made.face_value * made.win_prob
    wins = await book.wins()
    assert sorted(win.known for win in wins) == [False, False, False, True]
    assert {win.day for win in wins} == {handed.day}
    assert {win.amount for win in wins} == {2**100}


async def test_a_redemption_is_of_the_payment_with_the_whole_hash(ledger: Ledger) -> None:
    session = await ledger.open_session(record())
    made = [Payment.read(signed_payment(orchestrator_info(rand=rand), 1, 1)) for rand in (6, 5, 4)]
    for number, one in enumerate(made, 1):
        await ledger.intended(session, number)
        await ledger.signed(session, number, one, manifest_id="", price=one.ticket_ev)
    found = redemption(9, 1, made[1].recipient_rand_hash)
    await ledger.redemptions.take(FOLLOWED, [found], Checkpoint(10, "0xa"))
    assert [row["payment_id"] for row in await ledger.redemptions.rows()] == [f"{session}-2"]


async def test_a_reorganised_redemption_is_deleted_and_a_repeated_one_is_there_once(ledger: Ledger) -> None:
    book = ledger.redemptions
    await book.take(OTHER, [redemption(7, 99)], Checkpoint(50, "0xo"))
    for block in (5, 6, 7):
        await book.take(FOLLOWED, [redemption(block, block)], Checkpoint(block, f"0x{block}"))
    await book.take(FOLLOWED, [redemption(6, 7, block_hash="0xb")], Checkpoint(9, "0xb"), forget_after=5)
    await book.take(FOLLOWED, [redemption(6, 7, block_hash="0xb")], Checkpoint(9, "0xb"))
    rows = [(row["block"], int(row["sender_nonce"]), row["block_hash"]) for row in await book.rows()]
    assert rows == [(5, 5, "0x5"), (6, 7, "0xb"), (7, 99, "0x7")]
    assert await book.checkpoints(FOLLOWED) == [Checkpoint(9, "0xb"), Checkpoint(5, "0x5")]
    assert await book.checkpoints(OTHER) == [Checkpoint(50, "0xo")]
