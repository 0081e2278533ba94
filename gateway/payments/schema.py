"""The ledger's tables. Rows of sessions, payments and steps are only ever added.

The types work in SQLite and PostgreSQL. A change here needs a revision in migrations/.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from typing_extensions import override


class Step(StrEnum):
    """What is about to happen to a payment, or what happened."""

    INTENDED = "intended"
    """The signer is about to be called for it."""
    SIGNED = "signed"
    """The signer made it: it exists, and the orchestrator does not have it."""
    DELIVERED = "delivered"
    """It is about to be sent to the orchestrator, for the first time or again."""
    CREDITED = "credited"
    REFUSED = "refused"
    """The orchestrator did not credit it, or it was not what had been asked for and was not sent."""
    UNKNOWN = "unknown"
    """No answer came: it may have been credited."""
    CLOSED = "closed"
    """The session is over; this step belongs to no payment."""


class Exact(TypeDecorator[Fraction]):
    """An exact number as text: decimal digits, or `n/d` in lowest terms."""

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: Fraction | int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(Fraction(value))

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> Fraction | None:
        return None if value is None else Fraction(value)


metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("run", String(32), nullable=False),
    Column("stream", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("sender", String(42), nullable=False),
    Column("orchestrator_address", String(42), nullable=False),
    Column("orchestrator_url", Text, nullable=False),
    Column("orchestrator_addr", Text, nullable=False),
    Column("price", Exact, nullable=False),
    Column("ceiling", Exact),
    Column("interval_ns", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
    Index("sessions_stream_id", "stream_id"),
)

payments = Table(
    "payments",
    metadata,
    Column("id", String(48), primary_key=True),
    Column("session_id", String(32), ForeignKey("sessions.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("manifest_id", Text, nullable=False),
    Column("tickets", Integer, nullable=False),
    Column("face_value", Exact, nullable=False),
    Column("win_prob", Exact, nullable=False),
    Column("ticket_ev", Exact, nullable=False),
    Column("value", Exact, nullable=False),
    Column("price", Exact, nullable=False),
    Column("first_nonce", BigInteger, nullable=False),
    Column("last_nonce", BigInteger, nullable=False),
    Column("recipient_rand_hash", String(64), nullable=False),
    UniqueConstraint("session_id", "number"),
    Index("payments_rand_hash", "recipient_rand_hash"),
)

steps = Table(
    "steps",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("session_id", String(32), ForeignKey("sessions.id"), nullable=False),
    Column("payment_id", String(48)),  # no foreign key: the step `intended` comes before its payment
    Column("step", String(16), nullable=False),
    Column("reason", Text),
    Column("detail", Text, nullable=False),
    Column("run", String(32), nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
    Column("owed", Exact),  # with the step `closed`: the fee for the time that the job ran
    Index("steps_session", "session_id"),
    Index("steps_payment", "payment_id"),
    Index("steps_step_wall", "step", "wall_ns"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("began_wall_ns", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
)
"""Times when the ledger could not be written; added when it could be again."""


redemptions = Table(
    "redemptions",
    metadata,
    Column("transaction_hash", String(66), primary_key=True),
    Column("log_index", Integer, primary_key=True, autoincrement=False),
    Column("controller", String(42), nullable=False),
    Column("block", BigInteger, nullable=False),
    Column("block_hash", String(66), nullable=False),
    Column("sender", String(42), nullable=False),
    Column("recipient", String(42), nullable=False),
    Column("face_value", Exact, nullable=False),
    Column("win_prob", Exact, nullable=False),
    Column("sender_nonce", Exact, nullable=False),
    Column("recipient_rand_hash", String(64), nullable=False),
    Column("aux", Text, nullable=False),
    Column("amount", Exact, nullable=False),
    Column("payment_id", String(48)),  # null: the ticket is of no payment in this ledger
    Column("wall_ns", BigInteger, nullable=False),
    Index("redemptions_block", "controller", "sender", "block"),
)
"""A mirror of the chain: what a reorganisation removes there is deleted here."""

chain_checkpoints = Table(
    "chain_checkpoints",
    metadata,
    Column("controller", String(42), primary_key=True),
    Column("sender", String(42), primary_key=True),
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("block_hash", String(66), nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
)
"""Blocks up to which the chain was read, with the hashes that they had then."""
