"""Whose each session is, and what the nodes of a cluster hold of the limits that they share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SUMS = (("minutes", ("value",)), ("draws", ("win_probs", "value", "variance")))
"""Tables and columns that nodes add to: numbers there, where they were bytes."""
TO_NUMBER = """
    CREATE FUNCTION livepeer_to_number(bytes bytea) RETURNS numeric IMMUTABLE LANGUAGE plpgsql AS $$
    DECLARE number numeric := 0;
    BEGIN
        FOR place IN 0 .. length(bytes) - 1 LOOP
            number := number * 256 + get_byte(bytes, place);
        END LOOP;
        RETURN number;
    END $$
"""


def upgrade() -> None:
    op.add_column("sessions", sa.Column("node", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("epoch", sa.Integer, nullable=False, server_default="1"))
    on_server = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "holds",
        sa.Column("session", sa.Integer, sa.ForeignKey("sessions.number"), primary_key=True),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("value", sa.Numeric if on_server else sa.LargeBinary, nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
        sa.Column("started_ns", sa.BigInteger),
    )
    if not on_server:
        return
    op.execute(TO_NUMBER)
    for table, columns in SUMS:
        changes = (f"ALTER COLUMN {one} TYPE numeric USING livepeer_to_number({one})" for one in columns)
        op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
    op.execute("DROP FUNCTION livepeer_to_number(bytea)")
