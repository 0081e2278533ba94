"""Selection of a live runner: the verdict on each offer, and the order of the usable ones. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from gateway import money
from gateway.candidates.verdict import Judged, Verdict
from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.orchestrator.selection import Refusal, above_ceiling
from gateway.payments.signing_rules import PIXEL_RULES, SECOND_RULES, SigningRules
from gateway.runner.offer import RunnerOffer, Unit


@dataclass(slots=True, kw_only=True)
class RunnerCandidate(Judged):
    """A live runner and its verdict for one stream."""

    offer: RunnerOffer
    info: OrchestratorInfo | None = None
    """Its newest challenge's, where it was asked."""
    proven: bool = False
    """Whether who is paid there has delivered before, or nobody is."""

    def named(self, name: str) -> bool:
        """Whether `name` is its URL or Ethereum address, or its orchestrator's URL."""
        name = name.rstrip("/").lower()
        address = self.info.address.lower() if self.info is not None else ""
        return name in (self.offer.url.lower(), address) or self.offer.url.lower().startswith(f"{name}/")


def price_unit(offer: RunnerOffer) -> PriceUnit:
    """What the numbers in its challenges are for."""
    return PriceUnit.PIXELS if offer.unit is Unit.PIXELS else PriceUnit.SECONDS


def rules(offer: RunnerOffer) -> SigningRules:
    """How a signer bills a session there."""
    return PIXEL_RULES if offer.unit is Unit.PIXELS else SECOND_RULES


def judge(offer: RunnerOffer, ceiling: Fraction | None) -> Refusal | None:
    """Why an offer cannot be used; None where it can. `ceiling` is wei per second, None off-chain."""
    if offer.mode != "persistent":
        return Verdict.BAD_ANSWER, f"its mode is {offer.mode}, and streams need a persistent one"
    if offer.price is None:
        return Verdict.BAD_ANSWER, "its price is for each call, not for time"
    if ceiling is None and offer.price:
        return Verdict.PRICE_ABOVE_MAX, "it wants to be paid, but there is no signer"
    if ceiling is not None and offer.price > ceiling:
        return Verdict.PRICE_ABOVE_MAX, above_ceiling(offer.price, ceiling)
    if offer.room == 0:
        return Verdict.NO_CAPACITY, "it has no room for another session"
    return None


def price_refusal(
    offer: RunnerOffer, info: OrchestratorInfo, ceiling: Fraction, chosen: Fraction
) -> str | None:
    """Why a challenge's price is not paid, None where it is: it must be what the runner was chosen for.

    Discovery's number may be rounded down by less than one wei of its unit.
    """
    rounding = PIXELS_PER_SECOND if offer.unit is Unit.PIXELS else 1
    if not info.price or not info.ticket_ev:
        return "its challenge has no price or no usable ticket params"
    if info.price > ceiling:
        return above_ceiling(info.price, ceiling)
    if info.price >= chosen + rounding:
        return f"{money.text(info.price)} wei per second, and it was chosen for {money.text(chosen)}"
    return None


def rank(candidates: Iterable[RunnerCandidate]) -> list[RunnerCandidate]:
    """The usable ones first, the cheapest first, at equal price who has delivered before; then the others."""
    return sorted(
        candidates,
        key=lambda one: (not one.usable, one.offer.price or Fraction(0), not one.proven, one.offer.url),
    )
