"""Every redemption is in the ledger once, after restarts, refusals and reorganisations too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.chain.errors import ChainUnreachable, RpcRefused
from gateway.chain.facts import LogEntry
from gateway.chain.follower import (
    LOOK_BACK,
    OVERLAP,
    RANGES_BEFORE_LONGER,
    RedemptionFollower,
    redemptions_of,
)
from gateway.chain.reader import ChainReader
from gateway.devnet.chain.evm import ETHER, Evm
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.payment import Payment
from gateway.payments.redemptions import FollowedSender
from harness.payment_models import orchestrator_info, signed_payment
from tests.chain.tickets import BLOCK_HASH, ORCHESTRATOR, RAND, RAND_HASH, SENDER, redeem, winning_ticket

pytestmark = pytest.mark.asyncio

FOLLOWED = FollowedSender("0x" + "c0" * 20, SENDER.address)
PRICE = Fraction(10**15)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    yield ledger
    await ledger.close()


def record() -> SessionRecord:
    return SessionRecord(
        job=JobIdentity(stream="cam", stream_id="cam", request_id="r1", addr="127.0.0.1:8935"),
        sender=SENDER.address,
        orchestrator_address=ORCHESTRATOR.address,
        orchestrator_url="https://127.0.0.1:8935",
        price=PRICE,
        ceiling=None,
        interval_ns=5 * 10**9,
    )


def payment(first: int, last: int) -> Payment:
    """Tickets with the nonces from `first` to `last`, under the hash that the tests' winning tickets have."""
    made = Payment.read(signed_payment(orchestrator_info(), first, last - first + 1))
    made.message.ticket_params.recipient_rand_hash = RAND_HASH
    return made


class Chain:
    """A chain of blocks that a test makes and takes back; each redemption is a block of its own."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.entries: list[LogEntry] = []
        self.asked: list[tuple[int, int]] = []
        self.most = 10**9
        self.refused = 0
        self.branch = "a"
        self.grow(3)

    def grow(self, blocks: int = 1) -> None:
        self.blocks += [f"0x{self.branch}{len(self.blocks) + n}" for n in range(blocks)]

    def redeem(self, nonce: int, amount: int = ETHER) -> None:
        self.grow()
        block, recipient = len(self.blocks) - 1, ORCHESTRATOR.address
        place: dict[str, Any] = {
            "block": block,
            "block_hash": self.blocks[block],
            "transaction": f"0x{self.branch}-{nonce}",
            "contract": "0x",
        }
        paid = {"recipient": recipient, "amount": amount}
        redeemed = {
            "recipient": recipient,
            "faceValue": amount,
            "winProb": 7,
            "senderNonce": nonce,
            "recipientRand": RAND,
            "auxData": b"aux",
        }
        self.entries.append(LogEntry("WinningTicketTransfer", index=0, arguments=paid, **place))
        self.entries.append(LogEntry("WinningTicketRedeemed", index=1, arguments=redeemed, **place))

    def take_back(self, blocks: int, branch: str) -> None:
        del self.blocks[len(self.blocks) - blocks :]
        self.entries = [entry for entry in self.entries if entry.block < len(self.blocks)]
        self.branch = branch

    async def head(self) -> int:
        return len(self.blocks) - 1

    async def block_hash(self, number: int) -> str | None:
        return self.blocks[number] if number < len(self.blocks) else None

    async def redemptions(self, sender: str, first: int, last: int) -> list[LogEntry]:
        if last - first >= self.most:
            self.refused += 1
            raise RpcRefused("the RPC endpoint refuses: query returned more than 10000 results")
        self.asked.append((first, last))
        return [entry for entry in self.entries if first <= entry.block <= last]


def follower(chain: Chain, ledger: Ledger) -> RedemptionFollower:
    return RedemptionFollower(chain, ledger.redemptions, FOLLOWED, interval=1)


async def nonces(ledger: Ledger) -> list[int]:
    return [int(row["sender_nonce"]) for row in await ledger.redemptions.rows()]


async def test_each_redemption_is_written_once_across_restarts(ledger: Ledger) -> None:
    chain = Chain()
    chain.redeem(1)
    await follower(chain, ledger).step()
    await follower(chain, ledger).step()
    chain.redeem(2)
    await follower(chain, ledger).step()
    assert await nonces(ledger) == [1, 2]
    chain.grow(OVERLAP)
    await follower(chain, ledger).step()
    chain.redeem(3)
    await follower(chain, ledger).step()
    assert await nonces(ledger) == [1, 2, 3]
    assert chain.asked[0] == (0, 3)
    assert chain.asked[-1] == (5, 5 + OVERLAP), "the last blocks are read once more"


async def test_a_reorganisation_deletes_its_redemptions_and_no_others(ledger: Ledger) -> None:
    chain = Chain()
    for nonce in (1, 2, 3):
        chain.redeem(nonce)
        await follower(chain, ledger).step()
    chain.take_back(2, "b")
    chain.redeem(3)
    chain.redeem(4)
    chain.grow(2)
    await follower(chain, ledger).step()
    assert await nonces(ledger) == [1, 3, 4]
    assert {row["block_hash"][:3] for row in await ledger.redemptions.rows()} == {"0xa", "0xb"}


async def test_a_reorganisation_before_all_checkpoints_starts_over(ledger: Ledger) -> None:
    chain = Chain()
    chain.redeem(1)
    await follower(chain, ledger).step()
    chain.take_back(4, "c")
    chain.grow(3)
    chain.redeem(9)
    await follower(chain, ledger).step()
    assert await nonces(ledger) == [9]


async def test_an_endpoint_that_is_behind_is_not_a_reorganisation(ledger: Ledger) -> None:
    chain = Chain()
    chain.redeem(1)
    await follower(chain, ledger).step()
    behind = Chain()
    await follower(behind, ledger).step()
    assert behind.asked == []
    assert await nonces(ledger) == [1]


async def test_logs_that_a_node_left_out_are_found_later(ledger: Ledger) -> None:
    chain = Chain()
    chain.redeem(1)
    whole = chain.redemptions

    async def lagging(sender: str, first: int, last: int) -> list[LogEntry]:
        return [entry for entry in await whole(sender, first, last) if entry.block < last]

    chain.redemptions = lagging  # type: ignore[method-assign]
    await follower(chain, ledger).step()
    assert await nonces(ledger) == []
    chain.redemptions = whole  # type: ignore[method-assign]
    chain.grow(OVERLAP - 1)
    await follower(chain, ledger).step()
    assert await nonces(ledger) == [1]


async def test_a_redemption_that_is_read_again_keeps_its_day(ledger: Ledger) -> None:
    chain = Chain()
    chain.redeem(1)
    await follower(chain, ledger).step()
    (before,) = await ledger.redemptions.rows()
    chain.grow()
    await follower(chain, ledger).step()
    assert await ledger.redemptions.rows() == [before]


async def test_a_refused_range_is_read_in_parts(ledger: Ledger) -> None:
    chain = Chain()
    for nonce in range(1, 40):
        chain.redeem(nonce)
    chain.most = 5
    await follower(chain, ledger).step()
    assert await nonces(ledger) == list(range(1, 40))
    assert max(last - first for first, last in chain.asked) < 5
    assert chain.refused <= 16, "what was refused is not tried again with each range"
    chain.most = 0
    chain.grow()
    with pytest.raises(RpcRefused):
        await follower(chain, ledger).step()


async def test_a_longer_range_is_tried_again_after_a_while(ledger: Ledger) -> None:
    chain = Chain()
    chain.grow(4 * RANGES_BEFORE_LONGER)
    chain.most = 4
    followed = follower(chain, ledger)
    await followed.step()
    refused, chain.most = chain.refused, 10**9
    chain.grow(40 * RANGES_BEFORE_LONGER)
    await followed.step()
    assert chain.refused == refused
    assert chain.asked[-1][1] - chain.asked[-1][0] > 4


async def test_what_was_read_before_a_failure_is_kept(ledger: Ledger) -> None:
    chain = Chain()
    for nonce in range(1, 9):
        chain.redeem(nonce)
    chain.most = 4
    followed = follower(chain, ledger)
    asked = chain.redemptions

    async def fail_late(sender: str, first: int, last: int) -> list[LogEntry]:
        if first > 5:
            raise ChainUnreachable("no RPC endpoint answers")
        return await asked(sender, first, last)

    chain.redemptions = fail_late  # type: ignore[method-assign]
    with pytest.raises(ChainUnreachable):
        await followed.step()
    kept = await nonces(ledger)
    assert kept and kept == list(range(1, len(kept) + 1))
    chain.redemptions = asked  # type: ignore[method-assign]
    await followed.step()
    assert await nonces(ledger) == list(range(1, 9))


async def test_a_new_ledger_does_not_read_the_chain_from_its_first_block(ledger: Ledger) -> None:
    chain = Chain()
    chain.grow(LOOK_BACK + 50)
    await follower(chain, ledger).step()
    assert chain.asked[0][0] == await chain.head() - LOOK_BACK


async def test_only_as_many_checkpoints_are_kept_as_a_reorganisation_may_need(ledger: Ledger) -> None:
    chain = Chain()
    for _ in range(70):
        chain.grow()
        await follower(chain, ledger).step()
    kept = await ledger.redemptions.checkpoints(FOLLOWED)
    assert len(kept) == 64
    assert kept[0].block == await chain.head()


async def test_a_redemption_is_matched_to_the_payment_that_it_came_from(
    reader: ChainReader, evm: Evm, ledger: Ledger
) -> None:
    session = await ledger.open_session(record())
    await ledger.intended(session, 1)
    await ledger.signed(session, 1, payment(1, 10), manifest_id="m", price=PRICE)
    await ledger.intended(session, 2)
    await ledger.signed(session, 2, payment(11, 20), manifest_id="m", price=PRICE)
    evm.advance(10**11, 10**9, BLOCK_HASH)
    evm.fund(SENDER.address, deposit=3 * ETHER, reserve=ETHER)
    for nonce in (12, 21):
        redeem(evm, winning_ticket(sender_nonce=nonce, creation_round=10**9))
    await RedemptionFollower(reader, ledger.redemptions, FOLLOWED, interval=1).step()
    known, unknown = await ledger.redemptions.rows()
    assert known["payment_id"] == f"{session}-2"
    assert unknown["payment_id"] is None
    assert (known["amount"], known["recipient"]) == (ETHER, ORCHESTRATOR.address)
    assert known["recipient_rand_hash"] == RAND_HASH.hex()


async def test_a_redemption_without_a_transfer_paid_nothing() -> None:
    chain = Chain()
    chain.redeem(1, amount=5)
    chain.redeem(2, amount=6)
    without = [entry for entry in chain.entries if entry.arguments.get("amount") != 6]
    assert [one.amount for one in redemptions_of(without)] == [5, 0]
