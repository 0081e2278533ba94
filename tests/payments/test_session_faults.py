"""The payment session when signer or orchestrator fail, refuse, or let the credit run out."""

from __future__ import annotations

from gateway.payments.actions import Deliver, Leave, Refresh, RefreshKind, Sign, Wait
from gateway.payments.payment import Payment
from gateway.payments.session import PaymentSession
from gateway.reason import EndReason
from harness.payment_models import (
    PRICE,
    orchestrator_info,
    signed_payment,
)
from tests.payments.sessions import S, leaves, new_session, sign_and_start, signed


def test_an_unknown_delivery_is_repeated_byte_for_byte_before_another_is_signed() -> None:
    session = new_session()
    sign_and_start(session)
    payment = signed(session, 5 * S)
    now = 5 * S
    for attempt in range(1, 6):
        action = session.next(now)
        assert action == Deliver(payment, attempt)
        session.delivery_unknown("reset", now)
        waiting = session.next(now)
        assert isinstance(waiting, Wait)
        assert now < waiting.until <= now + 4 * S
        now = waiting.until
    assert isinstance(session.next(now), Deliver)
    session.already_seen(now)
    assert session.balance.credited == 65 * PRICE
    assert session.next(now) == Refresh(RefreshKind.INFO)
    session.refreshed(orchestrator_info(rand=9))
    assert session.info.session_id == "s9"


def test_former_ticket_params_are_used_where_a_refresh_after_already_seen_fails() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.already_seen(5 * S)
    now = 5 * S
    for _ in range(4):
        action = session.next(now)
        if isinstance(action, Wait):
            now = action.until
            action = session.next(now)
        assert action == Refresh(RefreshKind.INFO)
        session.refresh_failed("no connection", now)
    assert isinstance(session.next(now), Wait)
    assert isinstance(session.next(10 * S), Sign)


def test_a_payment_that_never_arrives_loses_the_orchestrator_when_the_credit_is_gone() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    now = 5 * S
    while not isinstance(action := session.next(now), Leave):
        if isinstance(action, Wait):
            now = action.until
        else:
            session.delivery_unknown("time-out", now)
    assert action.reason is EndReason.ORCHESTRATOR_LOST
    assert 60 * S < now <= 64 * S


def test_a_signer_that_is_down_is_asked_until_the_credit_is_gone() -> None:
    session = new_session()
    sign_and_start(session)
    now = 5 * S
    while not isinstance(action := session.next(now), Leave):
        if isinstance(action, Wait):
            now = action.until
        else:
            assert isinstance(action, Sign)
            session.signer_failed("refused", now)
    assert action.reason is EndReason.SIGNER_UNREACHABLE
    assert 60 * S < now <= 64 * S


def test_a_first_call_that_fails_is_tried_a_few_times_only() -> None:
    session, now, calls = new_session(), 0, 0
    while not isinstance(action := session.next(now), Leave):
        if isinstance(action, Wait):
            now = action.until
        else:
            assert isinstance(action, Sign)
            assert action.state is None
            calls += 1
            session.signer_failed("no", now)
    assert (action.reason, calls) == (EndReason.SIGNER_UNREACHABLE, 4)


def test_482_while_less_than_one_interval_of_credit_is_left_is_credit_exhausted() -> None:
    session = new_session()
    sign_and_start(session)
    session.next(55 * S)
    session.no_tickets_needed(55 * S)
    assert session.next(55 * S) == Wait(60 * S)
    session.next(60 * S)
    session.no_tickets_needed(60 * S)
    assert leaves(session, 60 * S) is EndReason.CREDIT_EXHAUSTED


def test_payments_that_do_not_cover_the_time_leave_before_the_credit_is_gone() -> None:
    session = new_session()
    sign_and_start(session)
    now, nonce = 5 * S, 61
    while not isinstance(action := session.next(now), Leave):
        match action:
            case Wait(until):
                now = until
            case Sign(info=info):
                session.signed(Payment.read(signed_payment(info, nonce, 1)))
                nonce += 1
            case _:
                session.delivered(orchestrator_info(), now)
    assert action.reason is EndReason.CREDIT_EXHAUSTED
    assert 0 <= session.balance.left(now) < 5 * PRICE


def test_a_gap_of_over_a_hundred_tickets_leaves_for_a_new_job_without_asking() -> None:
    session = new_session()
    sign_and_start(session)
    action = session.next(103 * S)
    assert isinstance(action, Leave)
    assert action.reason is EndReason.CREDIT_EXHAUSTED
    assert "null state" in action.detail


def test_a_400_after_a_gap_near_a_hundred_tickets_is_credit_exhausted() -> None:
    session = new_session()
    sign_and_start(session)
    assert isinstance(session.next(100 * S), Sign)
    session.signing_refused("400")
    assert leaves(session, 100 * S) is EndReason.CREDIT_EXHAUSTED


def test_refusals_end_with_their_reasons() -> None:
    def running() -> PaymentSession:
        session = new_session()
        sign_and_start(session)
        return session

    bad_request, rejected, refused, other = running(), running(), running(), running()
    bad_request.next(5 * S)
    bad_request.signing_refused("400")
    assert leaves(bad_request) is EndReason.PAYMENT_REFUSED
    rejected.next(5 * S)
    rejected.withheld(EndReason.SIGNER_REFUSED, "483")
    assert leaves(rejected) is EndReason.SIGNER_REFUSED
    signed(refused, 5 * S)
    refused.next(5 * S)
    refused.delivery_refused("403")
    assert leaves(refused) is EndReason.PAYMENT_REFUSED
    assert refused.balance.credited == 60 * PRICE
    signed(other, 5 * S)
    other.next(5 * S)
    other.delivered(orchestrator_info(address=bytes(19) + b"\1", rand=2), 5 * S)
    assert leaves(other) is EndReason.PAYMENT_REFUSED
