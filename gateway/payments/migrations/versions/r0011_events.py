"""Events that wait for the operator's webhook, and who delivers them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "event_outbox",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("event_outbox_stream", "event_outbox", ["stream", "number"])
    op.create_table(
        "event_streams",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("stream_id", sa.Text, nullable=False),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
    )
    lease = op.create_table(
        "event_lease",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(lease, [{"name": "webhook", "holder": "", "until_ns": 0}])
