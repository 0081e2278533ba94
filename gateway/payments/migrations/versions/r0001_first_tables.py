"""Sessions, payments and their steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("stream_id", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("sender", sa.String(42), nullable=False),
        sa.Column("orchestrator_address", sa.String(42), nullable=False),
        sa.Column("orchestrator_url", sa.Text, nullable=False),
        sa.Column("orchestrator_addr", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("ceiling", sa.Text),
        sa.Column("interval_ns", sa.BigInteger, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("monotonic_ns", sa.BigInteger, nullable=False),
    )
    op.create_index("sessions_stream_id", "sessions", ["stream_id"])
    op.create_table(
        "payments",
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("session_id", sa.String(32), sa.ForeignKey("sessions.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("manifest_id", sa.Text, nullable=False),
        sa.Column("tickets", sa.Integer, nullable=False),
        sa.Column("face_value", sa.Text, nullable=False),
        sa.Column("win_prob", sa.Text, nullable=False),
        sa.Column("ticket_ev", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("first_nonce", sa.BigInteger, nullable=False),
        sa.Column("last_nonce", sa.BigInteger, nullable=False),
        sa.Column("recipient_rand_hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("session_id", "number"),
    )
    op.create_table(
        "steps",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("session_id", sa.String(32), sa.ForeignKey("sessions.id"), nullable=False),
        sa.Column("payment_id", sa.String(48)),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("monotonic_ns", sa.BigInteger, nullable=False),
    )
    op.create_index("steps_session", "steps", ["session_id"])
    op.create_index("steps_payment", "steps", ["payment_id"])
