"""Selection of an orchestrator: the verdict on each, and the order of the usable ones. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.candidates.verdict import Judged, Verdict
from gateway.money import text
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.errors import NoCapacity, OrchestratorError, Unreachable
from gateway.orchestrator.info import OrchestratorInfo

Refusal = tuple[Verdict, str]
"""Why an orchestrator is not used: its verdict, and the reason in words."""
Check = Callable[[Listing, OrchestratorInfo], Refusal | None]
"""A further check of an orchestrator, as it is listed and as it answered; None where it passes."""

NEAR = Fraction(103, 100)
"""Of the ceiling: prices up to it are likely the configured one with the cost of redeeming tickets."""
NEARLY = ": it may have the cost of redeeming tickets in it (autoAdjustPrice), so allow 1 to 2 % more"


@dataclass(slots=True)
class OrchestratorCandidate(Judged):
    """An orchestrator and its verdict for one stream.

    `addr` is its gRPC address, `url` the base of its HTTP calls; `address` is what the node signs with,
    `recipient` who is paid; `price` in wei per second, None off-chain; `ticket_ev` a ticket's expected value
    in wei; `rtt` in seconds, None before the first answer; `proven` says that it has delivered for its pay,
    `starts_under_way` that only our own starts take its room.
    """

    addr: str
    url: str
    address: str = ""
    recipient: str = ""
    price: Fraction | None = None
    ticket_ev: Fraction | None = None
    warm: bool = False
    rtt: float | None = None
    proven: bool = False
    starts_under_way: bool = False

    def named(self, name: str) -> bool:
        """Whether `name` is its address, URL or Ethereum address."""
        names = (self.addr, self.url, self.address, self.recipient)
        return name.rstrip("/").lower() in (one.lower() for one in names)

    def json(self) -> dict[str, Any]:
        """Its part of its entry in `GET /orchestrators`."""
        return {
            "url": self.url,
            "price_wei_per_second": None if self.price is None else text(self.price),
            "verdict": str(self.verdict),
            "detail": self.detail,
        }


def above_ceiling(price: Fraction, ceiling: Fraction) -> str:
    """Why a price is not paid, both in wei per second; with advice where it is only little above."""
    detail = f"{text(price)} wei per second, above the ceiling of {text(ceiling)}"
    return detail + (NEARLY if price <= ceiling * NEAR else "")


def judge(info: OrchestratorInfo, model: str, ceiling: Fraction | None) -> tuple[Verdict, str]:
    """Verdict on an orchestrator for a job with `model`, and the reason in words.

    `ceiling` is in wei per second and inclusive; None off-chain, where nothing is paid.
    """
    if not info.offers(model):
        return Verdict.MODEL_NOT_OFFERED, f"it does not offer the model {model}"
    if ceiling is None:
        if info.price or info.has_ticket_params:
            return Verdict.PRICE_ABOVE_MAX, "it wants to be paid, but there is no signer"
        return Verdict.AVAILABLE, ""
    if info.price is None or not info.has_ticket_params:
        return Verdict.BAD_ANSWER, "it gives no price or no ticket params: it is off-chain"
    if info.price > ceiling:
        return Verdict.PRICE_ABOVE_MAX, above_ceiling(info.price, ceiling)
    if not info.price or not info.ticket_ev:
        return Verdict.BAD_ANSWER, "its price or its tickets' value is zero: no signer pays that"
    if not info.session_id:
        return Verdict.BAD_ANSWER, "it gives no auth token: no signer pays without one"
    return Verdict.AVAILABLE, ""


def verdict_of(error: OrchestratorError) -> Verdict:
    """Verdict on an orchestrator whose call failed with `error`."""
    if isinstance(error, NoCapacity):
        return Verdict.NO_CAPACITY
    return Verdict.UNREACHABLE if isinstance(error, Unreachable) else Verdict.BAD_ANSWER


def rank(candidates: Iterable[OrchestratorCandidate]) -> list[OrchestratorCandidate]:
    """The usable ones first, best first; then the others by address.

    A warm model is better, then a lower price, then one that has delivered, then a shorter round trip.
    """
    judged = list(candidates)
    usable = sorted((c for c in judged if c.usable), key=_order)
    return usable + sorted((c for c in judged if not c.usable), key=lambda c: c.addr)


def _order(candidate: OrchestratorCandidate) -> tuple[bool, Fraction, bool, float, str]:
    rtt = float("inf") if candidate.rtt is None else candidate.rtt
    return (not candidate.warm, candidate.price or Fraction(0), not candidate.proven, rtt, candidate.addr)
