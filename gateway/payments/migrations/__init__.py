"""The ledger's schema, one revision after the other (Alembic)."""
