"""What `GET /orchestrators` would show, as findings: who could take a stream, at which price, and who not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gateway import money
from gateway.candidates.verdict import Judged, Verdict
from gateway.doctor.finding import Finding, Level
from gateway.payments.cadence import Cadence
from gateway.payments.signing_rules import PIXEL_RULES, SECOND_RULES

ADVICE: Mapping[Verdict, str] = {
    Verdict.CHOSEN: "",
    Verdict.AVAILABLE: "",
    Verdict.PRICE_ABOVE_MAX: "raise -maxPricePerUnit, or leave it out of -orchAddr",
    Verdict.NO_CAPACITY: "wait until a stream there ends, or add another",
    Verdict.UNREACHABLE: "check its address, and that it runs and lets this machine in",
    Verdict.MODEL_NOT_OFFERED: "ask for a model that it offers with -model, or leave it out",
    Verdict.BAD_PARAMS: "correct the parameters of its workflow",
    Verdict.BAD_ANSWER: "tell its operator what is wrong with its answer",
    Verdict.SET_ASIDE: "wait until the suspension is over; name it in -orchBlocklist if it fails again",
    Verdict.UNFUNDED: "fund the deposit and the reserve of the signer's address",
    Verdict.BAD_TICKET_PARAMS: "raise -maxTicketSeconds or -maxFaceValue where its tickets are too large",
    Verdict.BLOCKED: "take it off -orchBlocklist, if it is to be used",
    Verdict.UNTRUSTED: "wait until its streams under way show pictures",
    Verdict.SIGNER_REFUSES_TYPE: "use a signer that makes such payments",
    Verdict.ADDRESS_CHANGED: "ask its operator; -orchAcceptAddressChange names it where that is right",
}


@dataclass(frozen=True, slots=True)
class OperatorTerms:
    """What candidates are held against: the ceiling in wei per second, and the payment interval in ns."""

    ceiling: Fraction | None
    interval: int
    verified: Mapping[str, bool] = field(default_factory=dict)
    """Whether the certificate behind a URL verifies, where that is known."""


def of_orchestrators(state: Mapping[str, Any], terms: OperatorTerms) -> Iterator[Finding]:
    """Findings on the body of `GET /orchestrators`: orchestrators, runners, ComfyStream servers, lists."""
    for row in state.get("orchestrators", ()):
        yield _candidate("orchestrator", row["addr"], row, terms, PIXEL_RULES.opening)
    for row in state.get("runners", ()):
        yield _candidate("runner", row["url"], row, terms, SECOND_RULES.opening)
    for row in state.get("comfystreams", ()):
        yield _candidate("ComfyStream", row["url"], row, terms, PIXEL_RULES.opening)
    for source in (*state.get("sources", ()), *state.get("runner_sources", ())):
        if source["error"] is not None:
            advice = "check its URL, and that it answers this machine"
            yield Finding("list", Level.WARNING, source["error"], advice, name=source["name"])


def _candidate(part: str, name: str, row: Mapping[str, Any], terms: OperatorTerms, opening: int) -> Finding:
    verdict = Verdict(row["verdict"])
    level = Level.OK if Judged(verdict=verdict).admissible else Level.WARNING
    figures = _figures(row, terms, opening)
    said = f"{verdict}: {row['detail']}" if row["detail"] else str(verdict)
    detail = "; ".join([said, *_words(figures, row)])
    return Finding(part, level, detail, ADVICE[verdict], name=name, figures=figures)


def _figures(row: Mapping[str, Any], terms: OperatorTerms, opening: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"verdict": row["verdict"], "price_wei_per_second": row["price_wei_per_second"]}
    figures |= {name: row[name] for name in ("rtt_ms", "warm", "room", "app", "gpu") if row.get(name)}
    if row["url"] in terms.verified:
        figures["certificate_verifies"] = terms.verified[row["url"]]
    trust = row.get("trust")
    if trust is not None:
        figures["proven"] = trust["proven"]
    if not row["price_wei_per_second"] or row["verdict"] == Verdict.MODEL_NOT_OFFERED:
        return figures  # its price is another model's
    price = Fraction(row["price_wei_per_second"])
    per_hour = price * money.SECONDS_PER_HOUR
    figures["eth_per_hour"] = money.decimal(per_hour / 10**18, 9)
    if terms.ceiling:
        figures["percent_of_ceiling"] = money.decimal(100 * price / terms.ceiling, 1)
    if price and row.get("ticket_wei"):
        cadence = Cadence(price, Fraction(row["ticket_wei"]), terms.interval, opening)
        figures |= {name: cadence.figures()[name] for name in ("ticket_seconds", "payment_every_s")}
        figures["first_payment_wei"] = money.whole_wei(cadence.first_tickets * cadence.ticket_ev)
    return figures


def _words(figures: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    """The figures that a person looks for."""
    if "eth_per_hour" in figures:
        share = figures.get("percent_of_ceiling")
        of_ceiling = "" if share is None else f", {share} % of the ceiling"
        yield f"{row['price_wei_per_second']} wei/s ({figures['eth_per_hour']} ETH/h{of_ceiling})"
    if "first_payment_wei" in figures:
        first = money.decimal(Fraction(figures["first_payment_wei"]) / 10**18, 9)
        yield f"a start costs {first} ETH, then a payment every {figures['payment_every_s']:g} s"
    if "rtt_ms" in figures:
        yield f"answers in {figures['rtt_ms']:g} ms"
    if "certificate_verifies" in figures:
        yield f"its certificate {'verifies' if figures['certificate_verifies'] else 'does not verify'}"
    if "proven" in figures and not figures["proven"]:
        yield "it has not delivered for its pay yet"
