"""Tickets that win, and their redemption, for tests on a chain."""

from __future__ import annotations

from typing import Any

from eth_hash.auto import keccak

from gateway.devnet.account import Account
from gateway.devnet.chain.evm import ETHER, Evm
from gateway.payments.ticket import MAX_WIN_PROB, Ticket

ROUND, BLOCK_HASH = 7, b"\x07" * 32
SENDER, ORCHESTRATOR = Account(b"\x01" * 32), Account(b"\x02" * 32)
RAND = 1234
RAND_HASH = keccak(RAND.to_bytes(32, "big"))


def on_chain(ticket: Ticket) -> tuple[Any, ...]:
    return (
        ticket.recipient,
        ticket.sender,
        ticket.face_value,
        ticket.win_prob,
        ticket.sender_nonce,
        ticket.recipient_rand_hash,
        ticket.aux,
    )


def winning_ticket(**changes: Any) -> Ticket:
    fields = {
        "recipient": ORCHESTRATOR.raw_address,
        "sender": SENDER.raw_address,
        "face_value": ETHER,
        "win_prob": MAX_WIN_PROB,
        "sender_nonce": 1,
        "recipient_rand_hash": RAND_HASH,
        "creation_round": ROUND,
        "creation_round_block_hash": BLOCK_HASH,
    }
    return Ticket(**{**fields, **changes})


def redeem(evm: Evm, ticket: Ticket, signature: bytes | None = None, rand: int = RAND) -> Any:
    signature = SENDER.sign(ticket.hash) if signature is None else signature
    broker = evm.contracts["TicketBroker"]
    return evm.transact(broker.functions.redeemWinningTicket(on_chain(ticket), signature, rand))
