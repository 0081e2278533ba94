"""A payment session that is kept over a restart: what is kept, and until when it may be gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.payments.actions import Deliver, Sign
from gateway.payments.payment import Payment
from gateway.payments.saved_session import (
    LONGEST_GAP,
    RESERVE,
    NotResumable,
    SavedSession,
    passed,
    restore,
    save,
    seconds_to_resume,
)
from gateway.payments.session import PaymentSession
from gateway.payments.signing_rules import PIXEL_RULES, SECOND_RULES, PaymentFlow
from gateway.payments.ticket_limits import TicketLimits
from gateway.payments.timebase import Moment
from harness.payment_models import PRICE, SENDER, orchestrator_info, signed_payment
from tests.payments.sessions import S, new_session, sign_and_start, signed

START = 1000 * S


def paid_session(*, tickets: int = 60) -> PaymentSession:
    """A session whose job has just begun, with a second of credit for each ticket."""
    session = new_session()
    sign_and_start(session, START, tickets)
    return session


def restored(saved: SavedSession, *, ceiling: int = 10 * PRICE, handed_out: bool = False) -> PaymentSession:
    read = SavedSession.parse(json.loads(json.dumps(saved.json())))
    assert read == saved
    return restore(read, sender=SENDER, interval=5 * S, ceiling=Fraction(ceiling), handed_out=handed_out)


@given(tickets=st.integers(1, 100), ran=st.integers(0, 200 * S), gap=st.integers(0, 100 * S))
def test_a_job_goes_on_only_with_ten_seconds_of_credit_and_within_forty_five_of_its_payment(
    tickets: int, ran: int, gap: int
) -> None:
    session = paid_session(tickets=tickets)
    paid_at = START + ran
    session.balance.last_accepted_at = session.billing.billed_until = paid_at
    saved, now = save(session), paid_at + gap
    left = seconds_to_resume(saved, now)
    credit = session.balance.seconds_left(now)
    assert credit is not None
    assert (left > 0) == (credit > RESERVE and gap < LONGEST_GAP * S)
    later = left - Fraction(1, 2)
    assert seconds_to_resume(saved, now + S // 2) == later, "time passes as the clock says"


def test_a_first_payment_is_no_job_to_come_back_to() -> None:
    session = new_session()
    sign = session.next(START)
    assert isinstance(sign, Sign)
    assert seconds_to_resume(save(session, signed_payment(sign.info, 1, 60)), START) <= 0


@given(wall=st.integers(-(10**12), 10**12), monotonic=st.integers(-(10**12), 10**12))
def test_a_clock_that_was_set_back_hides_no_time(wall: int, monotonic: int) -> None:
    saved = Moment(10**18, 10**15)
    now = Moment(10**18 + wall, 10**15 + monotonic)
    if max(wall, monotonic) < 0:
        with pytest.raises(NotResumable):
            passed(saved, now)
    else:
        assert passed(saved, now) == max(wall, monotonic)


@pytest.mark.parametrize("names", [("State", "Sig"), ("state", "sig")])
def test_a_signer_gets_its_state_back_under_the_names_that_it_gave(names: tuple[str, str]) -> None:
    session = paid_session()
    assert session.state is not None
    session.state = replace(session.state, names=names)
    assert restored(save(session)).state == session.state
    with pytest.raises(ValueError, match="two names"):
        SavedSession.parse({**save(session).json(), "state_names": "state"})


def test_a_payment_that_may_have_arrived_is_delivered_again_and_one_that_cannot_have_is_not_a_repeat() -> (
    None
):
    for handed_out in (True, False):
        session = paid_session()
        sign = session.next(START + 5 * S)
        assert isinstance(sign, Sign)
        live = signed_payment(sign.info, 61, 5, state='{"seq": 2}')
        saved = save(session, live)
        session.signed(Payment.read(live))
        again = restored(saved, handed_out=handed_out)
        assert again.handed_out is handed_out
        action = again.next(START + 20 * S)
        assert isinstance(action, Deliver)
        assert (action.payment.live, action.attempt) == (live, 1 + handed_out)
        assert again.state == live.state
        again.delivered(None, START + 20 * S)
        assert again.balance.credited == 65 * PRICE


def test_what_is_gone_on_with_is_as_it_was() -> None:
    session = paid_session()
    signed(session, START + 5 * S)
    deliver = session.next(START + 5 * S)
    assert isinstance(deliver, Deliver)
    session.delivered(session.info, START + 5 * S)
    again = restored(save(session))
    assert save(again) == save(session)
    for now in (START + 6 * S, START + 30 * S):
        one, other = again.next(now), session.next(now)
        assert one == other
        if isinstance(one, Sign):
            assert again.billing.max_due(one.info, now) == session.billing.max_due(one.info, now)


def test_a_signing_under_way_at_the_crash_is_asked_again_from_the_last_state() -> None:
    session = paid_session()
    saved = save(session)
    lost = session.next(START + 5 * S)
    action = restored(saved).next(START + 25 * S)
    assert isinstance(lost, Sign)
    assert isinstance(action, Sign)
    assert (action.number, action.state) == (lost.number, lost.state)


def test_times_move_together_with_the_clock() -> None:
    session = paid_session()
    moved = restored(save(session).moved(-START + 7))
    assert moved.balance.seconds_left(7 + 20 * S) == session.balance.seconds_left(START + 20 * S)
    assert moved.schedule.due == session.schedule.due - START + 7
    assert moved.billing.unbilled(7 + S) == session.billing.unbilled(START + S)


def test_a_ceiling_that_was_lowered_and_a_payment_that_fails_its_checks_are_not_gone_on_with() -> None:
    session = paid_session()
    with pytest.raises(NotResumable, match="ceiling"):
        restored(save(session), ceiling=PRICE - 1)
    sign = session.next(START + 5 * S)
    assert isinstance(sign, Sign)
    for live in (signed_payment(sign.info, 61, 100), signed_payment(sign.info, 1, 5)):
        with pytest.raises(NotResumable):
            restored(save(session, live))
    stolen = signed_payment(sign.info, 61, 5)
    with pytest.raises(NotResumable, match="sender"):
        restore(
            save(session, stolen),
            sender=bytes(20),
            interval=5 * S,
            ceiling=Fraction(10 * PRICE),
            handed_out=False,
        )


def test_smaller_ticket_limits_end_a_job_only_where_nothing_else_can_be_paid_on() -> None:
    saved = save(paid_session())
    session = restore(
        saved,
        sender=SENDER,
        interval=5 * S,
        ceiling=Fraction(PRICE),
        ticket_limits=TicketLimits(Fraction(1, 2), None),
        handed_out=False,
    )
    assert not session.leaving


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)


@given(field=st.sampled_from(sorted(save(paid_session()).json())), value=JSON)
def test_a_row_that_was_damaged_is_refused_and_never_an_unexpected_error(field: str, value: Any) -> None:
    damaged = {**save(paid_session()).json(), field: value}
    try:
        session = restored_from(damaged)
    except (ValueError, NotResumable):
        return
    assert not session.leaving


def restored_from(value: dict[str, Any]) -> PaymentSession:
    saved = SavedSession.parse(value)
    seconds_to_resume(saved, START)
    return restore(saved, sender=SENDER, interval=5 * S, ceiling=Fraction(10 * PRICE), handed_out=False)


@pytest.mark.parametrize("value", [None, [], {}, {"info": ""}, "x"])
def test_what_is_no_saved_session_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="fields"):
        SavedSession.parse(value)


def test_a_saved_session_does_not_show_its_secrets() -> None:
    session = paid_session()
    saved = save(session, signed_payment(session.info, 61, 5, state="secret"))
    shown = repr(replace(saved, seg_creds="secret"))
    for secret in ("secret", saved.payment, saved.state, saved.next_state):
        assert secret not in shown


def test_a_session_without_a_type_of_payment_was_written_by_a_release_that_knew_one() -> None:
    saved = save(paid_session())
    former = {name: value for name, value in saved.json().items() if name not in ("payment_type", "app")}
    assert SavedSession.parse(former) == saved
    assert saved.flow.rules is PIXEL_RULES


def test_a_session_that_is_billed_in_whole_seconds_goes_on_by_these_rules_with_a_second_to_spare() -> None:
    flow = PaymentFlow(SECOND_RULES, "m1", "livepeer-example/echo")
    pixels = orchestrator_info(price=PRICE * PIXELS_PER_SECOND, ticket_seconds=Fraction(1, PIXELS_PER_SECOND))
    session = PaymentSession(
        OrchestratorInfo.parse(pixels.raw, unit=PriceUnit.SECONDS),
        interval=5 * S,
        ceiling=Fraction(10 * PRICE),
        flow=flow,
    )
    sign_and_start(session, START, 10)
    saved = save(session)
    assert saved.flow == PaymentFlow(SECOND_RULES, session.manifest_id, "livepeer-example/echo")
    again = restored(saved)
    assert (again.flow, again.info.unit, again.billing.rules) == (
        saved.flow,
        PriceUnit.SECONDS,
        SECOND_RULES,
    )
    assert seconds_to_resume(saved, START + 8 * S) == 1
    assert seconds_to_resume(saved, START + 9 * S) == 0
    action = again.next(START + 8 * S)
    assert isinstance(action, Sign), "who comes back pays first of all"
