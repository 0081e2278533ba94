"""A sender's redeemed tickets as the chain has them, in the ledger, linked to their payments."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Insert, and_, case, delete, func, insert, select

from gateway.payments.database import Database
from gateway.payments.ledger_reader import utc
from gateway.payments.schema import Step, chain_checkpoints, payments, redemptions, sessions, steps

KEPT_CHECKPOINTS = 64
ROWS_AT_ONCE = 500
"""Rows of a long result that are read before the event loop runs other tasks."""


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
    """The tickets of one payment that an orchestrator has; `day` is the UTC day of the signing."""

    orchestrator: str
    day: str
    tickets: int
    face_value: int
    win_prob: int


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
        async with self._database.reading() as connection:
            return [Checkpoint(*row) for row in await connection.execute(query)]

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
        async with self._database.reading() as connection:
            known = {tuple(row) for row in await connection.execute(query)}
        return [one for one in found if (one.transaction_hash, one.log_index, one.block_hash) not in known]

    async def _row(self, followed: FollowedSender, one: Redemption) -> Insert:
        return insert(redemptions).values(
            **{name: getattr(one, name) for name in Redemption.__slots__},
            controller=followed.controller,
            sender=followed.sender,
            payment_id=await self._payment_of(one),
            wall_ns=time.time_ns(),
        )

    async def _payment_of(self, one: Redemption) -> str | None:
        """The id of the payment with the ticket: same recipientRandHash, a range of nonces with this one."""
        if one.sender_nonce >= 1 << 63:
            return None
        query = (
            select(payments.c.id)
            .join(sessions, sessions.c.id == payments.c.session_id)
            .where(
                payments.c.recipient_rand_hash == one.recipient_rand_hash,
                payments.c.first_nonce <= one.sender_nonce,
                payments.c.last_nonce >= one.sender_nonce,
                func.lower(sessions.c.orchestrator_address) == one.recipient.lower(),
            )
            .order_by(sessions.c.wall_ns.desc(), payments.c.number.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            found: str | None = (await connection.execute(query)).scalar()
        return found

    async def rows(self) -> list[dict[str, Any]]:
        """All redemptions in the chain's order, each as a mapping of its columns."""
        query = select(redemptions).order_by(redemptions.c.block, redemptions.c.log_index)
        async with self._database.reading() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def handed_out(self, since_ns: int = 0) -> list[TicketsHandedOut]:
        """The tickets of every payment that was sent, whatever the answer: they can be redeemed.

        `since_ns` (Unix time) leaves out those signed before.
        """
        signed = _first(Step.SIGNED).label("signed_ns")
        taken = (
            select(steps.c.payment_id, signed)
            .where(steps.c.wall_ns >= since_ns)
            .group_by(steps.c.payment_id)
            .having(func.max(case((steps.c.step == Step.DELIVERED, 1), else_=0)) == 1)
            .subquery()
        )
        query = (
            select(
                sessions.c.orchestrator_address,
                taken.c.signed_ns,
                payments.c.tickets,
                payments.c.face_value,
                payments.c.win_prob,
            )
            .join(sessions, sessions.c.id == payments.c.session_id)
            .join(taken, and_(taken.c.payment_id == payments.c.id, taken.c.signed_ns.is_not(None)))
        )
        async with self._database.reading() as connection:
            return [
                TicketsHandedOut(address, _day(ns), tickets, int(face), int(probability))
                async for rows in (await connection.stream(query)).partitions(ROWS_AT_ONCE)
                for address, ns, tickets, face, probability in rows
            ]

    async def wins(self, since_ns: int = 0) -> list[Win]:
        """All redemptions, each with the day that it counts for, since `since_ns` (Unix time)."""
        signed = (
            select(steps.c.payment_id, _first(Step.SIGNED).label("signed_ns"))
            .group_by(steps.c.payment_id)
            .subquery()
        )
        query = select(
            redemptions.c.recipient, redemptions.c.amount, redemptions.c.wall_ns, signed.c.signed_ns
        ).outerjoin(signed, signed.c.payment_id == redemptions.c.payment_id)
        query = query.where(func.coalesce(signed.c.signed_ns, redemptions.c.wall_ns) >= since_ns)
        async with self._database.reading() as connection:
            return [
                Win(recipient, _day(seen if paid is None else paid), int(amount), paid is not None)
                async for rows in (await connection.stream(query)).partitions(ROWS_AT_ONCE)
                for recipient, amount, seen, paid in rows
            ]


def _first(step: Step) -> Any:
    return func.min(case((steps.c.step == step, steps.c.wall_ns)))


def _day(wall_ns: int) -> str:
    return utc(wall_ns)[:10]


def _of(table: Any, followed: FollowedSender) -> Any:
    return and_(table.c.controller == followed.controller, table.c.sender == followed.sender)


def _same(one: Redemption) -> Any:
    return and_(
        redemptions.c.transaction_hash == one.transaction_hash, redemptions.c.log_index == one.log_index
    )
