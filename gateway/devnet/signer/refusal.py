"""Reasons for refusing a call; `server.py` maps them to statuses."""

from __future__ import annotations


class SignerRefusal(Exception):
    """A call answered without payment and state; the text says why."""


class BadRequest(SignerRefusal):
    """The call is invalid and cannot succeed unchanged."""


class RefreshNeeded(SignerRefusal):
    """The ticket params or the auth token are about to expire; `orchestrator` gives new ones."""

    def __init__(self, message: str, orchestrator: str) -> None:
        super().__init__(message)
        self.orchestrator = orchestrator


class PriceExceeded(SignerRefusal):
    """The price is above what the configuration, the call or the session's first payment allows."""


class NoTicketsNeeded(SignerRefusal):
    """The balance still covers the time since the last payment."""


class SigningFailed(SignerRefusal):
    """The signer cannot make the tickets, for a reason of its own."""
