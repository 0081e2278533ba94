"""The payment session against models of a signer and an orchestrator, and answer by answer."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Deliver, Leave, Refresh, RefreshKind, Sign, Start, Wait
from gateway.payments.payment import Payment, PaymentMismatch
from gateway.payments.session import NANOSECONDS, PaymentSession, wants_payment
from gateway.reason import EndReason
from signer_client import LivePayment, SignerState
from tests.payments.models import (
    MANIFEST,
    PRICE,
    OrchestratorModel,
    SignerModel,
    Status,
    orchestrator_info,
    signed_payment,
)

SEQUENCES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "signer-sequences.json").read_text()
)["sequences"]
LONGEST_INTERVAL = 30
S = NANOSECONDS


def new_session(
    info: OrchestratorInfo | None = None, *, ceiling: int | None = None, interval: int = 5 * S
) -> PaymentSession:
    return PaymentSession(
        info or orchestrator_info(), interval=interval, ceiling=None if ceiling is None else Fraction(ceiling)
    )


def sign_and_start(session: PaymentSession, now: int = 0, tickets: int = 60) -> None:
    """Bring a session to where its job runs and 60 s are credited."""
    sign = session.next(now)
    assert isinstance(sign, Sign)
    session.signed(Payment.read(signed_payment(sign.info, 1, tickets)))
    assert isinstance(session.next(now), Start)
    session.started(MANIFEST, now)


def signed(session: PaymentSession, now: int, first_nonce: int = 61, tickets: int = 5) -> Payment:
    sign = session.next(now)
    assert isinstance(sign, Sign)
    payment = Payment.read(signed_payment(sign.info, first_nonce, tickets, state=f'{{"seq": {sign.number}}}'))
    session.check(payment, now)
    session.signed(payment)
    return payment


def leaves(session: PaymentSession, now: int = 0) -> EndReason:
    action = session.next(now)
    assert isinstance(action, Leave), action
    return action.reason


@pytest.mark.parametrize(
    "known",
    [k for k in SEQUENCES if Fraction(k["interval_s"]) <= LONGEST_INTERVAL],
    ids=lambda k: f"E {k['ticket_seconds']} I {k['interval_s']}",
)
def test_calls_at_an_interval_get_the_known_answers(known: dict[str, Any]) -> None:
    seconds, interval = Fraction(known["ticket_seconds"]), int(Fraction(known["interval_s"]) * S)
    signer, orchestrator = SignerModel(), OrchestratorModel(ticket_seconds=seconds)
    session = new_session(orchestrator.info(), interval=interval)
    if known["answers"][0] == 400:
        assert leaves(session) is EndReason.PAYMENT_REFUSED
        with pytest.raises(Status, match="400"):
            signer.sign(orchestrator.info(), None, Fraction(0))
        return
    now, answers = 0, []
    while len(answers) < len(known["answers"]):
        match action := session.next(now):
            case Sign():
                try:
                    payment = Payment.read(signer.sign(action.info, action.state, Fraction(now, S)))
                except Status as status:
                    answers.append(status.status)
                    if status.status == 400:
                        session.signing_refused("over 100 tickets")
                        assert leaves(session, now) is EndReason.PAYMENT_REFUSED
                        break
                    session.no_tickets_needed(now)
                else:
                    answers.append(payment.tickets)
                    session.check(payment, now)
                    session.signed(payment)
            case Start(payment):
                orchestrator.accept(payment.live)
                session.started(MANIFEST, now)
            case Deliver(payment):
                session.delivered(orchestrator.accept(payment.live), now)
            case Wait(until):
                now = until
            case other:
                raise AssertionError(other)
    assert answers == known["answers"][: len(answers)]
    assert session.credited == orchestrator.credited
    assert signer.null_states == 1


def test_the_first_call_has_a_null_state_and_no_manifest_id_and_later_ones_have_both() -> None:
    session = new_session()
    first = session.next(0)
    assert isinstance(first, Sign)
    assert (first.state, first.manifest_id, first.number) == (None, "", 1)
    payment = Payment.read(signed_payment(first.info, 1, 60, state="one"))
    session.signed(payment)
    session.next(0)
    session.started(MANIFEST, 0)
    assert session.next(0) == Wait(5 * S)
    second = session.next(5 * S)
    assert isinstance(second, Sign)
    assert (second.state, second.manifest_id, second.number) == (payment.state, MANIFEST, 2)


def test_a_second_question_before_the_answer_is_a_mistake() -> None:
    session = new_session()
    session.next(0)
    with pytest.raises(RuntimeError, match="not been answered"):
        session.next(0)
    with pytest.raises(RuntimeError, match="Deliver"):
        session.delivered(None, 0)


def test_a_late_timer_pays_once() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 23 * S)
    assert isinstance(session.next(23 * S), Deliver)
    session.delivered(orchestrator_info(rand=2), 23 * S)
    assert session.next(23 * S) == Wait(25 * S)


def test_the_fee_is_exact_to_the_nanosecond() -> None:
    session = new_session()
    sign_and_start(session, now=123)
    assert session.owed(123 + 3600 * S) == 36 * 10**17
    assert session.owed(124) == Fraction(PRICE, NANOSECONDS)


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
    assert session.credited == 65 * PRICE
    assert session.next(now) == Refresh(RefreshKind.INFO)
    session.refreshed(orchestrator_info(rand=9))
    assert session.info.session_id == "s9"


def test_former_ticket_params_serve_when_those_after_already_seen_are_not_to_be_had() -> None:
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
            session.signer_failed("refused", now, answered=False)
    assert action.reason is EndReason.SIGNER_UNREACHABLE
    assert 60 * S < now <= 64 * S


@pytest.mark.parametrize(
    ("answered", "reason"),
    [(False, EndReason.SIGNER_UNREACHABLE), (True, EndReason.PAYMENT_REFUSED)],
)
def test_a_first_call_that_fails_is_tried_a_few_times_only(answered: bool, reason: EndReason) -> None:
    session, now, calls = new_session(), 0, 0
    while not isinstance(action := session.next(now), Leave):
        if isinstance(action, Wait):
            now = action.until
        else:
            assert isinstance(action, Sign)
            assert action.state is None
            calls += 1
            session.signer_failed("no", now, answered=answered)
    assert (action.reason, calls) == (reason, 4)


def test_480_fetches_the_info_whole_and_asks_again_with_the_same_state_at_most_three_times() -> None:
    session = new_session()
    sign_and_start(session)
    states: list[SignerState | None] = []
    for turn in range(3):
        action = session.next(5 * S)
        assert isinstance(action, Sign)
        states.append(action.state)
        session.refresh_needed()
        assert session.next(5 * S) == Refresh(RefreshKind.INFO)
        session.refreshed(orchestrator_info(rand=20 + turn))
        assert session.info.session_id == f"s{20 + turn}"
    assert len(set(states)) == 1
    session.next(5 * S)
    session.refresh_needed()
    assert leaves(session, 5 * S) is EndReason.PAYMENT_REFUSED


def test_482_keeps_the_state_and_asks_again_at_the_next_interval() -> None:
    session = new_session()
    sign_and_start(session)
    first = session.next(5 * S)
    assert isinstance(first, Sign)
    session.no_tickets_needed(5 * S)
    assert session.idle
    assert session.next(5 * S) == Wait(10 * S)
    second = session.next(10 * S)
    assert second == first


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
    assert 0 <= session.credit(now) < 5 * PRICE


def test_a_short_preload_is_paid_on_twice_before_it_is_used_up() -> None:
    session = new_session(interval=30 * S)
    sign_and_start(session, tickets=10)
    assert session.next(0) == Wait(5 * S)
    signed(session, 5 * S, first_nonce=11, tickets=5)
    session.next(5 * S)
    session.delivered(orchestrator_info(rand=2), 5 * S)
    assert session.next(5 * S) == Wait(10 * S)


def test_a_gap_of_over_a_hundred_tickets_leaves_for_a_new_job_without_asking() -> None:
    session = new_session()
    sign_and_start(session)
    action = session.next(103 * S)
    assert isinstance(action, Leave)
    assert action.reason is EndReason.CREDIT_EXHAUSTED
    assert "null state" in action.detail


def test_a_400_after_a_gap_near_a_hundred_tickets_is_the_gaps_fault_and_nobody_elses() -> None:
    session = new_session()
    sign_and_start(session)
    assert isinstance(session.next(100 * S), Sign)
    session.signing_refused("400")
    assert leaves(session, 100 * S) is EndReason.CREDIT_EXHAUSTED


def test_a_slow_delivery_is_followed_by_the_next_payment_at_once() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.delivered(orchestrator_info(rand=2), 12 * S)
    assert isinstance(session.next(12 * S), Sign)


def test_what_was_asked_for_and_then_not_asked_of_the_signer_ends_the_session() -> None:
    session = new_session()
    sign_and_start(session)
    session.next(5 * S)
    session.end(5 * S)
    session.withheld(EndReason.SPEND_LIMIT, "over")
    assert leaves(session, 5 * S) is EndReason.SPEND_LIMIT


@pytest.mark.parametrize("seconds", [Fraction(3, 5), Fraction(1), Fraction(10), Fraction(61)])
def test_the_signers_rules_keep_each_payment_below_its_worst_case_and_the_credit_near_the_preload(
    seconds: Fraction,
) -> None:
    signer, orchestrator = SignerModel(), OrchestratorModel(ticket_seconds=seconds)
    session, now, paid = new_session(orchestrator.info(), interval=2 * S), 0, 0
    while paid < 40:
        match action := session.next(now):
            case Sign():
                most = session.due_at_most(now)
                try:
                    payment = Payment.read(signer.sign(action.info, action.state, Fraction(now, S)))
                except Status:
                    session.no_tickets_needed(now)
                    continue
                assert payment.value <= most <= max(payment.value, 60 * PRICE) + 3 * payment.ticket_ev
                session.signed(payment)
                paid += 1
            case Start():
                session.started(MANIFEST, now)
            case Deliver(payment):
                session.delivered(orchestrator.accept(payment.live), now)
                assert 58 * PRICE <= session.credit(now) <= 60 * PRICE + 2 * payment.ticket_ev
            case Wait(until):
                now = until
                assert session.started_at is None or session.credit(now) >= 58 * PRICE
            case other:
                raise AssertionError(other)


@pytest.mark.parametrize("by_signer", [True, False])
def test_a_raised_price_asks_for_the_first_one_then_leaves(by_signer: bool) -> None:
    session = new_session()
    sign_and_start(session)

    def raise_price() -> None:
        if by_signer:
            session.next(5 * S)
            session.price_exceeded("481")
        else:
            signed(session, 5 * S, first_nonce=61 if session.accepted == 1 else 1)
            session.next(5 * S)
            session.delivered(orchestrator_info(price=PRICE + 1, rand=50), 5 * S)

    raise_price()
    assert session.next(5 * S) == Refresh(RefreshKind.FIXED_PRICE)
    if by_signer:
        for rand in (51, 52):  # two more may be chance; whoever says it a fourth time means it
            session.refreshed(orchestrator_info(rand=rand))
            raise_price()
            assert session.next(5 * S) == Refresh(RefreshKind.FIXED_PRICE)
        session.refreshed(orchestrator_info(rand=53))
        raise_price()
    else:
        session.refreshed(orchestrator_info(price=PRICE + 1, rand=51))
    assert leaves(session, 5 * S) is EndReason.PRICE_RAISED


def test_the_first_price_found_again_goes_on() -> None:
    session = new_session()
    sign_and_start(session)
    for turn in (1, 2, 3):
        now = turn * 5 * S
        signed(session, now, first_nonce=61 if turn == 1 else 1)
        session.next(now)
        session.delivered(orchestrator_info(price=2 * PRICE, rand=10 * turn), now)
        assert session.next(now) == Refresh(RefreshKind.FIXED_PRICE)
        session.refreshed(orchestrator_info(rand=10 * turn + 1))
    assert session.info.session_id == "s31"


def test_former_ticket_params_serve_where_the_first_price_cannot_be_asked_for() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.delivered(orchestrator_info(price=2 * PRICE, rand=2), 5 * S)
    now = 5 * S
    while not isinstance(action := session.next(now), Sign):
        if isinstance(action, Wait):
            now = action.until
        else:
            assert action == Refresh(RefreshKind.FIXED_PRICE)
            session.refresh_failed("no connection", now)
    assert now == 10 * S
    assert (action.info.price, action.info.session_id) == (PRICE, "s1")


def test_a_session_unknown_to_refresh_payment_is_a_raised_price() -> None:
    session = new_session()
    sign_and_start(session)
    session.next(5 * S)
    session.price_exceeded("481")
    session.next(5 * S)
    session.refresh_failed("409", 5 * S, refused=True)
    assert leaves(session, 5 * S) is EndReason.PRICE_RAISED


def test_a_482_says_that_the_price_is_right() -> None:
    session = new_session()
    sign_and_start(session)
    now = 5 * S
    for rand in range(60, 65):
        session.next(now)
        session.price_exceeded("481")
        assert session.next(now) == Refresh(RefreshKind.FIXED_PRICE)
        session.refreshed(orchestrator_info(rand=rand))
        session.next(now)
        session.no_tickets_needed(now)
        assert isinstance(session.next(now), Wait)
        now += 5 * S


def test_a_cheaper_answer_is_taken_and_owed_stays_at_the_first_price() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.delivered(orchestrator_info(price=PRICE // 2, rand=3), 5 * S)
    assert session.info.session_id == "s3"
    assert session.owed(6 * S) == 6 * PRICE


def test_a_price_at_the_ceiling_is_paid_and_one_wei_above_is_not() -> None:
    assert isinstance(new_session(ceiling=PRICE).next(0), Sign)
    assert leaves(new_session(orchestrator_info(price=PRICE + 1), ceiling=PRICE)) is EndReason.PRICE_RAISED


def test_a_price_above_the_ceiling_in_a_refresh_before_the_first_payment_leaves() -> None:
    session = new_session(ceiling=PRICE)
    session.next(0)
    session.refresh_needed()
    session.next(0)
    session.refreshed(orchestrator_info(price=PRICE + 1, rand=2))
    assert leaves(session) is EndReason.PRICE_RAISED


def test_who_is_not_to_be_paid_and_who_cannot_be_are_told_apart() -> None:
    free = OrchestratorInfo.parse(b"\x0a\x16https://127.0.0.1:8935")
    assert not wants_payment(free)
    at_zero = orchestrator_info(price=0)
    assert wants_payment(at_zero)
    assert leaves(new_session(at_zero)) is EndReason.PAYMENT_REFUSED


def test_a_ticket_below_six_tenths_of_a_second_is_found_before_the_first_call() -> None:
    assert isinstance(new_session(orchestrator_info(ticket_seconds=Fraction(3, 5))).next(0), Sign)
    action = new_session(orchestrator_info(ticket_seconds=Fraction(59, 100))).next(0)
    assert isinstance(action, Leave)
    assert action.reason is EndReason.PAYMENT_REFUSED
    assert "0.59 s" in action.detail


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
    rejected.signer_rejected("483")
    assert leaves(rejected) is EndReason.SIGNER_REFUSED
    signed(refused, 5 * S)
    refused.next(5 * S)
    refused.delivery_refused("403")
    assert leaves(refused) is EndReason.PAYMENT_REFUSED
    assert refused.credited == 60 * PRICE
    signed(other, 5 * S)
    other.next(5 * S)
    other.delivered(orchestrator_info(address=bytes(19) + b"\1", rand=2), 5 * S)
    assert leaves(other) is EndReason.PAYMENT_REFUSED


def test_a_job_without_a_manifest_id_is_not_paid_on() -> None:
    session = new_session()
    sign = session.next(0)
    assert isinstance(sign, Sign)
    session.signed(Payment.read(signed_payment(sign.info, 1, 60)))
    session.next(0)
    session.started("", 0)
    assert leaves(session) is EndReason.ORCHESTRATOR_LOST


def test_nothing_is_signed_after_the_end_and_an_unknown_payment_is_settled() -> None:
    session = new_session()
    sign_and_start(session)
    payment = signed(session, 5 * S)
    session.next(5 * S)
    session.delivery_unknown("reset", 5 * S)
    session.end(6 * S)
    assert session.next(6 * S) == Deliver(payment, 2)
    session.already_seen(6 * S)
    assert isinstance(session.next(60 * S), Leave)
    assert session.credited == 65 * PRICE
    assert session.owed(100 * S) == 6 * PRICE


def test_a_payment_that_was_never_sent_is_not_sent_after_the_end() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.end(5 * S)
    assert isinstance(session.next(5 * S), Leave)


def test_payments_that_are_not_what_was_asked_for_are_found() -> None:
    session = new_session()
    sign_and_start(session)
    asked = orchestrator_info()
    for wrong, words in [
        (signed_payment(orchestrator_info(rand=2), 61, 5), "other ticket params"),
        (signed_payment(orchestrator_info(ticket_seconds=2), 61, 5), "other ticket params"),
        (signed_payment(asked, 60, 5), "does not rise"),
        (signed_payment(asked, 61, 100), "at most"),
    ]:
        with pytest.raises(PaymentMismatch, match=words):
            session.check(Payment.read(wrong), 5 * S)
    session.check(Payment.read(signed_payment(asked, 61, 67)), 5 * S)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Fraction, int, list[str]]:
    seconds = draw(st.sampled_from([Fraction(3, 5), Fraction(1), Fraction(5, 2), Fraction(10), Fraction(61)]))
    interval = draw(st.sampled_from([S // 10, S, 5 * S, 30 * S]))
    faults = draw(
        st.lists(
            st.sampled_from(
                ["ok", "ok", "ok", "lost before", "lost after", "twice", "480", "500", "no answer", "dearer"]
            ),
            min_size=5,
            max_size=60,
        )
    )
    return seconds, interval, faults


@settings(max_examples=60, deadline=None)
@given(histories())
def test_whatever_is_lost_repeated_or_refused_the_rules_hold(
    history: tuple[Fraction, int, list[str]],
) -> None:
    seconds, interval, faults = history
    signer, orchestrator = SignerModel(), OrchestratorModel(ticket_seconds=seconds)
    session = new_session(orchestrator.info(), interval=interval)
    now, lost_signings = 0, 0
    undelivered: LivePayment | None = None
    newest: SignerState | None = None
    for fault in faults:
        action = session.next(now)
        if isinstance(action, Wait):
            now = action.until
            action = session.next(now)
        now += S // 50
        match action:
            case Sign():
                assert undelivered is None, "another payment was signed before the last one was settled"
                assert action.state == newest, "an older state was used"
                if fault == "480":
                    session.refresh_needed()
                elif fault in ("500", "lost before", "no answer"):
                    session.signer_failed("down", now, answered=fault == "500")
                else:
                    try:
                        live = signer.sign(action.info, action.state, Fraction(now, S))
                    except Status as status:
                        match status.status:
                            case 481:
                                session.price_exceeded("481")
                            case 482:
                                session.no_tickets_needed(now)
                            case _:
                                session.signing_refused("400")
                    else:
                        if fault == "lost after":
                            lost_signings += 1
                            session.signer_failed("reset", now, answered=False)
                        else:
                            payment = Payment.read(live)
                            session.check(payment, now)
                            session.signed(payment)
                            undelivered, newest = live, live.state
            case Start(payment):
                assert payment.live is undelivered
                orchestrator.accept(payment.live)
                session.started(MANIFEST, now)
                undelivered = None
            case Deliver(payment):
                assert payment.live is undelivered, "other bytes were delivered again"
                if fault in ("lost before", "500", "no answer"):
                    session.delivery_unknown("reset", now)
                    continue
                if fault == "twice":
                    orchestrator.accept(payment.live)
                info = orchestrator.accept(payment.live)
                if fault == "lost after":
                    session.delivery_unknown("reset", now)
                elif info is None:
                    session.already_seen(now)
                    undelivered = None
                else:
                    if fault == "dearer":
                        info = orchestrator_info(
                            price=2 * PRICE, ticket_seconds=seconds, rand=int(info.session_id[1:])
                        )
                    session.delivered(info, now)
                    undelivered = None
            case Refresh():
                if fault in ("lost before", "lost after", "no answer", "500"):
                    session.refresh_failed("reset", now)
                else:
                    session.refreshed(orchestrator.fresh_info())
            case Leave():
                break
            case Wait():
                raise AssertionError("waited twice")
    if undelivered is None:
        assert session.credited == orchestrator.credited
    else:
        assert session.credited <= orchestrator.credited
    assert session.credited == session.tickets * seconds * PRICE
    assert signer.null_states <= 1 + lost_signings
