"""What an info has to keep to before a session pays on it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.terms import Terms
from gateway.reason import EndReason
from harness.payment_models import ORCHESTRATOR, PRICE, orchestrator_info

TERMS = Terms(ORCHESTRATOR, ORCHESTRATOR, ceiling=Fraction(2 * PRICE), price=Fraction(PRICE))


def test_the_agreed_price_and_a_lower_one_are_paid() -> None:
    assert TERMS.refusal(orchestrator_info()) is None
    assert TERMS.refusal(orchestrator_info(price=PRICE - 1)) is None


@pytest.mark.parametrize(
    ("info", "reason", "words"),
    [
        (orchestrator_info(price=PRICE + 1), EndReason.PRICE_RAISED, "session's"),
        (orchestrator_info(price=2 * PRICE + 1), EndReason.PRICE_RAISED, "ceiling"),
        (orchestrator_info(ticket_seconds=121), EndReason.PRICE_RAISED, "-maxTicketSeconds"),
        (orchestrator_info(address=bytes(20)), EndReason.PAYMENT_REFUSED, "another address"),
        (orchestrator_info(recipient=bytes([7]) * 20), EndReason.PAYMENT_REFUSED, "tickets pay another"),
        (
            OrchestratorInfo.parse(
                livepeer_pb2.OrchestratorInfo(
                    transcoder="https://127.0.0.1:8935", address=ORCHESTRATOR
                ).SerializeToString()
            ),
            EndReason.PAYMENT_REFUSED,
            "no price",
        ),
    ],
)
def test_everything_else_is_refused(info: OrchestratorInfo, reason: EndReason, words: str) -> None:
    refusal = TERMS.refusal(info)
    assert refusal is not None
    assert refusal.reason is reason
    assert words in refusal.detail
