"""Redeems winning tickets on chain, one transaction each, signed with the orchestrator's key."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from gateway.chain.errors import ChainError
from gateway.chain.importing import contained
from gateway.chain.reader import ChainReader
from gateway.devnet.orchestrator.tickets import WinningTicket

with contained():
    from eth_account import Account

log = structlog.get_logger("devnet.orchestrator")

MAX_WAITING = 1000
TRIES = 5
PAUSE = 1.0
"""Seconds between two attempts: the chain may not have initialised the newest round yet."""
GAS = 400_000

REDEEM = "redeemWinningTicket"
ABI: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": REDEEM,
        "stateMutability": "nonpayable",
        "outputs": [],
        "inputs": [
            {
                "name": "ticket",
                "type": "tuple",
                "components": [
                    {"name": "recipient", "type": "address"},
                    {"name": "sender", "type": "address"},
                    {"name": "faceValue", "type": "uint256"},
                    {"name": "winProb", "type": "uint256"},
                    {"name": "senderNonce", "type": "uint256"},
                    {"name": "recipientRandHash", "type": "bytes32"},
                    {"name": "auxData", "type": "bytes"},
                ],
            },
            {"name": "sig", "type": "bytes"},
            {"name": "recipientRand", "type": "uint256"},
        ],
    }
]


@dataclass(slots=True)
class Redemptions:
    """Counts of winning tickets. `dropped`: the queue was full."""

    redeemed: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0


class Redeemer:
    """`won` queues tickets without waiting; `run` redeems them one by one until cancelled.

    `key` is the orchestrator's; its account pays the gas on the chain that `reader` reads.
    """

    def __init__(self, reader: ChainReader, key: bytes) -> None:
        self._reader = reader
        self._account = Account.from_key(key)
        self._queue: asyncio.Queue[WinningTicket] = asyncio.Queue(MAX_WAITING)
        self._counts = Redemptions()

    def won(self, winning: WinningTicket) -> None:
        """Queue a winning ticket."""
        try:
            self._queue.put_nowait(winning)
        except asyncio.QueueFull:
            self._counts.dropped += 1

    def audit(self) -> dict[str, int]:
        """The counts so far."""
        self._counts.waiting = self._queue.qsize()
        return asdict(self._counts)

    async def run(self) -> None:
        while True:
            await self._redeem(await self._queue.get())

    async def _redeem(self, winning: WinningTicket) -> None:
        nonce = winning.ticket.sender_nonce
        for attempt in range(1, TRIES + 1):
            try:
                await self._send(winning)
            except ChainError as error:
                log.warning("redemption failed", nonce=nonce, tries=attempt, error=str(error))
                await asyncio.sleep(PAUSE)
            else:
                self._counts.redeemed += 1
                log.info("ticket redeemed", nonce=nonce, wei=str(winning.ticket.face_value))
                return
        self._counts.failed += 1

    async def _send(self, winning: WinningTicket) -> None:
        ticket, ask = winning.ticket, self._reader.endpoints.ask
        broker = await self._reader.contract("TicketBroker", ABI)
        call = broker.encode_abi(
            REDEEM,
            [
                (
                    ticket.recipient,
                    ticket.sender,
                    ticket.face_value,
                    ticket.win_prob,
                    ticket.sender_nonce,
                    ticket.recipient_rand_hash,
                    ticket.aux,
                ),
                winning.signature,
                winning.recipient_rand,
            ],
        )
        transaction = {
            "to": broker.address,
            "data": call,
            "gas": GAS,
            "gasPrice": 2 * int(await ask("eth_gasPrice", []), 16),
            "nonce": int(await ask("eth_getTransactionCount", [self._account.address, "latest"]), 16),
            "chainId": self._reader.endpoints.chain_id,
        }
        signed = self._account.sign_transaction(transaction)
        await ask("eth_sendRawTransaction", ["0x" + signed.raw_transaction.hex().removeprefix("0x")])
