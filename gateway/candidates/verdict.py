"""What becomes of somebody who could take a job: an orchestrator of the network, a server of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    AVAILABLE = "available"
    """As acceptable as the chosen one, and behind it in the order."""
    PRICE_ABOVE_MAX = "price_above_max"
    NO_CAPACITY = "no_capacity"
    UNREACHABLE = "unreachable"
    MODEL_NOT_OFFERED = "model_not_offered"
    BAD_PARAMS = "bad_params"
    """It cannot read the stream's parameters: a fault of the stream's."""
    BAD_ANSWER = "bad_answer"
    SET_ASIDE = "set_aside"
    UNFUNDED = "unfunded"
    """Tickets for it would be refused: the signer's funds on chain do not back them."""


USABLE = frozenset({Verdict.CHOSEN, Verdict.AVAILABLE})


@dataclass(slots=True, kw_only=True)
class Judged:
    """A candidate's verdict, and its reason in words."""

    verdict: Verdict = Verdict.AVAILABLE
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether a job may be started there."""
        return self.verdict in USABLE

    def choose(self) -> None:
        """Note that the job goes there."""
        self.verdict, self.detail = Verdict.CHOSEN, ""

    def passed_over(self, detail: str, verdict: Verdict = Verdict.SET_ASIDE) -> None:
        """Note why a job is not running there."""
        self.verdict, self.detail = verdict, detail
