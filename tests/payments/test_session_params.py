"""The payment session when ticket params run out and prices change."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Deliver, Leave, Refresh, RefreshKind, Sign, Wait
from gateway.reason import EndReason
from harness.payment_models import (
    PRICE,
    orchestrator_info,
)
from signer_client import SignerState
from tests.payments.sessions import S, leaves, new_session, sign_and_start, signed


def test_480_fetches_the_info_whole_and_asks_again_with_the_same_state_at_most_three_times() -> None:
    session = new_session()
    sign_and_start(session)
    states: list[SignerState | None] = []
    for turn in range(3):
        action = session.next(5 * S)
        assert isinstance(action, Sign)
        states.append(action.state)
        session.refresh_needed("480")
        assert session.next(5 * S) == Refresh(RefreshKind.INFO)
        session.refreshed(orchestrator_info(rand=20 + turn))
        assert session.info.session_id == f"s{20 + turn}"
    assert len(set(states)) == 1
    session.next(5 * S)
    session.refresh_needed("480")
    assert leaves(session, 5 * S) is EndReason.PAYMENT_REFUSED


@pytest.mark.parametrize("worse", [{"price": PRICE + 1}, {"ticket_seconds": 601}], ids=["price", "tickets"])
def test_dearer_params_are_not_paid_on_and_the_former_stay_until_the_signer_wants_newer_ones(
    worse: dict[str, int],
) -> None:
    session = new_session()
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.delivered(orchestrator_info(**worse, rand=50), 5 * S)
    assert session.next(5 * S) == Refresh(RefreshKind.FIXED_PRICE)
    session.refreshed(orchestrator_info(**worse, rand=51))
    assert session.next(5 * S) == Wait(10 * S)
    action = session.next(10 * S)
    assert isinstance(action, Sign)
    assert action.info.session_id == "s1"
    session.refresh_needed("480")
    assert session.next(10 * S) == Refresh(RefreshKind.INFO)
    session.refreshed(orchestrator_info(**worse, rand=52))
    assert session.next(10 * S) == Refresh(RefreshKind.FIXED_PRICE)
    session.refreshed(orchestrator_info(**worse, rand=53))
    assert leaves(session, 10 * S) is EndReason.PRICE_RAISED


def test_an_orchestrator_without_a_fixed_price_is_paid_on_the_former_params_while_they_hold() -> None:
    session = new_session()
    sign_and_start(session)
    for turn in range(1, 5):
        signed(session, turn * 5 * S, first_nonce=56 + 5 * turn)
        session.next(turn * 5 * S)
        session.delivered(orchestrator_info(price=PRICE + 1, rand=50 + turn), turn * 5 * S)
        if turn == 1:
            assert session.next(5 * S) == Refresh(RefreshKind.FIXED_PRICE)
            session.refresh_failed("404", 5 * S, refused=True)
        assert session.next(turn * 5 * S) == Wait((turn + 1) * 5 * S)
        assert session.info.session_id == "s1"
    session.next(25 * S)
    session.refresh_needed("480")
    session.next(25 * S)
    session.refreshed(orchestrator_info(price=PRICE + 1, rand=60))
    assert session.next(25 * S) == Refresh(RefreshKind.FIXED_PRICE)
    session.refresh_failed("404", 25 * S, refused=True)
    assert leaves(session, 25 * S) is EndReason.PRICE_RAISED


def test_tickets_above_the_limit_are_found_before_the_first_call() -> None:
    assert isinstance(new_session(orchestrator_info(ticket_seconds=60), ceiling=PRICE).next(0), Sign)
    action = new_session(orchestrator_info(ticket_seconds=61), ceiling=PRICE).next(0)
    assert isinstance(action, Leave)
    assert action.reason is EndReason.PRICE_RAISED
    assert "-maxTicketSeconds" in action.detail


def test_a_price_that_is_raised_before_the_first_payment_is_not_paid() -> None:
    session = new_session(ceiling=2 * PRICE)
    session.next(0)
    session.refresh_needed("480")
    session.next(0)
    session.refreshed(orchestrator_info(price=PRICE / 2, rand=50))
    session.next(0)
    session.refresh_needed("480")
    session.next(0)
    session.refreshed(orchestrator_info(price=PRICE + 1, rand=51))
    assert leaves(session) is EndReason.PRICE_RAISED


def test_481_asks_for_the_first_price_and_leaves_where_that_is_refused_as_often_as_480() -> None:
    session = new_session()
    sign_and_start(session)
    for rand in (51, 52, 53):
        session.next(5 * S)
        session.price_exceeded("481")
        assert session.next(5 * S) == Refresh(RefreshKind.FIXED_PRICE)
        session.refreshed(orchestrator_info(rand=rand))
    session.next(5 * S)
    session.price_exceeded("481")
    assert leaves(session, 5 * S) is EndReason.PRICE_RAISED


def test_480_and_481_count_together() -> None:
    session = new_session()
    sign_and_start(session)
    for rand in (51, 52, 53):
        session.next(5 * S)
        if rand % 2:
            session.refresh_needed("480")
        else:
            session.price_exceeded("481")
        assert isinstance(session.next(5 * S), Refresh)
        session.refreshed(orchestrator_info(rand=rand))
    session.next(5 * S)
    session.price_exceeded("481")
    assert leaves(session, 5 * S) is EndReason.PRICE_RAISED


def test_481_on_the_first_call_leaves_at_once() -> None:
    session = new_session()
    session.next(0)
    session.price_exceeded("481")
    assert leaves(session) is EndReason.PRICE_RAISED


def test_params_that_are_used_up_are_fetched_anew_before_the_signer_is_asked() -> None:
    session = new_session()
    sign_and_start(session, tickets=100)
    now, nonce = 0, 101
    while session.billing.nonces_left(session.info) >= 100:  # params are never given with an answer
        now += 60 * S
        signed(session, now, first_nonce=nonce, tickets=60)
        nonce += 60
        assert isinstance(session.next(now), Deliver)
        session.already_seen(now)
        for _ in range(4):
            session.next(session.due_at or now)
            session.refresh_failed("down", now)
            now = max(now, session.due_at or now)
    assert session.next(now + 5 * S) == Refresh(RefreshKind.INFO)
    session.refreshed(orchestrator_info(rand=7))
    assert isinstance(session.next(now + 5 * S), Sign)


def test_the_job_goes_on_at_the_first_price() -> None:
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


def test_former_ticket_params_are_used_where_the_first_price_cannot_be_asked_for() -> None:
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


def test_a_482_resets_the_count_of_refreshes() -> None:
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
    assert session.balance.owed(6 * S) == 6 * PRICE


def test_a_price_at_the_ceiling_is_paid_and_one_wei_above_is_not() -> None:
    assert isinstance(new_session(ceiling=PRICE).next(0), Sign)
    assert leaves(new_session(orchestrator_info(price=PRICE + 1), ceiling=PRICE)) is EndReason.PRICE_RAISED


def test_a_price_above_the_ceiling_in_a_refresh_before_the_first_payment_leaves() -> None:
    session = new_session(ceiling=PRICE)
    session.next(0)
    session.refresh_needed("480")
    session.next(0)
    session.refreshed(orchestrator_info(price=PRICE + 1, rand=2))
    assert leaves(session) is EndReason.PRICE_RAISED


@pytest.mark.parametrize(
    "info",
    [OrchestratorInfo.parse(b"\x0a\x16https://127.0.0.1:8935"), orchestrator_info(price=0)],
    ids=["no price", "price zero"],
)
def test_an_orchestrator_that_cannot_be_paid_is_left_before_the_first_call(info: OrchestratorInfo) -> None:
    assert leaves(new_session(info)) is EndReason.PAYMENT_REFUSED


def test_a_cold_wallet_is_paid_and_may_not_change() -> None:
    cold = bytes([7]) * 20
    session = new_session(orchestrator_info(recipient=cold))
    sign_and_start(session)
    signed(session, 5 * S)
    session.next(5 * S)
    session.delivered(orchestrator_info(recipient=bytes([8]) * 20, rand=3), 5 * S)
    assert leaves(session, 5 * S) is EndReason.PAYMENT_REFUSED


def test_a_ticket_below_six_tenths_of_a_second_is_found_before_the_first_call() -> None:
    assert isinstance(new_session(orchestrator_info(ticket_seconds=Fraction(3, 5))).next(0), Sign)
    action = new_session(orchestrator_info(ticket_seconds=Fraction(59, 100))).next(0)
    assert isinstance(action, Leave)
    assert action.reason is EndReason.PAYMENT_REFUSED
    assert "0.59 s" in action.detail
