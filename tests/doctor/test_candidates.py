"""What the doctor says of orchestrators, runners and servers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from gateway.candidates.verdict import USABLE, Verdict
from gateway.doctor.candidates import ADVICE, OperatorTerms, of_orchestrators
from gateway.doctor.finding import Level

PRICE = 10**15
TERMS = OperatorTerms(ceiling=Fraction(2 * PRICE), interval=5 * 10**9)


def orchestrator(**changes: Any) -> dict[str, Any]:
    row = {
        "addr": "o.example:8935",
        "url": "https://o.example:8935",
        "price_wei_per_second": str(PRICE),
        "ticket_wei": str(2 * PRICE),
        "verdict": "available",
        "detail": "",
        "rtt_ms": 12.5,
        "trust": {"proven": True},
    }
    return row | changes


def test_every_verdict_but_a_good_one_has_advice() -> None:
    assert {verdict for verdict in Verdict if not ADVICE[verdict]} == USABLE


def test_prices_are_shown_by_the_hour_and_against_the_ceiling() -> None:
    (found,) = of_orchestrators({"orchestrators": [orchestrator()]}, TERMS)
    assert (found.part, found.name, found.level) == ("orchestrator", "o.example:8935", Level.OK)
    assert found.detail == (
        "available; 1000000000000000 wei/s (3.6 ETH/h, 50 % of the ceiling); "
        "a start costs 0.06 ETH, then a payment every 5 s; answers in 12.5 ms"
    )
    assert found.figures["first_payment_wei"] == str(60 * PRICE)
    assert found.figures["ticket_seconds"] == 2.0


def test_a_runner_is_opened_with_ten_seconds() -> None:
    runner = orchestrator(url="https://r.example/apps/1/session", app="a/b", gpu="L4")
    (found,) = of_orchestrators({"runners": [runner]}, TERMS)
    assert found.part == "runner"
    assert found.figures["first_payment_wei"] == str(10 * PRICE)
    assert found.figures["app"] == "a/b"


def test_who_is_not_used_is_a_warning_with_advice() -> None:
    row = orchestrator(verdict="price_above_max", detail="above the ceiling")
    (found,) = of_orchestrators({"orchestrators": [row]}, TERMS)
    assert found.level is Level.WARNING
    assert found.detail.startswith("price_above_max: above the ceiling; ")
    assert found.advice == "raise -maxPricePerUnit, or leave it out of -orchAddr"


def test_no_price_is_shown_for_a_model_that_is_not_offered() -> None:
    row = orchestrator(verdict="model_not_offered", detail="it does not offer the model x")
    (found,) = of_orchestrators({"orchestrators": [row]}, TERMS)
    assert "wei" not in found.detail


def test_who_waits_for_trust_may_take_a_stream() -> None:
    row = orchestrator(verdict="untrusted", trust={"proven": False})
    (found,) = of_orchestrators({"orchestrators": [row]}, TERMS)
    assert found.level is Level.OK
    assert found.detail.endswith("it has not delivered for its pay yet")


def test_where_nothing_is_paid_no_price_is_shown() -> None:
    row = orchestrator(price_wei_per_second=None, ticket_wei=None, trust=None)
    (found,) = of_orchestrators({"orchestrators": [row]}, OperatorTerms(None, 1))
    assert found.detail == "available; answers in 12.5 ms"


def test_certificates_are_shown_where_they_were_looked_at() -> None:
    terms = OperatorTerms(TERMS.ceiling, TERMS.interval, verified={"https://o.example:8935": False})
    (found,) = of_orchestrators({"orchestrators": [orchestrator()]}, terms)
    assert found.figures["certificate_verifies"] is False
    assert "its certificate does not verify" in found.detail


def test_a_list_that_cannot_be_read_is_a_warning() -> None:
    sources = [
        {"name": "webhook", "listed": 0, "age_s": None, "error": "it answered HTTP 500"},
        {"name": "orchAddr", "listed": 1, "age_s": 1.0, "error": None},
    ]
    (found,) = of_orchestrators({"sources": sources}, TERMS)
    assert (found.part, found.name, found.level) == ("list", "webhook", Level.WARNING)
