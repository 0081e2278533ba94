"""Every error that the orchestrators' client raises."""

from __future__ import annotations


class OrchestratorError(Exception):
    """A call to an orchestrator failed; `detail` is a sentence for people, without secrets.

    `said` is what the orchestrator answered, for logs and the ledger only: anybody may read `detail`, and the
    answer may come from somewhere else than it seems.
    """

    def __init__(self, detail: str, *, said: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.said = said

    @property
    def full(self) -> str:
        """For the operator: `detail` and what the orchestrator answered."""
        return f"{self.detail}: {self.said}" if self.said else self.detail


class Unreachable(OrchestratorError):
    """No connection, or no answer to a call that costs nothing: nothing was processed."""


class UnknownOutcome(OrchestratorError):
    """The request went out and no clear answer came (time-out, reset, 5xx): it may have been processed."""


class NoCapacity(OrchestratorError):
    """The orchestrator works, but has no capacity for another stream with this model."""


class OfferChanged(OrchestratorError):
    """By its newest answer it would not be chosen any more."""


class PriceRaised(OfferChanged):
    """Its newest answer has a higher price than what it was chosen for."""


class AlreadySeen(OrchestratorError):
    """The payment's ticket nonces were seen before: an earlier delivery was credited."""


class Refused(OrchestratorError):
    """The orchestrator refused. `status` is the HTTP status, None over gRPC."""

    def __init__(self, status: int | None, detail: str, *, said: str = "") -> None:
        super().__init__(detail, said=said)
        self.status = status


class BadAnswer(OrchestratorError):
    """The orchestrator accepted, but its answer is unusable. A payment with such an answer is credited."""
