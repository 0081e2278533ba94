"""The devnet's contracts behave like the network's."""

from __future__ import annotations

from typing import Any

import pytest
from eth_tester.exceptions import TransactionFailed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.devnet.account import Account
from gateway.devnet.chain.evm import ETHER, UNLOCK_ROUNDS, Evm
from gateway.payments.ticket import MAX_WIN_PROB, Ticket, wins
from tests.chain.tickets import (
    BLOCK_HASH,
    ORCHESTRATOR,
    RAND,
    ROUND,
    SENDER,
    on_chain,
    redeem,
    winning_ticket,
)

ZERO_ADDRESS = "0x" + "00" * 20

words = st.integers(min_value=0, max_value=2**256 - 1)


@pytest.fixture
def broker(evm: Evm) -> Any:
    evm.advance(1000, ROUND, BLOCK_HASH)
    evm.fund(SENDER.address, deposit=2 * ETHER, reserve=ETHER)
    return evm.contracts["TicketBroker"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    recipient=st.binary(min_size=20, max_size=20),
    sender=st.binary(min_size=20, max_size=20),
    face_value=words,
    win_prob=words,
    nonce=words,
    rand_hash=st.binary(min_size=32, max_size=32),
    creation_round=st.just(0) | words,
    block_hash=st.just(bytes(32)) | st.binary(min_size=32, max_size=32),
)
def test_the_contract_hashes_tickets_as_we_do(
    evm: Evm,
    recipient: bytes,
    sender: bytes,
    face_value: int,
    win_prob: int,
    nonce: int,
    rand_hash: bytes,
    creation_round: int,
    block_hash: bytes,
) -> None:
    ticket = Ticket(recipient, sender, face_value, win_prob, nonce, rand_hash, creation_round, block_hash)
    broker = evm.contracts["TicketBroker"]
    assert broker.functions.getTicketHash(on_chain(ticket)).call() == ticket.hash


def test_a_winning_ticket_is_paid_once_from_the_deposit(evm: Evm, broker: Any) -> None:
    ticket = winning_ticket()
    receipt = redeem(evm, ticket)
    (transfer,) = broker.events.WinningTicketTransfer().process_receipt(receipt, errors=_discard())
    (redeemed,) = broker.events.WinningTicketRedeemed().process_receipt(receipt, errors=_discard())
    assert transfer["args"]["amount"] == ETHER
    assert redeemed["args"]["senderNonce"] == 1
    assert redeemed["args"]["auxData"] == ticket.aux
    assert evm.web3.eth.get_balance(ORCHESTRATOR.address) == ETHER
    assert broker.functions.getSenderInfo(SENDER.address).call() == [(ETHER, 0), (ETHER, 0)]
    with pytest.raises(TransactionFailed, match="ticket is used"):
        redeem(evm, ticket)


def test_the_reserve_pays_what_the_deposit_lacks(evm: Evm, broker: Any) -> None:
    receipt = redeem(evm, winning_ticket(face_value=5 * ETHER))
    (transfer,) = broker.events.WinningTicketTransfer().process_receipt(receipt, errors=_discard())
    assert transfer["args"]["amount"] == 3 * ETHER
    assert broker.functions.getSenderInfo(SENDER.address).call() == [(0, 0), (0, ETHER)]
    with pytest.raises(TransactionFailed, match="deposit and reserve are zero"):
        redeem(evm, winning_ticket(sender_nonce=2))


def test_an_invalid_ticket_is_not_paid(evm: Evm, broker: Any) -> None:
    good = winning_ticket()
    stranger = Account(b"\x03" * 32)
    for wrong, words_ in [
        ({"signature": stranger.sign(good.hash)}, "invalid signature"),
        ({"signature": b"short"}, "65 bytes"),
        ({"rand": RAND + 1}, "recipientRand is wrong"),
        ({"ticket": winning_ticket(win_prob=0)}, "did not win"),
        ({"ticket": winning_ticket(creation_round_block_hash=b"\x08" * 32)}, "block hash is wrong"),
        ({"ticket": winning_ticket(recipient=bytes(20))}, "recipient is null"),
    ]:
        with pytest.raises(TransactionFailed, match=words_):
            redeem(evm, **{"ticket": good, **wrong})
    evm.advance(2000, ROUND + 2, b"\x09" * 32)
    with pytest.raises(TransactionFailed, match="expired"):
        redeem(evm, good)


def test_the_draw_is_the_one_that_orchestrators_make(evm: Evm, broker: Any) -> None:
    won = 0
    for nonce in range(1, 13):
        ticket = winning_ticket(sender_nonce=nonce, face_value=1, win_prob=MAX_WIN_PROB // 2)
        signature = SENDER.sign(ticket.hash)
        if wins(signature, RAND, ticket.win_prob):
            redeem(evm, ticket)
            won += 1
        else:
            with pytest.raises(TransactionFailed, match="did not win"):
                redeem(evm, ticket)
    assert 0 < won < 12


def test_an_unlocked_sender_pays_nobody(evm: Evm, broker: Any) -> None:
    evm.give(SENDER.address, ETHER)
    send(evm, broker.functions.unlock())
    assert broker.functions.isUnlockInProgress(SENDER.address).call()
    evm.advance(9000, ROUND + UNLOCK_ROUNDS, BLOCK_HASH)
    with pytest.raises(TransactionFailed, match="sender is unlocked"):
        redeem(evm, winning_ticket(creation_round=ROUND + UNLOCK_ROUNDS))
    evm.fund(SENDER.address, deposit=1, reserve=0)
    assert broker.functions.isUnlockInProgress(SENDER.address).call(), "another's money cancels nothing"
    send(evm, broker.functions.cancelUnlock())
    assert not broker.functions.isUnlockInProgress(SENDER.address).call()
    send(evm, broker.functions.unlock())
    send(evm, broker.functions.fundDepositAndReserve(1, 0), value=1)
    assert not broker.functions.isUnlockInProgress(SENDER.address).call(), "one's own money cancels it"


def test_the_pool_is_walked_from_the_first_to_nobody(evm: Evm) -> None:
    bonding = evm.contracts["BondingManager"].functions
    accounts = [Account(bytes([n]) * 32).address for n in (1, 2, 3)]
    for account in accounts:
        evm.register(account, f"https://{account}.example:8935")
    evm.transact(bonding.leave(accounts[0]))
    walked, here = [], bonding.getFirstTranscoderInPool().call()
    while here != ZERO_ADDRESS:
        walked.append(here)
        here = bonding.getNextTranscoderInPool(here).call()
    assert sorted(walked) == sorted(accounts[1:])
    assert bonding.getTranscoderPoolSize().call() == 2
    assert not bonding.isActiveTranscoder(accounts[0]).call()


def send(evm: Evm, function: Any, value: int = 0) -> None:
    """Send a contract's function as a transaction of the sender's."""
    nonce = evm.web3.eth.get_transaction_count(SENDER.address)
    plain = {"from": SENDER.address, "nonce": nonce, "gas": 200_000, "gasPrice": 10**10, "value": value}
    signed = evm.web3.eth.account.sign_transaction(function.build_transaction(plain), b"\x01" * 32)
    evm.web3.eth.wait_for_transaction_receipt(evm.web3.eth.send_raw_transaction(signed.raw_transaction))


def _discard() -> Any:
    from web3.logs import DISCARD

    return DISCARD
