"""Whom each session was for, and what that one is charged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

PREFIX = "customer "
"""Of publishers that were told apart by the auth webhook's customer."""


def upgrade() -> None:
    op.add_column("sessions", sa.Column("customer", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("markup", sa.Text))
    sessions = sa.table("sessions", sa.column("publisher", sa.Text), sa.column("customer", sa.Text))
    named = sa.func.substr(sessions.c.publisher, len(PREFIX) + 1)
    op.execute(sessions.update().where(sessions.c.publisher.startswith(PREFIX)).values(customer=named))
