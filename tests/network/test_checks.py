"""Orchestrators whose tickets cannot, or must not, be paid are not chosen."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.verdict import Verdict
from gateway.network.checks import funds_check, ticket_check, type_check, version_check
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.payments.actions import Sign
from gateway.payments.session import PaymentSession
from gateway.payments.ticket_limits import TicketLimits
from gateway.payments.timebase import NANOSECONDS
from harness.payment_models import PRICE, orchestrator_info

LISTED = Listing("o:1")
INTERVAL = 5 * NANOSECONDS


@given(
    st.integers(10**6, 10**15),
    st.fractions(Fraction(1, 10), Fraction(1000), max_denominator=1000),
    st.integers(1, 100),
    st.none() | st.integers(10**6, 10**17),
)
def test_whom_a_session_could_not_pay_is_not_chosen_and_whom_it_could_is(
    price: int, ticket_seconds: Fraction, most: int, face_value: int | None
) -> None:
    info = orchestrator_info(price=price, ticket_seconds=ticket_seconds)
    ceiling, limits = Fraction(10**15), TicketLimits(Fraction(most), face_value)
    refusal = ticket_check(limits, ceiling, INTERVAL)(LISTED, info)
    session = PaymentSession(info, interval=INTERVAL, ceiling=ceiling, ticket_limits=limits)
    assert (refusal is None) == isinstance(session.next(0), Sign)
    if refusal is not None:
        assert refusal[0] is Verdict.BAD_TICKET_PARAMS


def test_the_detail_has_the_figure() -> None:
    large = orchestrator_info(price=1, ticket_seconds=10**18)
    refusal = ticket_check(TicketLimits(), Fraction(10**15), INTERVAL)(LISTED, large)
    assert refusal is not None
    assert "one ticket is worth 1000000000000000000 wei" in refusal[1]
    small = orchestrator_info(ticket_seconds=Fraction(1, 2))
    refusal = ticket_check(TicketLimits(), Fraction(10**15), INTERVAL)(LISTED, small)
    assert refusal is not None
    assert "worth 0.5 s of stream, so the first 60 s need more than 100 tickets" in refusal[1]


def test_a_first_payment_above_its_limit_is_not_made() -> None:
    limits = TicketLimits(first_payment=60 * PRICE - 60)
    refusal = ticket_check(limits, Fraction(10**15), INTERVAL)(LISTED, orchestrator_info())
    assert refusal is not None
    assert refusal[0] is Verdict.BAD_TICKET_PARAMS
    limits = TicketLimits(first_payment=60 * PRICE)
    assert ticket_check(limits, Fraction(10**15), INTERVAL)(LISTED, orchestrator_info()) is None


@pytest.mark.parametrize(
    ("version", "used"),
    [
        ("0.9.1", True),
        ("0.10.0-dirty", True),
        ("v1.0.0", True),
        ("0.9.0", False),
        ("", False),
        ("master", False),
    ],
)
def test_older_versions_are_not_used_and_unknown_ones_neither(version: str, used: bool) -> None:
    message = livepeer_pb2.OrchestratorInfo()
    message.CopyFrom(orchestrator_info().message)
    message.capabilities.version = version
    info = OrchestratorInfo.parse(message.SerializeToString())
    refusal = version_check((0, 9, 1))(LISTED, info)
    assert (refusal is None) == used
    if refusal is not None:
        assert refusal[0] is Verdict.BLOCKED


def test_funds_that_do_not_back_its_tickets_make_it_unfunded() -> None:
    assert funds_check(lambda info: "no deposit")(LISTED, orchestrator_info()) == (
        Verdict.UNFUNDED,
        "no deposit",
    )
    assert funds_check(lambda info: None)(LISTED, orchestrator_info()) is None


def test_who_is_paid_in_a_way_that_the_signer_does_not_pay_is_not_chosen() -> None:
    check = type_check(lambda payment_type: "not for jobs" if payment_type == "lv2v" else "")
    job = orchestrator_info()
    assert check(LISTED, job) == (Verdict.SIGNER_REFUSES_TYPE, "not for jobs")
    assert check(LISTED, OrchestratorInfo.parse(job.raw, unit=PriceUnit.SECONDS)) is None
