"""A sender's redeemed tickets as the chain has them, in the ledger, linked to their payments."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Insert, and_, delete, func, insert, select

from gateway.payments.books import day_of, signed_wall_ns
from gateway.payments.database import Database
from gateway.payments.schema import (
    RAND_START_BYTES,
    chain_checkpoints,
    draws,
    payments,
    rand_start,
    redemptions,
    sessions,
)

KEPT_CHECKPOINTS = 64


@dataclass(frozen=True, slots=True)
class FollowedSender:
    """The sender whose redemptions are read, and the Controller of its network: addresses as 0x text."""

    controller: str
    sender: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A block up to which the chain was read, and its hash (0x..) at that time."""

    block: int
    block_hash: str


@dataclass(frozen=True, slots=True)
class Redemption:
    """A winning ticket that the chain paid; `amount` is in wei and at most `face_value`."""

    transaction_hash: str
    log_index: int
    block: int
    block_hash: str
    recipient: str
    face_value: int
    win_prob: int
    sender_nonce: int
    recipient_rand_hash: str
    aux: str
    amount: int


@dataclass(frozen=True, slots=True)
class TicketsHandedOut:
    """Tickets that were sent to an orchestrator, of one UTC day (of signing) and about one chance to win.

    The sums over them are exact, p being a ticket's win probability as an integer over 2^256 - 1.
    """

    orchestrator: str
    day: str
    tickets: int
    win_probs: int
    """Of p."""
    value: int
    """Of face value x p: their expected value in 1/(2^256 - 1) wei."""
    variance: int
    """Of face value^2 x p x (2^256 - 1 - p)."""


@dataclass(frozen=True, slots=True)
class Win:
    """A redeemed ticket; `day` is its payment's.

    `known` is False where the ledger has no such payment: `day` is then when the redemption was read.
    """

    orchestrator: str
    day: str
    amount: int
    known: bool


Write = Callable[..., Awaitable[None]]


class RedemptionBook:
    """The ledger's mirror of the chain. `write` executes statements in one transaction; None only reads."""

    def __init__(self, database: Database, write: Write | None = None) -> None:
        self._database = database
        self._write = write

    async def checkpoints(self, followed: FollowedSender) -> list[Checkpoint]:
        """The blocks up to which the chain was read, newest first."""
        query = (
            select(chain_checkpoints.c.block, chain_checkpoints.c.block_hash)
            .where(_of(chain_checkpoints, followed))
            .order_by(chain_checkpoints.c.block.desc())
        )
        return [Checkpoint(**row) for row in await self._database.rows(query)]

    async def take(
        self,
        followed: FollowedSender,
        found: Sequence[Redemption],
        checkpoint: Checkpoint,
        *,
        forget_after: int | None = None,
    ) -> list[Redemption]:
        """Add the redemptions up to a checkpoint, in one transaction. Returns the new ones.

        `forget_after` first deletes those of later blocks, which a reorganisation removed from the chain.
        """
        assert self._write is not None
        known = [known.block for known in await self.checkpoints(followed)]
        statements: list[Insert | Delete] = []
        if forget_after is not None:
            statements += [
                delete(table).where(_of(table, followed), table.c.block > forget_after)
                for table in (redemptions, chain_checkpoints)
            ]
            known = [block for block in known if block <= forget_after]
        fresh = await self._fresh(found, forget_after)
        for one in fresh:
            statements.append(delete(redemptions).where(_same(one)))
            statements.append(await self._row(followed, one))
        old = known[KEPT_CHECKPOINTS - 1 :]
        if old:
            outdated = chain_checkpoints.c.block <= max(old)
            statements.append(delete(chain_checkpoints).where(_of(chain_checkpoints, followed), outdated))
        if checkpoint.block not in known:
            row = insert(chain_checkpoints).values(
                controller=followed.controller,
                sender=followed.sender,
                block=checkpoint.block,
                block_hash=checkpoint.block_hash,
                wall_ns=time.time_ns(),
            )
            statements.append(row)
        await self._write(*statements)
        return fresh

    async def _fresh(self, found: Sequence[Redemption], forget_after: int | None) -> list[Redemption]:
        """Those that are not in the ledger, or will be deleted, or were in another block."""
        place = redemptions.c.transaction_hash, redemptions.c.log_index, redemptions.c.block_hash
        query = select(*place).where(place[0].in_({one.transaction_hash for one in found}))
        if forget_after is not None:
            query = query.where(redemptions.c.block <= forget_after)
        known = {tuple(row.values()) for row in await self._database.rows(query)}
        return [one for one in found if (one.transaction_hash, one.log_index, one.block_hash) not in known]

    async def _row(self, followed: FollowedSender, one: Redemption) -> Insert:
        payment_id, signed_wall_ns = await self._payment_of(one)
        return insert(redemptions).values(
            **{name: getattr(one, name) for name in Redemption.__slots__},
            controller=followed.controller,
            sender=followed.sender,
            payment_id=payment_id,
            signed_wall_ns=signed_wall_ns,
            wall_ns=time.time_ns(),
        )

    async def _payment_of(self, one: Redemption) -> tuple[str | None, int | None]:
        """The payment with the ticket: same recipientRandHash, a range of nonces with this one.

        Its session's id with its number, and when it was signed; None where there is no such payment.
        """
        if one.sender_nonce >= 1 << 63:
            return None, None
        rand_hash = bytes.fromhex(one.recipient_rand_hash)
        query = (
            select(payments.c.number, payments.c.wall_ns, payments.c.course, sessions.c.id)
            .join(sessions, sessions.c.number == payments.c.session)
            .where(
                rand_start == rand_hash[:RAND_START_BYTES],
                payments.c.recipient_rand_hash == rand_hash,
                payments.c.first_nonce <= one.sender_nonce,
                payments.c.last_nonce >= one.sender_nonce,
                func.lower(sessions.c.orchestrator_address) == one.recipient.lower(),
            )
            .order_by(payments.c.id.desc())
            .limit(1)
        )
        for row in await self._database.rows(query):
            return f"{row['id']}-{row['number']}", signed_wall_ns(row)
        return None, None

    async def rows(self) -> list[dict[str, Any]]:
        """All redemptions in the chain's order, each as a mapping of its columns."""
        query = select(redemptions).order_by(redemptions.c.block, redemptions.c.log_index)
        return await self._database.rows(query)

    async def handed_out(self, since_ns: int = 0) -> list[TicketsHandedOut]:
        """All tickets that were sent, whatever their outcome: they can be redeemed.

        `since_ns` (nanoseconds since 1970) leaves out the days before that one.
        """
        columns = (draws.c.day, draws.c.tickets, draws.c.win_probs, draws.c.value, draws.c.variance)
        query = select(draws.c.recipient.label("orchestrator"), *columns)
        query = query.where(draws.c.day >= day_of(since_ns)).order_by(draws.c.day)
        return [TicketsHandedOut(**row) for row in await self._database.rows(query)]

    async def wins(self, since_ns: int = 0) -> list[Win]:
        """All redemptions, each with the day of its payment, from `since_ns` (nanoseconds since 1970) on."""
        signed, read = redemptions.c.signed_wall_ns, redemptions.c.wall_ns
        day = func.coalesce(signed, read)
        query = select(redemptions.c.recipient, redemptions.c.amount, signed, read).where(day >= since_ns)
        return [
            Win(
                row["recipient"],
                day_of(row["wall_ns"] if row["signed_wall_ns"] is None else row["signed_wall_ns"]),
                int(row["amount"]),
                known=row["signed_wall_ns"] is not None,
            )
            for row in await self._database.rows(query)
        ]


def _of(table: Any, followed: FollowedSender) -> Any:
    return and_(table.c.controller == followed.controller, table.c.sender == followed.sender)


def _same(one: Redemption) -> Any:
    return and_(
        redemptions.c.transaction_hash == one.transaction_hash, redemptions.c.log_index == one.log_index
    )
