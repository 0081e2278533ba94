"""Verdicts: whether a stream may use an orchestrator or server, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Whether a candidate may be used, or is."""

    CHOSEN = "chosen"
    """The stream's job runs there."""
    AVAILABLE = "available"
    """A job may be opened there."""
    PRICE_ABOVE_MAX = "price_above_max"
    NO_CAPACITY = "no_capacity"
    UNREACHABLE = "unreachable"
    MODEL_NOT_OFFERED = "model_not_offered"
    BAD_PARAMS = "bad_params"
    """The stream's parameters are invalid there."""
    BAD_ANSWER = "bad_answer"
    SET_ASIDE = "set_aside"
    """Suspended, or left out for this stream, after a failure."""
    UNFUNDED = "unfunded"
    """It would refuse tickets: the signer's funds on chain do not cover them."""
    BAD_TICKET_PARAMS = "bad_ticket_params"
    """Its tickets are larger than the operator allows, or so small that no stream could be paid."""
    BLOCKED = "blocked"
    """The operator's block list names it."""
    UNTRUSTED = "untrusted"
    """It has delivered little, and has as many starts as that allows: a stream may wait for its turn."""
    ADDRESS_CHANGED = "address_changed"
    """It was paid under another address before."""


USABLE = frozenset({Verdict.CHOSEN, Verdict.AVAILABLE})


@dataclass(slots=True, kw_only=True)
class Judged:
    """A candidate's verdict, and the reason for it."""

    verdict: Verdict = Verdict.AVAILABLE
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether a job may be opened there."""
        return self.verdict in USABLE

    @property
    def admissible(self) -> bool:
        """Whether a job may be opened there, now or in its turn."""
        return self.usable or self.verdict is Verdict.UNTRUSTED

    def set_verdict(self, verdict: Verdict, detail: str = "") -> None:
        """Replace the verdict; `detail` is the reason why a job does not run there."""
        self.verdict, self.detail = verdict, detail
