"""Run by Alembic: brings the ledger at the connection that it is given to the wanted revision."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
