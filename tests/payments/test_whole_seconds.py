"""Calls of a signer that bills whole seconds are sent just before a second of its clock ends."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.info import PriceUnit
from gateway.payments.actions import Sign, StartJob
from gateway.payments.payment import Payment
from gateway.payments.session import PaymentSession
from gateway.payments.signing_rules import SECOND_RULES, PaymentFlow
from gateway.payments.timebase import NANOSECONDS
from gateway.payments.whole_seconds import WholeSeconds
from harness.payment_models import MANIFEST, PRICE, orchestrator_info, signed_payment

S = NANOSECONDS
MS = NANOSECONDS // 1000


def billed_beyond(stamp: float, seed: int, *, late: int = 2 * MS, seconds: int = 600) -> float:
    """Seconds billed beyond those that passed, as a share, where a call takes 20 to 80 ms.

    `stamp` is where within a call the signer looks at its clock: 0 at once, 1 just before it answers.
    """
    chance = random.Random(seed)
    rhythm = WholeSeconds()
    called, billed, first = 0, 0, None
    stamped = 0
    while called < seconds * S:
        took = chance.randrange(20 * MS, 80 * MS)
        now = called + int(took * stamp)
        if first is None:
            first = now
        else:
            billed += math.ceil((now - stamped) / S)
        stamped = now
        rhythm.answered(called, called + took)
        earliest = called + 4 * S - S // 2
        called = rhythm.next_call(earliest) + chance.randrange(late)
        assert earliest <= called <= earliest + S + late
    passed = (stamped - first) / S
    return billed / passed - 1


@pytest.mark.parametrize("stamp", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_over_ten_minutes_at_most_two_percent_are_billed_beyond_the_time_that_passed(
    stamp: float, seed: int
) -> None:
    assert 0 <= billed_beyond(stamp, seed) <= 0.02


def test_before_the_first_answer_any_time_is_as_good() -> None:
    assert WholeSeconds().next_call(7) == 7


@given(
    took=st.lists(st.integers(0, 3 * S), min_size=1, max_size=40),
    earliest=st.integers(0, 10**6 * S),
)
def test_a_call_is_never_earlier_than_asked_and_never_a_second_later(took: list[int], earliest: int) -> None:
    rhythm = WholeSeconds()
    for one in took:
        rhythm.answered(0, one)
    assert earliest <= rhythm.next_call(earliest) < earliest + S


def test_a_seldom_slow_call_does_not_make_all_others_early() -> None:
    rhythm = WholeSeconds()
    for took in [40 * MS] * 20 + [400 * MS] + [40 * MS] * 3:
        rhythm.answered(0, took)
    assert 3 * S - 100 * MS < rhythm.next_call(2 * S) < 3 * S


@pytest.mark.parametrize(("running_for", "waits"), [(3 * S, True), (8 * S, False)])
def test_where_the_credit_is_low_no_call_waits_for_a_whole_second(running_for: int, waits: bool) -> None:
    info = orchestrator_info(unit=PriceUnit.SECONDS)
    flow = PaymentFlow(SECOND_RULES, MANIFEST, "echo")
    session = PaymentSession(info, interval=5 * S, ceiling=Fraction(PRICE), flow=flow)
    assert isinstance(session.next(0), Sign)
    session.billing.answered(40 * MS)
    session.signed(Payment.read(signed_payment(info, 1, 10)))
    assert isinstance(session.next(0), StartJob)
    session.started(MANIFEST, 50 * MS)
    assert (session.wait_to_call(running_for) > 0) == waits
