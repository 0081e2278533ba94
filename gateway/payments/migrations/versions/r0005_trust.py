"""What each paid address has delivered, and whom each orchestrator was paid as."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orchestrators",
        sa.Column("address", sa.String(42), primary_key=True),
        sa.Column("paid", sa.Text, nullable=False),
        sa.Column("delivered_ms", sa.BigInteger, nullable=False),
        sa.Column("starts", sa.BigInteger, nullable=False),
        sa.Column("empty_starts", sa.BigInteger, nullable=False),
        sa.Column("lasted", sa.Integer, nullable=False),
        sa.Column("faults", sa.Integer, nullable=False),
        sa.Column("suspended_until_ns", sa.BigInteger, nullable=False),
        sa.Column("forgivable", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "paid_addresses",
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("address", sa.String(42), nullable=False),
    )
