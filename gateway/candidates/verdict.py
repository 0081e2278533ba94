"""Verdicts: whether a stream may use an orchestrator or server, and why not."""

from __future__ import annotations

from collections.abc import Iterable
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
    SIGNER_REFUSES_TYPE = "signer_refuses_type"
    """The signer makes no payments of the type that it is paid with."""
    ADDRESS_CHANGED = "address_changed"
    """It was paid under another address before."""


def reasons_of(passed_over: Iterable[tuple[str, Judged]]) -> list[str]:
    """Why none of these, each by its name, is used: a sentence each, and one for what a signer refuses."""
    reasons = [
        one.detail if one.verdict is Verdict.SIGNER_REFUSES_TYPE else f"{name}: {one.verdict}: {one.detail}"
        for name, one in passed_over
    ]
    return list(dict.fromkeys(reasons))


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
