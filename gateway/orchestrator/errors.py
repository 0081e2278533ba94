"""What can go wrong between the gateway and an orchestrator: everything that its client raises."""

from __future__ import annotations


class OrchestratorError(Exception):
    """A call to an orchestrator failed; `detail` is a sentence for people, without secrets."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Unreachable(OrchestratorError):
    """No connection, or a question that is free to ask got no answer: nothing was processed that matters."""


class UnknownOutcome(OrchestratorError):
    """The request went out and no verdict came back (time-out, reset, 5xx): it may have been processed."""


class NoCapacity(OrchestratorError):
    """The orchestrator is well but has no room for another stream of this model."""


class AlreadySeen(OrchestratorError):
    """The payment's ticket nonces were seen before: it was credited at an earlier delivery."""


class Refused(OrchestratorError):
    """The orchestrator said no. `status` is the HTTP status, None over gRPC."""

    def __init__(self, status: int | None, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class BadAnswer(OrchestratorError):
    """The orchestrator said yes with something unusable. A payment answered so was credited."""
