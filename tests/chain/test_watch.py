"""Funds and clocks of the chain, and what they refuse."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.chain.errors import ChainUnreachable
from gateway.chain.facts import Rounds, SenderFunds
from gateway.chain.funds import FundsCheck
from gateway.chain.reader import ChainReader
from gateway.chain.watch import MAX_AGE, ChainWatch
from gateway.devnet.chain.evm import ETHER, Evm
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.info import OrchestratorInfo
from tests.chain.tickets import SENDER

PRICE = Fraction(10**15)
WELL = SenderFunds(deposit=10 * ETHER, withdraw_round=0, reserve=ETHER, claimed_in_round=0)


def info(*, face_value: int = ETHER, expiration: int = 1040, created: int = 10) -> OrchestratorInfo:
    message = livepeer_pb2.OrchestratorInfo(transcoder="https://o.example:8935")
    message.ticket_params.recipient, message.ticket_params.recipient_rand_hash = bytes(20), bytes(32)
    message.ticket_params.face_value = face_value.to_bytes(32, "big")
    message.ticket_params.expiration_block = expiration.to_bytes(32, "big")
    message.ticket_params.expiration_params.creation_round = created
    return OrchestratorInfo.parse(message.SerializeToString())


class Chain:
    """A chain whose clock and funds a test writes; None is out of reach."""

    def __init__(self, funds: SenderFunds | None) -> None:
        self.seen = funds
        self.elsewhere: SenderFunds | None = None
        self.turns = 0
        self.now = 0.0
        self.clock = Rounds(1000, 10)
        self.watch = ChainWatch(
            self, SENDER.address, min_hours=Fraction(24), interval=1, clock=lambda: self.now
        )
        self.watch.burn = lambda: PRICE

    async def rounds(self) -> Rounds:
        return self.clock

    async def funds(self, sender: str) -> SenderFunds:
        if self.seen is None:
            raise ChainUnreachable("no RPC endpoint answers")
        return self.seen

    def switch_endpoint(self) -> None:
        self.turns += 1
        self.seen = self.elsewhere or self.seen


@pytest.mark.parametrize(
    ("funds", "words"),
    [
        (SenderFunds(0, 0, ETHER, 0), "no deposit"),
        (SenderFunds(ETHER, 0, 0, 0), "no reserve"),
        (SenderFunds(ETHER, 10, ETHER, 0), "unlocked as of round 10"),
        (SenderFunds(ETHER, 11, ETHER, 0), "unlocked as of round 11"),
    ],
)
def test_funds_that_pay_no_ticket_are_refused_with_what_to_do(funds: SenderFunds, words: str) -> None:
    refusal = FundsCheck(SENDER.address, funds, 10).refusal()
    assert refusal is not None
    assert words in refusal
    assert "fund" in refusal or "cancel" in refusal


def test_an_unlock_that_is_still_far_away_is_a_warning_only() -> None:
    backing = FundsCheck(SENDER.address, SenderFunds(ETHER, 12, ETHER, 0), 10)
    assert backing.refusal() is None
    assert "unlock" in (backing.warning(PRICE, Fraction(0)) or "")


def test_a_face_value_equal_to_the_deposit_is_accepted_and_one_wei_more_is_not() -> None:
    backing = FundsCheck(SENDER.address, WELL, 10)
    assert backing.max_face_value == 10 * ETHER
    assert backing.refusal(10 * ETHER) is None
    assert "above the deposit" in (backing.refusal(10 * ETHER + 1) or "")


def test_the_hours_that_are_left_are_exact() -> None:
    backing = FundsCheck(SENDER.address, WELL, 10)
    assert backing.hours_left(PRICE) == Fraction(10_000, 3600)
    assert backing.hours_left(Fraction(0)) is None
    assert "2.8 more hours" in (backing.warning(PRICE, Fraction(24)) or "")
    assert backing.warning(PRICE, Fraction(2)) is None


@pytest.mark.asyncio
async def test_nothing_is_refused_before_the_first_reading_or_long_after_the_last() -> None:
    chain = Chain(SenderFunds(0, 0, 0, 0))
    assert chain.watch.refusal(info()) is None
    await chain.watch.update()
    assert chain.watch.refusal(info()) is not None
    chain.seen, chain.now = None, MAX_AGE - 1
    await chain.watch.update()
    assert chain.watch.refusal(info()) is not None
    assert "no RPC endpoint" in chain.watch.json()["error"]
    chain.now = MAX_AGE
    assert chain.watch.refusal(info()) is None


@pytest.mark.asyncio
async def test_two_endpoints_have_to_agree_before_anything_is_refused() -> None:
    chain = Chain(SenderFunds(0, 0, 0, 0))
    chain.elsewhere = WELL
    await chain.watch.update()
    assert chain.watch.refusal(info()) is None
    assert "disagree" in chain.watch.json()["error"]
    await chain.watch.update()
    assert (chain.turns, chain.watch.json()["error"]) == (1, None)


@pytest.mark.asyncio
async def test_only_clearly_stale_params_are_stale() -> None:
    chain = Chain(WELL)
    assert chain.watch.stale(info(expiration=1)) is None
    await chain.watch.update()
    assert chain.watch.stale(info(expiration=1002)) is None
    assert "1001" in (chain.watch.stale(info(expiration=1001)) or "")
    for created in (9, 10, 11, 0):
        assert chain.watch.stale(info(created=created)) is None, "rounds change"
    assert "round 8" in (chain.watch.stale(info(created=8)) or "")


@pytest.mark.asyncio
async def test_operators_see_the_funds_as_the_contract_has_them(reader: ChainReader, evm: Evm) -> None:
    evm.fund(SENDER.address, deposit=9 * ETHER, reserve=2 * ETHER)
    watch = ChainWatch(reader, SENDER.address, min_hours=Fraction(24), interval=1)
    watch.burn = lambda: PRICE
    await watch.update()
    seen = watch.json()
    assert (seen["deposit_wei"], seen["reserve_wei"]) == (str(9 * ETHER), str(2 * ETHER))
    assert (seen["sender"], seen["unlock_round"], seen["hours_left"]) == (SENDER.address, None, 2.5)
    assert seen["refusal"] is None
    assert "2.5 more hours" in seen["warning"]
