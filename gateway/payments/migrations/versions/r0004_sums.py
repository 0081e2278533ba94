"""One row a payment, sums beside it that stay: see schema.py."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.payments.migrations.r0004_rows import copy_rows

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OLD = ("sessions", "payments", "steps")
_OUTCOMES = ("credited", "handed_out", "uncertain", "refused", "unspent")


def upgrade() -> None:
    _put_aside()
    _create_sessions()
    _create_payments()
    _create_sums()
    op.add_column("redemptions", sa.Column("signed_wall_ns", sa.BigInteger))
    copy_rows(op.get_bind())
    for table in reversed(_OLD):
        op.drop_table(f"old_{table}")
    # indexes are made of all rows at once, which is faster and smaller; so are references checked
    if op.get_bind().dialect.name == "postgresql":
        op.create_foreign_key(None, "payments", "sessions", ["session"], ["number"])
    op.create_index("sessions_stream", "sessions", ["stream"])
    op.create_index("sessions_stream_id", "sessions", ["stream_id"])
    is_open = sa.text("closed_wall_ns IS NULL")
    op.create_index("sessions_open", "sessions", ["number"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index("payments_session", "payments", ["session", "number"], unique=True)
    op.create_index("signings_session", "signings", ["session"])


def _put_aside() -> None:
    for index, table in (
        ("sessions_stream_id", "sessions"),
        ("payments_rand_hash", "payments"),
    ):
        op.drop_index(index, table)
    for table in _OLD:
        op.rename_table(table, f"old_{table}")


def _row_id(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        _row_id("number"),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("stream_id", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("sender", sa.String(42), nullable=False),
        sa.Column("orchestrator_address", sa.String(42), nullable=False),
        sa.Column("orchestrator_url", sa.Text, nullable=False),
        sa.Column("orchestrator_addr", sa.Text, nullable=False),
        sa.Column("manifest_id", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("ceiling", sa.Text),
        sa.Column("interval_ns", sa.BigInteger, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("monotonic_ns", sa.BigInteger, nullable=False),
        sa.Column("asked_number", sa.Integer),
        sa.Column("asked_wall_ns", sa.BigInteger),
        sa.Column("asked_monotonic_ns", sa.BigInteger),
        sa.Column("closed_wall_ns", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("owed", sa.Text),
    )


def _create_payments() -> None:
    references = [] if op.get_bind().dialect.name == "postgresql" else [sa.ForeignKey("sessions.number")]
    op.create_table(
        "payments",
        _row_id("id"),
        sa.Column("first_nonce", sa.BigInteger, nullable=False),
        sa.Column("last_nonce", sa.BigInteger, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("monotonic_ns", sa.BigInteger, nullable=False),
        sa.Column("session", sa.Integer, *references, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("tickets", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("face_value", sa.LargeBinary, nullable=False),
        sa.Column("win_prob", sa.LargeBinary, nullable=False),
        sa.Column("recipient_rand_hash", sa.LargeBinary, nullable=False),
        sa.Column("price", sa.Text),
        sa.Column("course", sa.Text, nullable=False),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_table(
        "signings",
        _row_id("id"),
        sa.Column("session", sa.Integer, sa.ForeignKey("sessions.number"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("most", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
    )


def _create_sums() -> None:
    op.create_table(
        "session_days",
        sa.Column("session", sa.Integer, sa.ForeignKey("sessions.number"), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("payments", sa.Integer, nullable=False),
        sa.Column("tickets", sa.Integer, nullable=False),
        *(sa.Column(outcome, sa.LargeBinary, nullable=False) for outcome in _OUTCOMES),
    )
    op.create_table(
        "draws",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("recipient", sa.String(42), primary_key=True),
        sa.Column("chance", sa.String(8), primary_key=True),
        sa.Column("tickets", sa.BigInteger, nullable=False),
        sa.Column("win_probs", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("variance", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "minutes",
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("publisher", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
