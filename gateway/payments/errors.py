"""What can go wrong with a ledger, and whose fault it is: a row's, the database's, or a pooler's between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

POOLER = (
    "the ledger's database is behind a pooler that gives each transaction another connection: "
    "-ledger needs a direct connection, or a pooler in session mode"
)
_ROW_CLASSES = ("21", "22", "23", "54")
"""Classes of SQLSTATE that a single row causes: cardinality, data, integrity, a value that is too long."""
_POOLER_STATES = ("26000", "42P05")
"""A prepared statement that is not there, or is there already: another connection's."""


class LedgerError(Exception):
    """The ledger cannot be opened, read or written; the text is a sentence for people."""


class LedgerBusy(LedgerError):
    """Another gateway uses the ledger."""


class SessionTakenOver(LedgerError):
    """Another node, or another run of this one, goes on with the session: nothing may be paid for it here."""


class LedgerUnavailable(LedgerError):
    """The database fails: full disk, locked file, server out of reach. A later try may succeed."""


@contextmanager
def translated() -> Iterator[None]:
    """The database's errors as LedgerError, those that concern the database itself as LedgerUnavailable."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise LedgerError(f"the ledger refused a row: {error.orig or error}") from error
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        state = str(getattr(cause, "sqlstate", "") or "")
        if state in _POOLER_STATES:
            raise LedgerUnavailable(POOLER) from error
        # asyncpg calls a value that it cannot encode a mistake in the use of its interface
        if state[:2] in _ROW_CLASSES or isinstance(cause.__cause__, ValueError):
            raise LedgerError(f"the ledger refused a row: {cause}") from error
        raise LedgerUnavailable(f"the ledger failed: {cause}") from error
    except (OverflowError, UnicodeError) as error:  # a value that SQLite's driver cannot encode
        raise LedgerError(f"the ledger refused a row: {error}") from error
    except OSError as error:
        raise LedgerUnavailable(f"the ledger failed: {error.strerror or error}") from error
