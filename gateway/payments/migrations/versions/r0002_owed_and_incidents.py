"""What a closed session owed; when the ledger itself could not be written; signings by their time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("owed", sa.Text))
    op.create_index("steps_step_wall", "steps", ["step", "wall_ns"])
    op.create_table(
        "incidents",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("began_wall_ns", sa.BigInteger, nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("monotonic_ns", sa.BigInteger, nullable=False),
    )
    # ledgers from before there were revisions numbered their schema in a table
    op.execute("DROP TABLE IF EXISTS schema_version")
