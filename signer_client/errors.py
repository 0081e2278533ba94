"""What a remote signer can answer instead of what was asked for."""

from __future__ import annotations


class SignerError(Exception):
    """Anything that kept a signer from giving what was asked for."""


class SignerUnreachable(SignerError):
    """No whole answer came: refused, reset or timed out. The request may have been processed."""


class SignerBadAnswer(SignerError):
    """An answer came that is not the protocol's: a field missing, of another type, too large."""


class SignerStatusError(SignerError):
    """The signer answered with a status other than 200; `message` is its own word for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the signer answered {status}: {message}" if message else f"status {status}")
        self.status = status
        self.message = message


class BadRequest(SignerStatusError):
    """400: malformed, a state that does not fit, over 100 tickets, or ticket params beyond its limits.

    The same request never succeeds later.
    """


class RefreshNeeded(SignerStatusError):
    """480: ticket params or auth token are about to expire. Fetch OrchestratorInfo anew, keep the state."""

    def __init__(self, status: int, message: str, orchestrator_url: str | None) -> None:
        super().__init__(status, message)
        self.orchestrator_url = orchestrator_url
        """The orchestrator to ask, where the signer named it."""


class PriceExceeded(SignerStatusError):
    """481: the price is above the configured, the requested or the session's first one."""


class NoTicketsNeeded(SignerStatusError):
    """482: the balance still covers the elapsed time. Keep the state, ask again later."""


class SignerUnavailable(SignerStatusError):
    """500, 502, 503: the signer or what it depends on failed. May pass: repeat with backoff."""


class Rejected(SignerStatusError):
    """Any other status, as the signer's auth webhook relayed it: 401, 403, 483 (insufficient balance)."""
