"""The index on recipientRandHash has the first bytes of each only: a third of the room."""

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
