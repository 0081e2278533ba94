"""Errors of the ledger."""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger cannot be opened, read or written; the text is a sentence for people."""


class LedgerBusy(LedgerError):
    """Another gateway uses the ledger."""


class LedgerUnavailable(LedgerError):
    """The database fails: full disk, locked file, server out of reach. A later try may succeed."""
