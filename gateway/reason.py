"""Why a stream or a job ended: one enum for log, status, metric, webhook and ledger."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class EndReason(StrEnum):
    PUBLISHER_LEFT = "publisher_left"
    DELETED = "deleted"
    INGEST_TIMEOUT = "ingest_timeout"
    NO_KEY_FRAME = "no_key_frame"
    NO_ORCHESTRATOR = "no_orchestrator"
    PRICE_RAISED = "price_raised"
    PAYMENT_REFUSED = "payment_refused"
    SIGNER_UNREACHABLE = "signer_unreachable"
    SIGNER_REFUSED = "signer_refused"
    CREDIT_EXHAUSTED = "credit_exhausted"
    ORCHESTRATOR_LOST = "orchestrator_lost"
    SWAPS_EXHAUSTED = "swaps_exhausted"
    SPEND_LIMIT = "spend_limit"
    TIME_LIMIT = "time_limit"
    TERMINATED = "terminated"
    DRAINED = "drained"
    TAKEN_OVER = "taken_over"
    INTERNAL_ERROR = "internal_error"


class Ended(Exception):
    """The end of a stream or a job: the reason, and a sentence for people."""

    def __init__(self, reason: EndReason, detail: str) -> None:
        detail = detail or "no reason was given"
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def without_frames(self) -> Self:
        """Itself without traceback and cause, whose frames would keep a whole job in memory."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class NoRoom(Ended):
    """A job that did not start because there was no capacity: not a fault. Its payment is kept."""


class ParamsRefused(Ended):
    """A worker did not take the stream's parameters: another one may say the same, and none is to blame."""


class MoveAsked(Ended):
    """The operator wants the job elsewhere: no fault."""


class ChooseAgain(Ended):
    """A candidate's offer is no longer what it was chosen for: no fault, and nothing was paid."""
