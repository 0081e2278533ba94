"""Who gets the job: every orchestrator's verdict, and the order of those that may have it.

Plain logic on what is known; nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.candidates.verdict import Judged, Verdict
from gateway.money import text
from gateway.orchestrator.errors import NoCapacity, OrchestratorError, Unreachable
from gateway.orchestrator.info import OrchestratorInfo


@dataclass(slots=True)
class Candidate(Judged):
    """An orchestrator as one stream sees it when it looks for one.

    `addr` is where it is asked (gRPC), `url` where jobs go; `price` in wei per second, None where there is
    none; `ticket_ev` a ticket's expected value in wei; `rtt` in seconds, None before it answered.
    """

    addr: str
    url: str
    address: str = ""
    price: Fraction | None = None
    ticket_ev: Fraction | None = None
    warm: bool = False
    rtt: float | None = None

    def named(self, name: str) -> bool:
        """Whether an operator or a publisher means this one: by address, URL or Ethereum address."""
        return name.rstrip("/").lower() in (self.addr.lower(), self.url.lower(), self.address.lower())

    def json(self) -> dict[str, Any]:
        """As the status of a stream lists it."""
        return {
            "url": self.url,
            "price_wei_per_second": None if self.price is None else text(self.price),
            "verdict": str(self.verdict),
            "detail": self.detail,
        }


def judge(info: OrchestratorInfo, model: str, ceiling: Fraction | None) -> tuple[Verdict, str]:
    """Whether an orchestrator may have a job for `model`, and why not.

    `ceiling` is in wei per second and inclusive; None is a network where nothing is paid.
    """
    if not info.offers(model):
        return Verdict.MODEL_NOT_OFFERED, f"it does not offer the model {model}"
    if ceiling is None:
        if info.price or info.has_ticket_params:
            return Verdict.PRICE_ABOVE_MAX, "it wants to be paid, and there is no signer to pay with"
        return Verdict.AVAILABLE, ""
    if info.price is None or not info.has_ticket_params:
        return Verdict.BAD_ANSWER, "it names no price or no ticket params: it is not on the paid network"
    if info.price > ceiling:
        return (
            Verdict.PRICE_ABOVE_MAX,
            f"{text(info.price)} wei per second, above the ceiling of {text(ceiling)}",
        )
    if not info.price or not info.ticket_ev:
        return Verdict.BAD_ANSWER, "its price or its tickets' value is zero, which no signer pays"
    if not info.session_id:
        return Verdict.BAD_ANSWER, "it gave no auth token, without which no signer pays"
    return Verdict.AVAILABLE, ""


def verdict_of(error: OrchestratorError) -> Verdict:
    """The verdict on an orchestrator that answered a question with `error`."""
    if isinstance(error, NoCapacity):
        return Verdict.NO_CAPACITY
    return Verdict.UNREACHABLE if isinstance(error, Unreachable) else Verdict.BAD_ANSWER


def rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The usable ones first, best first; then the others by address.

    The one place that says what is better: a warm model, then the price, then the round trip.
    """
    judged = list(candidates)
    usable = sorted((c for c in judged if c.usable), key=_order)
    return usable + sorted((c for c in judged if not c.usable), key=lambda c: c.addr)


def _order(candidate: Candidate) -> tuple[bool, Fraction, float, str]:
    rtt = float("inf") if candidate.rtt is None else candidate.rtt
    return (not candidate.warm, candidate.price or Fraction(0), rtt, candidate.addr)
