"""The ledger's schema, one revision after the other (Alembic)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, inspect

from gateway.payments.errors import LedgerError

log = structlog.get_logger("ledger")

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent
FIRST_REVISION = "0001"
"""The schema of ledgers from before there were revisions."""


def migrate(connection: Connection) -> bool:
    """Migrate the schema to the newest revision. Gives whether there were rows to migrate.

    LedgerError where it is newer than this gateway.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config()
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current, newest = _revisions(connection), script.get_current_head()
    if current == (newest,):
        return False
    known = {revision.revision for revision in script.walk_revisions()}
    if not known.issuperset(current):
        raise LedgerError(
            f"the ledger has schema version {current[0]}, this gateway writes {newest}: use a newer gateway, "
            "or another -ledger"
        )
    has_rows = inspect(connection).has_table("sessions")
    if has_rows:
        log.info(
            "migrating the ledger, which may take minutes", version=current[0] if current else FIRST_REVISION
        )
    if has_rows and not current:
        command.stamp(config, FIRST_REVISION)
    command.upgrade(config, "head")
    return has_rows


def check_schema(connection: Connection) -> None:
    """LedgerError where the schema is not that of the newest revision."""
    from alembic.script import ScriptDirectory

    current, newest = _revisions(connection), ScriptDirectory.from_config(_config()).get_current_head()
    if current != (newest,):
        raise LedgerError(
            f"the ledger has schema version {', '.join(current) or 'none'}, this command reads {newest}: "
            "start this gateway once to migrate an older ledger, or use the gateway that wrote it"
        )


def _revisions(connection: Connection) -> tuple[str, ...]:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_heads()


def _config() -> Config:
    # alembic is imported in functions: it is needed once, at the start
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
