"""Errors of live runners, beside those that all orchestrators' calls share."""

from __future__ import annotations

from gateway.orchestrator.errors import NoCapacity, OrchestratorError, Refused, UnknownOutcome


class NoSuchSession(Refused):
    """The session is over, or was never reserved: nothing more is paid."""

    def __init__(self, detail: str, *, said: str = "") -> None:
        super().__init__(404, detail, said=said)


class SessionTaken(NoCapacity):
    """A session with this id is there already (409), or in livepeer/node's dialect there is no room."""


class AppRefused(OrchestratorError):
    """The app did not take what it was sent; `status` is its HTTP status."""

    def __init__(self, status: int, detail: str, *, said: str = "") -> None:
        super().__init__(detail, said=said)
        self.status = status


class AppAway(UnknownOutcome):
    """The orchestrator does not reach the app (502)."""
