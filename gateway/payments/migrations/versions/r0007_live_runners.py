"""By which of the signer's rules a session is paid, and the app of a live runner."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("payment_type", sa.String(8), nullable=False, server_default="lv2v"))
    op.add_column("sessions", sa.Column("app", sa.Text, nullable=False, server_default=""))
