"""What a signer may bill, compared with a model of a signer."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.payments.actions import Deliver, Sign, StartJob, Wait
from gateway.payments.payment import Payment, PaymentMismatch
from harness.payment_models import (
    MANIFEST,
    PRICE,
    OrchestratorModel,
    SignerModel,
    Status,
    orchestrator_info,
    signed_payment,
)
from tests.payments.sessions import S, new_session, sign_and_start


@pytest.mark.parametrize("interval", [S // 10, 2 * S, 30 * S])
@pytest.mark.parametrize("seconds", [Fraction(3, 5), Fraction(1), Fraction(10), Fraction(61), Fraction(300)])
def test_each_payment_is_below_its_maximum_and_the_credit_stays_near_the_preload(
    seconds: Fraction, interval: int
) -> None:
    one_interval = Fraction(interval, S) * PRICE
    least, most_credit = 60 * PRICE - one_interval, 60 * PRICE + one_interval + seconds * PRICE
    signer, orchestrator = SignerModel(), OrchestratorModel(ticket_seconds=seconds)
    session, now, paid = new_session(orchestrator.info(), interval=interval), 0, 0
    while paid < 40:
        match action := session.next(now):
            case Sign():
                most = session.billing.max_due(action.info, now)
                try:
                    payment = Payment.read(signer.sign(action.info, action.state, Fraction(now, S)))
                except Status:
                    session.no_tickets_needed(now)
                    continue
                assert payment.value <= most <= max(payment.value, 60 * PRICE) + 3 * payment.ticket_ev
                session.signed(payment)
                paid += 1
            case StartJob():
                session.started(MANIFEST, now)
            case Deliver(payment):
                session.delivered(orchestrator.accept(payment.live), now)
                assert least <= session.balance.left(now) <= most_credit
            case Wait(until):
                now = until
                assert not session.running or session.balance.left(now) >= least
            case other:
                raise AssertionError(other)


def test_payments_that_are_not_what_was_asked_for_are_found() -> None:
    session = new_session()
    sign_and_start(session)
    asked = orchestrator_info()
    for wrong, words in [
        (signed_payment(orchestrator_info(rand=2), 61, 5), "other ticket params"),
        (signed_payment(orchestrator_info(ticket_seconds=2), 61, 5), "other ticket params"),
        (signed_payment(asked, 60, 5), "is not above"),
        (signed_payment(asked, 61, 68), "at most"),
    ]:
        with pytest.raises(PaymentMismatch, match=words):
            session.billing.check(Payment.read(wrong), session.info, 5 * S)
    session.billing.check(Payment.read(signed_payment(asked, 61, 67)), session.info, 5 * S)


@pytest.mark.parametrize(
    ("steps", "alarms"),
    [([8], True), ([-6], True), ([20, 30], True), ([1, 1, 1, -1], False), ([30, 40], None), ([70], None)],
)
def test_a_signers_clock_that_is_set_is_tolerated_until_that_costs_a_preload(
    steps: list[int], alarms: bool | None
) -> None:
    """`steps` are seconds by which it is set before each call; `alarms` None where the job is left."""
    signer, orchestrator, session = SignerModel(), OrchestratorModel(), new_session()
    sign = session.next(0)
    assert isinstance(sign, Sign)
    session.signed(Payment.read(signer.sign(sign.info, None, Fraction(0))))
    session.next(0)
    session.started(MANIFEST, 0)
    now, offset, payment = 0, 0, None
    for step in [*steps, 0, 0]:
        offset += step
        now = session.due_at or now
        sign = session.next(now)
        assert isinstance(sign, Sign)
        payment = Payment.read(signer.sign(sign.info, sign.state, Fraction(now, S) + offset))
        try:
            session.billing.check(payment, sign.info, now)
        except PaymentMismatch:
            assert alarms is None
            return
        session.signed(payment)
        assert isinstance(session.next(now), Deliver)
        session.delivered(orchestrator.accept(payment.live), now)
    assert (session.billing.overbilled(now) > 0) == alarms


def test_the_first_payment_is_the_preload_in_whole_tickets_and_not_one_more() -> None:
    asked = orchestrator_info(ticket_seconds=Fraction(7, 2))
    session = new_session(asked)
    session.next(0)
    assert session.billing.max_due(asked, 0) == 18 * Fraction(7, 2) * PRICE
    with pytest.raises(PaymentMismatch, match="at most"):
        session.billing.check(Payment.read(signed_payment(asked, 1, 19)), asked, 3600 * S)
    session.billing.check(Payment.read(signed_payment(asked, 1, 18)), asked, 0)


@pytest.mark.parametrize("price", [Fraction(1), Fraction(1, 7), Fraction(10**20), Fraction(10**20, 3)])
def test_the_smallest_and_the_largest_prices_are_billed_exactly(price: Fraction) -> None:
    worth = Fraction(int(price * 100))  # a ticket's worth is whole here: its face value
    info = orchestrator_info(price=price, ticket_seconds=100)
    signer, session = SignerModel(), new_session(info, ceiling=10**21)
    sign = session.next(0)
    assert isinstance(sign, Sign)
    payment = Payment.read(signer.sign(info, None, Fraction(0)))
    assert payment.value <= session.billing.max_due(info, 0)
    session.billing.check(payment, info, 0)
    session.signed(payment)
    session.next(0)
    session.started(MANIFEST, 0)
    assert session.balance.credited == worth
    assert session.balance.owed(S // 4) == price / 4
