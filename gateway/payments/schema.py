"""The ledger's tables as they are now.

A payment is one row, which is updated as it goes through its steps; what it is worth is added to the sums
of its session and day in the same transaction. Payments are removed after a time, sums are not.

Wei that need not fit into 64 bits are bytes or text. Times are integer nanoseconds: those of the wall clock
since 1970, the monotonic ones comparable until the machine starts anew. The types are those that SQLite and
PostgreSQL share. A change here comes with a revision in migrations/, a new table too; what has to be written
in one transaction with a line goes through `Books`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine
from typing_extensions import override

from gateway.payments.steps import Outcome


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


class Unsigned(TypeDecorator[int]):
    """An integer of any size, 0 or more, as its big-endian bytes; 0 has none."""

    impl = LargeBinary
    cache_ok = True

    @override
    def process_bind_param(self, value: int | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.to_bytes((value.bit_length() + 7) // 8, "big")

    @override
    def process_result_value(self, value: bytes | None, dialect: Dialect) -> int | None:
        return None if value is None else int.from_bytes(value, "big")


class Sum(TypeDecorator[int]):
    """An integer of any size, 0 or more, that nodes add to: a number on PostgreSQL, else as `Unsigned`."""

    impl = Numeric
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(LargeBinary() if dialect.name == "sqlite" else Numeric())

    @override
    def process_bind_param(self, value: int | None, dialect: Dialect) -> bytes | Decimal | None:
        if dialect.name == "sqlite":
            return Unsigned().process_bind_param(value, dialect)
        return None if value is None else Decimal(value)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        if dialect.name == "sqlite":
            return Unsigned().process_result_value(value, dialect)
        return None if value is None else int(value)


_ROW = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("number", _ROW, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("run", String(32), nullable=False),
    Column("stream", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("payment_type", String(8), nullable=False, server_default="lv2v"),
    Column("app", Text, nullable=False, server_default=""),
    Column("sender", String(42), nullable=False),
    Column("orchestrator_address", String(42), nullable=False),
    Column("orchestrator_url", Text, nullable=False),
    Column("orchestrator_addr", Text, nullable=False),
    Column("manifest_id", Text, nullable=False),
    Column("price", Exact, nullable=False),
    Column("ceiling", Exact),
    Column("interval_ns", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
    Column("asked_number", Integer),
    Column("asked_wall_ns", BigInteger),
    Column("asked_monotonic_ns", BigInteger),
    Column("closed_wall_ns", BigInteger),
    Column("reason", Text),
    Column("detail", Text),
    Column("owed", Exact),
    Column("node", Text, nullable=False, server_default=""),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("customer", Text, nullable=False, server_default=""),
    Column("markup", Exact),
    Index("sessions_stream", "stream"),
    Index("sessions_stream_id", "stream_id"),
    Index(
        "sessions_open",
        "number",
        sqlite_where=text("closed_wall_ns IS NULL"),
        postgresql_where=text("closed_wall_ns IS NULL"),
    ),
)
"""One job on one orchestrator, whose `orchestrator_address` the tickets pay. `asked_..` is of the payment
that the signer was asked for last, `owed` the fee for the time that the job ran. `node` is whose it is in a
cluster; `epoch` is one more for each run that took it over (`session_key.py`). `customer` is whom it was for,
`markup` what that one is charged for a wei that was spent, none where it is what all are charged."""

payments = Table(
    "payments",
    metadata,
    Column("id", _ROW, primary_key=True),
    Column("first_nonce", BigInteger, nullable=False),
    Column("last_nonce", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
    Column("session", Integer, ForeignKey("sessions.number"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("tickets", SmallInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("face_value", Unsigned, nullable=False),
    Column("win_prob", Unsigned, nullable=False),
    Column("recipient_rand_hash", LargeBinary, nullable=False),
    Column("price", Exact),
    Column("course", Text, nullable=False),
    Index("payments_session", "session", "number", unique=True),
    # each update leaves a dead row behind, whose room is used again after the next VACUUM: that has little to
    # do, as nearly all such rows are on pages of their own time and in no index
    postgresql_with={"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "5000"},
)
"""One answer of the signer, in the order of signing. `state` is its last step, `course` all that came after
the signer was asked at `wall_ns` and `monotonic_ns`. `price` is none where it is the session's. Columns of a
fixed size come first: PostgreSQL aligns them."""

RAND_START_BYTES = 7
rand_start: ColumnElement[bytes] = func.substr(
    payments.c.recipient_rand_hash,
    literal_column("1"),
    literal_column(str(RAND_START_BYTES)),
    type_=LargeBinary,
)
"""The first bytes of recipientRandHash, by which payments are found; a search compares the whole hash too.
Not unique. An entry of its index takes 20 bytes on PostgreSQL; one of the whole hash takes 52."""
Index("payments_rand_start", rand_start)

signings = Table(
    "signings",
    metadata,
    Column("id", _ROW, primary_key=True),
    Column("session", Integer, ForeignKey("sessions.number"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("most", Exact),
    Column("detail", Text, nullable=False),
    Index("signings_session", "session"),
)
"""Calls to the signer that may be billed, and of which no payment is known. `most` is what the signer could
bill, in wei."""

session_days = Table(
    "session_days",
    metadata,
    Column("session", Integer, ForeignKey("sessions.number"), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("payments", Integer, nullable=False),
    Column("tickets", Integer, nullable=False),
    *(Column(outcome.value, Unsigned, nullable=False) for outcome in Outcome),
)
"""What a session's payments of one UTC day are worth, by outcome: in 1/(2^256 - 1) wei, so that the sums of
expected values stay whole. The day is that of the signing."""

draws = Table(
    "draws",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("recipient", String(42), primary_key=True),
    Column("chance", String(8), primary_key=True),
    Column("tickets", BigInteger, nullable=False),
    Column("win_probs", Sum, nullable=False),
    Column("value", Sum, nullable=False),
    Column("variance", Sum, nullable=False),
)
"""The tickets that a recipient was handed on one UTC day (of the signing), by their chance to win, rounded.
The sums over them are exact: of p, of face x p, and of face^2 x p x (2^256 - 1 - p), p being the win
probability as an integer."""

minutes = Table(
    "minutes",
    metadata,
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("publisher", Text, primary_key=True),
    Column("value", Sum, nullable=False),
)
"""What was signed in each minute since 1970 and not withheld, in 1/(2^256 - 1) wei: of the last days, for
the spend limits."""

holds = Table(
    "holds",
    metadata,
    Column("session", Integer, ForeignKey("sessions.number"), primary_key=True, autoincrement=False),
    Column("publisher", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("value", Sum, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("started_ns", BigInteger),
)
"""What the nodes of a cluster ask the signer for, up to a time by the wall clock: at most `value`, in
1/(2^256 - 1) wei. `started_ns` is when the session asked for its first payment (`holds.py`)."""

saved_jobs = Table(
    "saved_jobs",
    metadata,
    Column("session", Integer, ForeignKey("sessions.number"), primary_key=True, autoincrement=False),
    Column("progress", Text, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
)
"""What jobs with an open session need to go on in another run of the gateway (`saved_jobs.py`): secret."""

saved_details = Table(
    "saved_details",
    metadata,
    Column("session", Integer, ForeignKey("sessions.number"), primary_key=True, autoincrement=False),
    Column("details", Text, nullable=False),
)
"""The part of it that seldom changes: it may be large, and a row is written as a whole."""

incidents = Table(
    "incidents",
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("run", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("began_wall_ns", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
)
"""Times in which the ledger could not be written, noted when it could be again."""


created_streams = Table(
    "created_streams",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("customer", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("token_id", String(32), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("reserved_until", BigInteger, nullable=False, server_default="0"),
    Column("key", String(255), nullable=False),
    Column("asked", Text, nullable=False),
    Index("created_streams_owner", "owner", "key"),
    Index("created_streams_reserved", "reserved_until"),
)
"""Whose the names are of streams that the API created, while their tokens are good (`created_streams.py`)."""

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
    Column("payment_id", String(48)),
    Column("signed_wall_ns", BigInteger),
    Column("wall_ns", BigInteger, nullable=False),
    Index("redemptions_block", "controller", "sender", "block"),
)
"""A mirror of the chain: what a reorganisation takes back there is taken out here. `payment_id` (session id
and number) and `signed_wall_ns` are none where the ticket is of no payment in this ledger."""

orchestrators = Table(
    "orchestrators",
    metadata,
    Column("address", String(42), primary_key=True),
    Column("paid", Exact, nullable=False),
    Column("delivered_ms", BigInteger, nullable=False),
    Column("starts", BigInteger, nullable=False),
    Column("empty_starts", BigInteger, nullable=False),
    Column("lasted", Integer, nullable=False),
    Column("faults", Integer, nullable=False),
    Column("suspended_until_ns", BigInteger, nullable=False),
    Column("forgivable", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)
"""What each paid address has delivered, and its faults (`gateway/candidates/trust.py`)."""

paid_addresses = Table(
    "paid_addresses",
    metadata,
    Column("place", Text, primary_key=True),
    Column("address", String(42), nullable=False),
)
"""Whom the orchestrator at a host and port was last paid as."""

chain_checkpoints = Table(
    "chain_checkpoints",
    metadata,
    Column("controller", String(42), primary_key=True),
    Column("sender", String(42), primary_key=True),
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("block_hash", String(66), nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
)
"""Blocks up to which the chain was followed, with the hashes that they had then."""

event_outbox = Table(
    "event_outbox",
    metadata,
    Column("number", _ROW, primary_key=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("stream", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Index("event_outbox_stream", "stream", "number"),
    sqlite_autoincrement=True,
)
"""Events that wait for the webhook's server, by stream in the order of `number` (`event_outbox.py`)."""

event_streams = Table(
    "event_streams",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("node", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
)
"""Streams of which a `stream.created` was written and no `stream.ended`."""

event_lease = Table(
    "event_lease",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
)
"""Which node of a cluster delivers events, until a time by the database's clock."""
