"""Less room: an index on the first bytes of recipientRandHash; PostgreSQL cleans up after so many rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # a ledger from before 0004 came here without it: two indexes take longer than one
    op.drop_index("payments_rand_hash", "payments", if_exists=True)
    op.create_index("payments_rand_start", "payments", [sa.text("substr(recipient_rand_hash, 1, 7)")])
    if op.get_bind().dialect.name == "postgresql":
        settings = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000"
        op.execute(f"ALTER TABLE payments SET ({settings})")
