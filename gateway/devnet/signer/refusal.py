"""Why a signer does not answer with a payment; the server knows each one's HTTP status."""

from __future__ import annotations


class Refusal(Exception):
    """A call that is answered without a payment and without a state; the text says why."""


class BadRequest(Refusal):
    """The call can never succeed as it is."""


class RefreshNeeded(Refusal):
    """The ticket params or the auth token are about to expire; `orchestrator` is who gives new ones."""

    def __init__(self, message: str, orchestrator: str) -> None:
        super().__init__(message)
        self.orchestrator = orchestrator


class PriceExceeded(Refusal):
    """The price is above what the configuration, the call or the session's first payment allows."""


class NoTicketsNeeded(Refusal):
    """The balance still covers the time since the last payment."""


class SigningFailed(Refusal):
    """The tickets cannot be made for a reason that is the signer's own."""
