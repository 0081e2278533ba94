"""What the chain says was redeemed, and how far it was followed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("payments_rand_hash", "payments", ["recipient_rand_hash"])
    op.create_table(
        "redemptions",
        sa.Column("transaction_hash", sa.String(66), primary_key=True),
        sa.Column("log_index", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("controller", sa.String(42), nullable=False),
        sa.Column("block", sa.BigInteger, nullable=False),
        sa.Column("block_hash", sa.String(66), nullable=False),
        sa.Column("sender", sa.String(42), nullable=False),
        sa.Column("recipient", sa.String(42), nullable=False),
        sa.Column("face_value", sa.Text, nullable=False),
        sa.Column("win_prob", sa.Text, nullable=False),
        sa.Column("sender_nonce", sa.Text, nullable=False),
        sa.Column("recipient_rand_hash", sa.String(64), nullable=False),
        sa.Column("aux", sa.Text, nullable=False),
        sa.Column("amount", sa.Text, nullable=False),
        sa.Column("payment_id", sa.String(48)),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
    )
    op.create_index("redemptions_block", "redemptions", ["controller", "sender", "block"])
    op.create_table(
        "chain_checkpoints",
        sa.Column("controller", sa.String(42), primary_key=True),
        sa.Column("sender", sa.String(42), primary_key=True),
        sa.Column("block", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("block_hash", sa.String(66), nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
    )
