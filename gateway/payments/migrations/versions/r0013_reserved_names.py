"""Until when the name of a created stream is its owner's: as long as the oldest of its tokens are good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LEEWAY = 10
"""Seconds for which a token is accepted after it has expired."""


def upgrade() -> None:
    op.add_column(
        "created_streams", sa.Column("reserved_until", sa.BigInteger, nullable=False, server_default="0")
    )
    streams = sa.table("created_streams", sa.column("expires"), sa.column("reserved_until"))
    op.execute(streams.update().values(reserved_until=streams.c.expires + LEEWAY))
    op.drop_index("created_streams_expires", "created_streams")
    op.create_index("created_streams_reserved", "created_streams", ["reserved_until"])
