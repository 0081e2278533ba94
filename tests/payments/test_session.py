"""The payment session without failures, and its end."""

from __future__ import annotations

import inspect
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.payments import session as session_module
from gateway.payments.actions import Deliver, Leave, Sign, StartJob, Wait
from gateway.payments.payment import Payment
from gateway.payments.session import PaymentSession
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from harness.payment_models import (
    MANIFEST,
    PRICE,
    OrchestratorModel,
    SignerModel,
    Status,
    orchestrator_info,
    signed_payment,
)
from tests.payments.sessions import S, leaves, new_session, sign_and_start, signed

SEQUENCES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "signer-sequences.json").read_text()
)["sequences"]
LONGEST_INTERVAL = 30


@pytest.mark.parametrize(
    "known",
    [
        k
        for k in SEQUENCES
        if Fraction(k["interval_s"]) <= LONGEST_INTERVAL
        # with longer tickets the credit grows, and not every interval has a call
        and Fraction(k["ticket_seconds"]) <= Fraction(k["interval_s"])
    ],
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
                    session.billing.check(payment, session.info, now)
                    session.signed(payment)
            case StartJob(payment):
                orchestrator.accept(payment.live)
                session.started(MANIFEST, now)
            case Deliver(payment):
                session.delivered(orchestrator.accept(payment.live), now)
            case Wait(until):
                now = until
            case other:
                raise AssertionError(other)
    assert answers == known["answers"][: len(answers)]
    assert session.balance.credited == orchestrator.credited
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


def test_the_table_of_states_names_every_answer_and_nothing_else() -> None:
    named = set(re.findall(r"`([a-z_]+)`", session_module.__doc__ or "")) - {"end"}
    methods = {name for name, _ in inspect.getmembers(PaymentSession, inspect.isfunction) if name[0] != "_"}
    others = {"next", "calling", "wait_to_call", "start_again", "first_payment_usable", "end", "take"}
    assert named == methods - others


def test_asking_again_before_the_answer_is_an_error() -> None:
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
    assert session.balance.owed(123 + 3600 * S) == 36 * 10**17
    assert session.balance.owed(124) == Fraction(PRICE, NANOSECONDS)


def test_nothing_is_signed_while_the_credit_exceeds_the_preload_by_one_interval() -> None:
    session = new_session(orchestrator_info(ticket_seconds=300))
    sign_and_start(session, tickets=1)
    assert session.balance.credited == 300 * PRICE
    assert session.next(0) == Wait(240 * S)
    assert isinstance(session.next(240 * S), Sign)


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


def test_a_short_preload_is_paid_on_twice_before_it_is_used_up() -> None:
    session = new_session(interval=30 * S)
    sign_and_start(session, tickets=10)
    assert session.next(0) == Wait(5 * S)
    signed(session, 5 * S, first_nonce=11, tickets=5)
    session.next(5 * S)
    session.delivered(orchestrator_info(rand=2), 5 * S)
    assert session.next(5 * S) == Wait(10 * S)


def test_a_slow_delivery_is_followed_by_the_next_payment_at_once() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.delivered(orchestrator_info(rand=2), 12 * S)
    assert isinstance(session.next(12 * S), Sign)


def test_a_job_without_a_manifest_id_is_not_paid_on() -> None:
    session = new_session()
    sign = session.next(0)
    assert isinstance(sign, Sign)
    session.signed(Payment.read(signed_payment(sign.info, 1, 60)))
    session.next(0)
    session.started("", 0)
    assert leaves(session) is EndReason.ORCHESTRATOR_LOST


def test_a_call_of_the_signer_that_was_withheld_ends_the_session() -> None:
    session = new_session()
    sign_and_start(session)
    session.next(5 * S)
    session.end(5 * S)
    session.withheld(EndReason.SPEND_LIMIT, "over")
    assert leaves(session, 5 * S) is EndReason.SPEND_LIMIT


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
    assert session.balance.credited == 65 * PRICE
    assert session.balance.owed(100 * S) == 6 * PRICE


def test_a_payment_that_was_never_sent_is_not_sent_after_the_end() -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.end(5 * S)
    assert isinstance(session.next(5 * S), Leave)


def test_a_first_payment_serves_another_start_while_its_session_can_be_paid_on() -> None:
    session = new_session()
    signed(session, 0, first_nonce=1, tickets=60)
    assert isinstance(session.next(0), StartJob)
    session.start_failed("503", settled=False)
    assert session.first_payment_usable(80 * S)
    assert not session.first_payment_usable(100 * S), "the time until then needs more than 100 tickets"
    session.start_again()
    assert isinstance(session.next(80 * S), StartJob)
    session.started(MANIFEST, 80 * S)
    assert not session.first_payment_usable(80 * S)
    later = signed(session, 85 * S, first_nonce=61, tickets=85)
    assert later.tickets == 85


def test_a_first_payment_is_kept_no_longer_than_its_ticket_params_hold() -> None:
    session = new_session(orchestrator_info(ticket_seconds=60))
    signed(session, 0, first_nonce=1, tickets=1)
    assert session.first_payment_usable(479 * S)
    assert not session.first_payment_usable(480 * S)
