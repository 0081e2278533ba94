"""The limits of a ticket's worth and face value."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments import ticket
from gateway.payments.ticket_limits import TicketLimits
from harness.payment_models import PRICE, orchestrator_info


def offer(face_value: int, value: int) -> OrchestratorInfo:
    """An info with tickets of this face value and expected value."""
    message = orchestrator_info().message
    message.ticket_params.face_value = face_value.to_bytes(32, "big")
    message.ticket_params.win_prob = ticket.win_prob_for(face_value, value).to_bytes(32, "big")
    return OrchestratorInfo.parse(message.SerializeToString())


@given(
    ceiling=st.integers(1, 10**18),
    seconds=st.integers(1, 600),
    multiple=st.integers(1, 1000),
    more=st.booleans(),
)
def test_a_ticket_may_be_worth_so_many_seconds_at_the_ceiling_and_no_wei_more(
    ceiling: int, seconds: int, multiple: int, more: bool
) -> None:
    value = ceiling * seconds + more
    refusal = TicketLimits(Fraction(seconds)).refusal(offer(value * multiple, value), Fraction(ceiling))
    assert bool(refusal) == more
    if more:
        assert f"{value} wei" in refusal
        assert f"{ceiling * seconds}, {seconds} s" in refusal


@pytest.mark.parametrize("more", [0, 1])
def test_a_winning_ticket_may_take_the_maximum_and_no_wei_more(more: int) -> None:
    limits = TicketLimits(face_value=100 * PRICE)
    refusal = limits.refusal(offer(100 * PRICE + more, PRICE), Fraction(PRICE))
    assert bool(refusal) == bool(more)
    if more:
        assert f"{100 * PRICE + 1} wei, and -maxFaceValue allows {100 * PRICE}" in refusal


@given(value=st.integers(1, 10**18), most=st.integers(1, 10**18))
def test_a_ticket_may_be_worth_so_many_wei(value: int, most: int) -> None:
    limits = TicketLimits(Fraction(10**6), value=most)
    refusal = limits.refusal(offer(2 * value, value), Fraction(10**18))
    assert bool(refusal) == (value > most)


@given(tickets=st.integers(1, 100), value=st.integers(1, 10**16), most=st.none() | st.integers(0, 10**18))
def test_a_first_payment_may_be_worth_so_many_wei(tickets: int, value: int, most: int | None) -> None:
    for ticket_ev in (Fraction(value), value + Fraction(99, 100)):  # as it is rounded up
        refusal = TicketLimits(first_payment=most).refusal_of_first(tickets, ticket_ev)
        assert most is None or tickets * value > most or not refusal
        assert most is None or tickets * value < most + tickets or refusal
        assert most is not None or not refusal
