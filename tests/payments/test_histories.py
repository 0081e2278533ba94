"""Random histories of a payment session. Models of a signer and an orchestrator lose, delay, repeat and
refuse requests, restart and change prices; the invariants hold after every step.

HISTORIES in the environment sets how many are tried; the long ones are ten times as long.
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Action, Deliver, Leave, Refresh, Sign, StartJob, Wait
from gateway.payments.billing import PRELOAD
from gateway.payments.payment import Payment, PaymentMismatch
from gateway.payments.saved_session import (
    RESERVE,
    NotResumable,
    SavedSession,
    restore,
    save,
    seconds_to_resume,
)
from gateway.payments.session import PaymentSession
from gateway.payments.spending import (
    HOUR,
    Hold,
    PublisherBudget,
    Spending,
    SpendLimitReached,
    SpendLimits,
)
from gateway.payments.ticket_limits import TicketLimits
from gateway.payments.timebase import NANOSECONDS as S
from gateway.reason import EndReason
from harness.payment_models import (
    MANIFEST,
    ORCHESTRATOR,
    PRICE,
    SENDER,
    OrchestratorModel,
    SignerModel,
    Status,
    orchestrator_info,
)
from signer_client import LivePayment, SignerState

HISTORIES = int(os.environ.get("HISTORIES", "2000"))
COLD_WALLET = bytes([7]) * 20
CEILING = 2 * PRICE
HOUR_LIMIT = 280 * PRICE
STREAM_LIMIT = 170 * PRICE
LATENCY = S // 50
PUBLISHERS = [PublisherBudget(name, STREAM_LIMIT, None) for name in ("ann", "bob")]
"""Each with a stream of the same name."""

# a run of many takes as long as it needs
pytestmark = pytest.mark.timeout(max(180, HISTORIES))


class Histories(RuleBasedStateMachine):
    """One session. Each rule asks for its next action and answers in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10**18
        self.clock = self.now
        self.signer = SignerModel()
        self.spending = Spending(SpendLimits(hour=HOUR_LIMIT), clock=lambda: self.now)
        self.spending.restore([(0, Fraction(100 * PRICE), "")], wall_ns=0)
        self.publisher = PUBLISHERS[0]
        self.hold: Hold | None = None
        """What the newest payment counts as in the limits."""
        self.under_way = 0
        self.lost_null_states = 0
        self.signed: list[LivePayment] = []
        self.undelivered: LivePayment | None = None
        self.handed_out = False
        self.kept = Fraction(0)
        """Wei that the orchestrator credited and said that it refused."""
        self.newest: SignerState | None = None
        self.written: SavedSession | None = None
        """What the ledger's database has of the session."""
        self.over: Leave | None = None
        self.ended = False
        self.dishonest = False
        self.late = False
        self.clock_offset = 0
        self.clock_was_set = False
        self.asked = False
        self.opened_at = self.now
        """When the signer was first asked."""

    @initialize(
        seconds=st.sampled_from([Fraction(tenths, 10) for tenths in (5, 6, 10, 25, 100, 610, 1200)]),
        interval=st.sampled_from([S // 10, S, 5 * S, 30 * S]),
        preload=st.sampled_from([10, 60]),
        recipient=st.sampled_from([ORCHESTRATOR, COLD_WALLET]),
        face=st.sampled_from([None, 100 * PRICE]),
    )
    def open(
        self, seconds: Fraction, interval: int, preload: int, recipient: bytes, face: int | None
    ) -> None:
        self.signer.preload = preload
        self.limits = TicketLimits(face_value=face)
        self.orchestrator = OrchestratorModel(ticket_seconds=seconds, recipient=recipient)
        self.session = PaymentSession(
            self.orchestrator.info(),
            interval=interval,
            ceiling=Fraction(CEILING),
            ticket_limits=self.limits,
        )

    # one step, in the way that its rule chooses

    def act(self) -> Action | None:
        """The next action after any wait; None after the end."""
        if self.over is not None:
            return None
        action = self.session.next(self.now)
        if isinstance(action, Wait):
            assert action.until > self.now
            self.now = action.until
            action = self.session.next(self.now)
        assert not isinstance(action, Wait)
        if isinstance(action, Leave):
            self.over = action
            return None
        if isinstance(action, Sign):
            if not self.asked:
                self.asked, self.opened_at = True, self.now
            assert self.undelivered is None, "signed again before the last payment's fate was known"
            assert action.state == self.newest, "an older state, or a null one, was used"
            most = PRELOAD * PRICE + Fraction(self.session.schedule.interval * PRICE, S)
            assert self.session.balance.left(self.now) <= most, "signed with more credit than the preload"
        if self.ended:
            assert isinstance(action, Deliver), "more than settling after the end"
            assert action.attempt > 1, "a payment was first handed out after the end"
        else:
            with pytest.raises(RuntimeError, match="has not been answered"):
                self.session.next(self.now)
        self.now += LATENCY
        return action

    def sign(
        self,
        action: Sign,
        *,
        arrives: bool = True,
        instead: int | None = None,
        on_the_way: int = 0,
        on_the_way_back: int = 0,
    ) -> None:
        """The signer's answer to a call within the limits, or `instead` tickets."""
        try:
            most, who = self.session.billing.max_due(action.info, self.now), self.publisher
            hold = self.spending.hold(who.publisher, most, STREAM_LIMIT, who)
        except SpendLimitReached as limit:
            self.session.withheld(EndReason.SPEND_LIMIT, str(limit))
            return
        self.now += on_the_way
        try:
            signers_time = Fraction(self.now, S) + self.clock_offset
            live = self.signer.sign(action.info, action.state, signers_time, instead=instead)
        except Status as status:
            hold.settle(Fraction(0))
            {
                400: lambda: self.session.signing_refused("400"),
                481: lambda: self.session.price_exceeded("481"),
                482: lambda: self.session.no_tickets_needed(self.now),
            }[status.status]()
            return
        self.now += on_the_way_back
        if arrives:
            self.take(action, live, hold)
        else:
            hold.settle(Fraction(0))
            self.lost_null_states += action.state is None
            self.session.signer_failed("reset", self.now)

    def take(self, action: Sign, live: LivePayment, hold: Hold) -> None:
        payment = Payment.read(live)
        try:
            self.session.billing.check(payment, action.info, self.now)
            hold.cover(payment.value, STREAM_LIMIT)
        except PaymentMismatch as mismatch:
            assert self.dishonest or self.overbilled(live) > Payment.read(self.signed[0]).value, mismatch
            hold.settle(Fraction(0))
            self.session.withheld(EndReason.PAYMENT_REFUSED, str(mismatch))
            return
        except SpendLimitReached as limit:
            assert self.dishonest or self.late or self.clock_was_set, limit
            hold.settle(Fraction(0))
            self.session.withheld(EndReason.SPEND_LIMIT, str(limit))
            return
        self.written = save(self.session, live)
        self.session.signed(payment)
        self.hold = hold
        self.signed.append(live)
        self.undelivered, self.newest, self.handed_out = live, live.state, False

    def overbilled(self, live: LivePayment) -> Fraction:
        """What the signer billed beyond the preload and the time that passed, in wei."""
        billed = Fraction(json.loads(base64.b64decode(live.state.state))["billed"])
        return (billed - self.signer.preload - Fraction(self.now - self.opened_at, S)) * PRICE

    def well(self, action: Action | None) -> None:
        """The action gets the correct answer."""
        match action:
            case Sign():
                self.sign(action)
            case StartJob(payment):
                assert payment.live is self.undelivered
                self.undelivered = None
                try:
                    accepted = self.orchestrator.accept(payment.live)
                except Status:
                    self.session.start_failed("400")
                    return
                if accepted is None:
                    assert self.handed_out, "a nonce was used twice in two payments"
                    self.session.start_failed("already seen")
                else:
                    self.session.started(MANIFEST, self.now)
                    self.written = save(self.session)
            case Deliver(payment):
                self.deliver(payment)
            case Refresh():
                self.session.refreshed(self.orchestrator.fresh_info())

    def deliver(self, payment: Payment, info: OrchestratorInfo | None = None) -> None:
        assert payment.live is self.undelivered, "other bytes were delivered"
        try:
            accepted = self.orchestrator.accept(payment.live)
        except Status:
            self.refuse()
            return
        self.undelivered = None
        if accepted is None:
            assert self.handed_out, "a nonce was used twice in two payments"
            self.session.already_seen(self.now)
        else:
            self.session.delivered(info or accepted, self.now)
        self.written = save(self.session)

    def keep(self, payment: Payment, keeps: bool) -> None:
        if keeps and not self.handed_out:
            with suppress(Status):
                self.orchestrator.accept(payment.live)
                self.kept += payment.value

    def refuse(self) -> None:
        self.undelivered = None if not self.handed_out else self.undelivered
        self.session.delivery_refused("400")

    @rule()
    def all_is_well(self) -> None:
        self.well(self.act())

    @rule(count=st.integers(2, 12))
    def all_is_well_for_a_while(self, count: int) -> None:
        for _ in range(count):
            self.well(self.act())

    @rule()
    def the_request_is_lost(self) -> None:
        match self.act():
            case Sign():
                self.session.signer_failed("refused", self.now)
            case Deliver(payment):
                assert payment.live is self.undelivered
                self.session.delivery_unknown("refused", self.now)
            case Refresh():
                self.session.refresh_failed("refused", self.now)
            case other:
                self.well(other)

    @rule()
    def the_answer_is_lost(self) -> None:
        match self.act():
            case Sign() as action:
                self.sign(action, arrives=False)
            case Deliver(payment):
                assert payment.live is self.undelivered
                with suppress(Status):
                    self.orchestrator.accept(payment.live)
                self.handed_out = True
                self.session.delivery_unknown("reset", self.now)
            case Refresh():
                self.session.refresh_failed("reset", self.now)
            case other:
                self.well(other)

    @rule(
        there=st.sampled_from([0, S // 2, 20 * S, 90 * S]), back=st.sampled_from([0, S // 2, 20 * S, 90 * S])
    )
    def the_request_and_its_answer_are_late(self, there: int, back: int) -> None:
        self.late = True
        match self.act():
            case Sign() as action:
                self.sign(action, on_the_way=there, on_the_way_back=back)
            case other:
                self.now += there + back
                self.well(other)

    @rule(times=st.integers(1, 3))
    def the_request_comes_more_than_once(self, times: int) -> None:
        match self.act():
            case Deliver(payment):
                for _ in range(times):
                    with suppress(Status):
                        self.orchestrator.accept(payment.live)
                self.handed_out = True
                self.deliver(payment)
            case other:
                self.well(other)

    @rule(tickets=st.integers(1, 100))
    def the_signer_makes_as_many_tickets_as_it_likes(self, tickets: int) -> None:
        match self.act():
            case Sign() as action:
                self.dishonest = True
                self.sign(action, instead=tickets)
            case other:
                self.well(other)

    @rule(status=st.sampled_from([400, 401, 480, 481, 482, 500]))
    def the_signer_answers_a_status(self, status: int) -> None:
        action = self.act()
        if not isinstance(action, Sign):
            self.well(action)
            return
        session = self.session
        {
            400: lambda: session.signing_refused("400"),
            401: lambda: session.withheld(EndReason.SIGNER_REFUSED, "401"),
            480: lambda: session.refresh_needed("480"),
            481: lambda: session.price_exceeded("481"),
            482: lambda: session.no_tickets_needed(self.now),
            500: lambda: session.signer_failed("500", self.now),
        }[status]()

    @rule()
    def the_orchestrator_has_no_room_for_the_job(self) -> None:
        match self.act():
            case StartJob():
                self.session.start_failed(
                    "503", settled=False
                )  # and another job starts with the same payment
            case other:
                self.well(other)

    @rule(arrives=st.booleans())
    def no_answer_to_the_start_comes_and_another_job_starts(self, arrives: bool) -> None:
        match self.act():
            case StartJob(payment):
                if arrives:
                    with suppress(Status):
                        self.orchestrator.accept(payment.live)
                    self.handed_out = True
                self.session.start_failed("reset", settled=False)
            case other:
                self.well(other)

    @rule(index=st.integers(0, 1))
    def another_publishers_job_starts_while_this_one_does(self, index: int) -> None:
        match self.act():
            case StartJob():
                assert self.hold is not None
                with suppress(SpendLimitReached):
                    who = PUBLISHERS[index]
                    self.hold = self.spending.move(self.hold, who.publisher, STREAM_LIMIT, who)
                    self.publisher = who
                self.session.start_again()
            case other:
                self.well(other)

    @rule(keeps=st.booleans())
    def the_orchestrator_refuses(self, keeps: bool) -> None:
        """`keeps`: and credits the tickets all the same."""
        match self.act():
            case Deliver(payment):
                self.keep(payment, keeps)
                self.refuse()
            case StartJob(payment):
                self.keep(payment, keeps)
                self.session.start_failed("503")
                self.undelivered = None
            case Refresh():
                self.session.refresh_failed("409", self.now, refused=True)
            case other:
                self.well(other)

    @rule(
        price=st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(2), Fraction(3)]),
        size=st.sampled_from([1, 2, 1000]),
    )
    def price_and_tickets_change_for_one_answer(self, price: Fraction, size: int) -> None:
        match self.act():
            case Deliver(payment):
                self.deliver(payment, self.changed(price, size))
            case Refresh():
                self.session.refreshed(self.changed(price, size))
            case other:
                self.well(other)

    @rule(address=st.sampled_from([{"recipient": bytes([8]) * 20}, {"address": bytes([8]) * 20}]))
    def the_address_changes_for_one_answer(self, address: dict[str, bytes]) -> None:
        match self.act():
            case Deliver(payment):
                self.deliver(payment, self.changed(**address))
            case Refresh():
                self.session.refreshed(self.changed(**address))
            case other:
                self.well(other)

    def changed(self, price: Fraction = Fraction(1), size: int = 1, **address: bytes) -> OrchestratorInfo:
        """A new info that differs from the orchestrator's in this."""
        rand = int(self.orchestrator.fresh_info().session_id[1:])
        return orchestrator_info(
            price=price * PRICE,
            ticket_seconds=size * self.orchestrator.ticket_seconds,
            rand=rand,
            **{"recipient": self.orchestrator.recipient, **address},
        )

    @rule(seconds=st.sampled_from([1, 4, 20, 55, 130, 4000]))
    def nobody_runs_for_a_while(self, seconds: int) -> None:
        self.now += seconds * S

    @rule(seconds=st.sampled_from([-3600, -6, -1, 1, 8, 40, 3600]))
    def the_signers_clock_is_set(self, seconds: int) -> None:
        self.clock_offset += seconds
        self.clock_was_set = True

    @precondition(lambda self: not self.ended)
    @rule(held=st.sampled_from([0, 3, 10, 50]))
    def the_job_ends(self, held: int = 0) -> None:
        """After it was `held` for its publisher, in seconds: nothing is signed then, and nothing owed."""
        paused_at, owed = self.now, self.session.balance.owed(self.now)
        self.now += held * S
        self.ended = True
        self.session.end(paused_at)
        assert self.session.balance.owed(self.now) == owed

    @precondition(lambda self: not self.ended)
    @rule()
    def the_job_ends_while_a_call_is_under_way(self) -> None:
        action = self.act()
        if isinstance(action, StartJob):
            self.well(action)
            action = None
        self.the_job_ends()
        self.well(action)

    @precondition(lambda self: not self.ended and self.over is None)
    @rule(
        moment=st.sampled_from(["idle", "the signer has answered", "the orchestrator has credited"]),
        seconds=st.sampled_from([0, 5, 30, 44, 60]),
    )
    def the_gateway_crashes_and_another_run_goes_on(self, moment: str, seconds: int) -> None:
        match self.act() if moment != "idle" else None:
            case Sign() as action:
                with suppress(Status):
                    self.signer.sign(action.info, action.state, Fraction(self.now, S) + self.clock_offset)
                    self.lost_null_states += action.state is None
            case Deliver(payment):
                with suppress(Status):
                    self.orchestrator.accept(payment.live)
                self.handed_out = True
            case other:
                self.well(other)
        self.now += seconds * S
        if self.ended or self.over is not None or not self.session.running or not self.goes_on():
            self.over = Leave(EndReason.INTERNAL_ERROR, "the gateway crashed")

    def goes_on(self) -> bool:
        """Whether another run goes on with what is written."""
        assert self.written is not None
        try:
            session = restore(
                SavedSession.parse(json.loads(json.dumps(self.written.json()))),
                sender=SENDER,
                interval=self.session.schedule.interval,
                ceiling=Fraction(CEILING),
                handed_out=self.handed_out and self.undelivered is not None,
            )
        except NotResumable:
            return False
        if seconds_to_resume(self.written, self.now) <= 0 or self.session.leaving:
            return False
        left = session.balance.seconds_left(self.now)
        assert left is not None
        assert left >= RESERVE, "gone on with too little credit"
        assert session.state == self.newest
        assert (session.pending is None) == (self.undelivered is None)
        if session.pending is not None:
            assert session.pending.live == self.undelivered, "other bytes are to be delivered"
            self.undelivered = session.pending.live
        self.session = session
        return True

    @rule()
    def the_orchestrator_restarts(self) -> None:
        self.orchestrator.restart()

    # what holds

    @invariant()
    def every_credited_ticket_is_explained(self) -> None:
        if not hasattr(self, "session"):
            return
        session, orchestrator = self.session, self.orchestrator
        assert session.balance.credited <= orchestrator.credited
        if self.undelivered is None and session.pending is None and not self.handed_out:
            assert session.balance.credited + self.kept == orchestrator.credited
        made = sum((Payment.read(live).value for live in self.signed), Fraction(0))
        assert orchestrator.credited <= made
        assert session.balance.accepted <= session.billing.payments == len(self.signed)

    @invariant()
    def no_null_state_is_used_but_the_first(self) -> None:
        assert self.signer.null_states <= 1 + self.lost_null_states

    @invariant()
    def no_more_is_paid_than_the_preload_the_time_and_two_tickets_explain(self) -> None:
        made = [Payment.read(live) for live in self.signed]
        if made:
            seconds = Fraction(self.now - self.opened_at, S) * Fraction(1001, 1000) + 5
            most = max(60 * PRICE, made[0].value) + seconds * PRICE + 2 * max(one.ticket_ev for one in made)
            if self.dishonest or self.clock_was_set:
                most += made[0].value  # as much as another job would cost
            assert made[0].value < 60 * PRICE + made[0].ticket_ev
            assert sum((one.value for one in made), Fraction(0)) <= most

    @invariant()
    def no_ticket_is_larger_than_its_limit_or_pays_another(self) -> None:
        for live in self.signed:
            payment = Payment.read(live)
            assert payment.ticket_ev <= self.limits.seconds * CEILING
            assert payment.face_value <= (self.limits.face_value or payment.face_value)
            assert payment.message.ticket_params.recipient == self.orchestrator.recipient

    @invariant()
    def nothing_is_over_its_limit(self) -> None:
        assert self.spending.spent(HOUR) <= HOUR_LIMIT
        made = sum((Payment.read(live).value for live in self.signed), Fraction(0))
        assert made <= STREAM_LIMIT
        for one in PUBLISHERS:  # who had the first payment before does not pay for it
            assert self.spending.spent_by_publisher(one, HOUR) <= (made if one == self.publisher else 0)


class LongHistories(Histories):
    """The same with ten times the steps."""


SHORT = settings(max_examples=HISTORIES, stateful_step_count=15)
Histories.TestCase.settings = SHORT
LongHistories.TestCase.settings = settings(SHORT, stateful_step_count=150)
TestHistories = Histories.TestCase
TestLongHistories = pytest.mark.long(LongHistories.TestCase)
