"""Errors of calls to a remote signer."""

from __future__ import annotations


class SignerError(Exception):
    """The base of all errors here."""


class SignerUnreachable(SignerError):
    """No complete answer: refused, reset or timed out. The signer may have processed the request.

    It did not where `sent` is False: there was no connection.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class SignerBadAnswer(SignerError):
    """The answer is not as the protocol says: a field is missing or of another type, or it is too large."""


class SignerStatusError(SignerError):
    """A status other than 200; `message` is the signer's text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the signer answered {status}: {message}" if message else f"status {status}")
        self.status = status
        self.message = message


class BadRequest(SignerStatusError):
    """400: malformed, a wrong state, more than 100 tickets, or ticket params beyond the signer's limits.

    The same request never succeeds later.
    """


class RefreshNeeded(SignerStatusError):
    """480: ticket params or auth token expire soon. Fetch newer OrchestratorInfo, keep the state."""

    def __init__(self, status: int, message: str, orchestrator_url: str | None) -> None:
        super().__init__(status, message)
        self.orchestrator_url = orchestrator_url
        """The orchestrator's URL, where the signer gave it."""


class PriceExceeded(SignerStatusError):
    """481: the price is above the signer's limit, `max_price`, or the session's first price."""


class NoTicketsNeeded(SignerStatusError):
    """482: the balance still covers the elapsed time. Keep the state, call again later."""


class SignerUnavailable(SignerStatusError):
    """A 5xx, or 408, 425, 429: the signer, or a server behind or before it, failed. Try again later."""


class Rejected(SignerStatusError):
    """Any other status, often from the signer's auth webhook: 401, 403, 483 (insufficient balance)."""
