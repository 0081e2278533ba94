"""Random histories of a payment session with a live runner, in both dialects, by the second or the pixel.

Models of signer and orchestrator lose, delay and refuse requests and release sessions, clocks are set, and
the gateway crashes; the invariants hold after every step. HISTORIES sets how many are tried, as for the
histories of jobs.
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from fractions import Fraction
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.orchestrator.errors import (
    AlreadySeen,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import PriceUnit
from gateway.payments.actions import Action, Deliver, Leave, Refresh, Sign, StartJob, Wait
from gateway.payments.job_identity import JobIdentity
from gateway.payments.payer import Payer
from gateway.payments.payment import Payment, PaymentMismatch
from gateway.payments.saved_jobs import FormerJob, SavedJob
from gateway.payments.saved_session import NotResumable, SavedSession, restore, save, seconds_to_resume
from gateway.payments.session import PaymentSession
from gateway.payments.signing_rules import PaymentFlow
from gateway.payments.steps import Step
from gateway.payments.timebase import NANOSECONDS as S
from gateway.payments.timebase import Moment
from gateway.reason import EndReason
from gateway.runner.client import RunnerClient
from gateway.runner.errors import NoSuchSession
from gateway.runner.offer import RunnerOffer, Unit
from gateway.runner.payee import SessionPayee
from gateway.runner.remains import RunnerRemains
from gateway.runner.reserve import Challenge
from gateway.runner.reserving import reserve
from gateway.runner.resources import RunnerResources
from gateway.runner.selection import rules
from gateway.runner.session_details import SessionDetails
from gateway.runner.source import RunnerSource
from gateway.stream.seam import PublishRequest
from harness.live_payment_models import Dialect, LiveOrchestratorModel, LiveSignerModel, answer_of
from harness.payment_models import MANIFEST, SENDER, SENDER_TEXT, Status
from signer_client import LivePayment, SignerState

HISTORIES = int(os.environ.get("HISTORIES", "2000")) // 10
MS = S // 1000
FLOWS: tuple[tuple[Dialect, Unit], ...] = (
    ("go", Unit.SECONDS),
    ("node", Unit.SECONDS),
    ("go", Unit.PIXELS),
)
"""livepeer/node knows no prices by the pixel."""
CRASHES = ("the signer has answered", "it is written", "it is handed out", "it is credited")
"""How far the newest payment has come when the gateway crashes."""
REQUEST = PublishRequest("cam", "cam", "r1", "echo")
ANSWERED_WITHIN = 500 * MS
"""A payment that took no longer, from the call of the signer to the credit, was answered in time."""
LEAST_CREDIT = 5
ROUNDING = Fraction(8, 100)
"""Seconds that each payment is rounded up by at most: 2 % where one is made each 4 s."""
MOST_OVER = Fraction(2, 100)
"""The same as a share of the time since the session was opened, where nothing disturbs the payments."""

pytestmark = pytest.mark.timeout(max(180, 5 * HISTORIES))


class LiveHistories(RuleBasedStateMachine):
    """One session. Each rule asks for its next action and answers in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.began = 10**18
        self.offset = Fraction(0)
        """Of the signer's clock, seconds."""
        self.newest: SignerState | None = None
        self.billed_over = Fraction(0)
        self.undelivered: LivePayment | None = None
        self.in_doubt = Fraction(0)
        """Wei that were perhaps credited, and said to be refused."""
        self.value = Fraction(0)
        """Wei of all payments that the signer gave us."""
        self.lost_null_states = 0
        self.written: SavedSession | None = None
        """What the ledger's database has of the session."""
        self.handed_out = False
        """Whether it says that the newest payment may have arrived."""
        self.start_unanswered = False
        self.disturbed = 0
        self.unanswered = self.slow = self.clock_was_set = False
        self.called_at: int | None = None
        self.over: Leave | None = None

    @initialize(
        flow=st.sampled_from(FLOWS),
        ticket_seconds=st.sampled_from([Fraction(tenths, 10) for tenths in (2, 7, 10, 30, 45, 120, 610)]),
        interval=st.sampled_from([S, 3 * S, 5 * S]),
        stamp=st.sampled_from([0, 40, 100]),
        steps=st.sampled_from([0, 0, 2, 3, 6]),
    )
    def open(
        self, flow: tuple[Dialect, Unit], ticket_seconds: Fraction, interval: int, stamp: int, steps: int
    ) -> None:
        """After `stamp` percent of a call the signer looks at its clock. `steps` that go well follow."""
        self.stamp, self.interval = stamp, interval
        dialect, unit = flow
        self.orchestrator = LiveOrchestratorModel(
            dialect,
            lambda: Fraction(self.now, S),
            ticket_seconds=ticket_seconds,
            unit=PriceUnit.SECONDS if unit is Unit.SECONDS else PriceUnit.PIXELS,
        )
        info, self.price = self.orchestrator.challenge(), Fraction(self.orchestrator.price)
        offer = RunnerOffer(url=info.url, app="echo", price=self.price, unit=unit)
        self.signer = LiveSignerModel(dialect, rules(offer).type)
        self.payee = SessionPayee(
            cast(RunnerClient, self.orchestrator), offer, Challenge(info, MANIFEST, f"{info.url}/payment")
        )
        self.session = PaymentSession(
            info, interval=interval, ceiling=self.price, flow=PaymentFlow(rules(offer), MANIFEST, "echo")
        )
        for _ in range(steps):
            self.well(self.act(), 50 * MS)

    # one step, in the way that its rule chooses

    def act(self) -> Action | None:
        """The next action after any wait; None after the end."""
        if self.over is not None:
            return None
        action = self.session.next(self.now)
        if isinstance(action, Wait):
            assert action.until > self.now
            self.pass_time(action.until - self.now)
            action = self.session.next(self.now)
        assert not isinstance(action, Wait)
        if isinstance(action, Leave):
            self.over = action
            return None
        if isinstance(action, Sign):
            assert self.undelivered is None, "signed again before the last payment's fate was known"
            assert action.state == self.newest, "an older state, or a null one, was used"
            self.pass_time(self.session.wait_to_call(self.now))
            self.session.calling(self.now)
            self.called_at = self.now if self.called_at is None else self.called_at
        return action

    def pass_time(self, nanoseconds: int) -> None:
        self.now += nanoseconds
        self.orchestrator.debit()

    def call_signer(self, sign: Sign, took: int, *, arrives: bool = True) -> None:
        """The signer is called; its answer comes after `took`."""
        before = took * self.stamp // 100
        self.pass_time(before)
        stamped = Fraction(self.now, S) + self.offset
        try:
            live = self.signer.sign(sign.info, sign.state, stamped, Fraction(self.now, S))
        except Status as status:
            self.pass_time(took - before)
            {
                400: lambda: self.session.signing_refused("400"),
                480: lambda: self.session.refresh_needed("480"),
                482: lambda: self.session.no_tickets_needed(self.now),
            }[status.status]()
            if status.status == 482:
                self.called_at = None
            return
        self.pass_time(took - before)
        if not arrives:
            self.lost_null_states += sign.state is None
            self.session.signer_failed("reset", self.now)
            return
        self.session.billing.answered(self.now)
        payment = Payment.read(live)
        try:
            self.session.billing.check(payment, sign.info, self.now)
        except PaymentMismatch as mismatch:
            assert self.clock_was_set, mismatch
            self.session.withheld(EndReason.PAYMENT_REFUSED, str(mismatch))
            return
        self.billed_over = Fraction(json.loads(base64.b64decode(live.state.state))["over"])
        self.value += payment.value
        self.undelivered, self.newest = live, live.state
        self.written, self.handed_out = save(self.session, live), False
        self.session.signed(payment)

    def deliver(self, payment: Payment, took: int) -> None:
        """Handed to the orchestrator, as `Delivery` does."""
        assert payment.live is self.undelivered, "other bytes were delivered"
        self.handed_out = True
        self.pass_time(took // 2)
        before = self.orchestrator.credited
        try:
            info = answer_of(
                self.payee.deliver_payment(
                    self.session.info, payment=payment.live.payment, seg_creds=payment.live.seg_creds
                )
            )
        except AlreadySeen:
            self.credited(took)
            self.session.already_seen(self.now)
        except (UnknownOutcome, Unreachable) as error:
            self.pass_time(took - took // 2)
            self.session.delivery_unknown(str(error), self.now)
            if self.orchestrator.credited > before:
                self.in_doubt = payment.value
        except Refused as error:
            assert isinstance(error, NoSuchSession), "a payment that was credited counts as refused"
            self.undelivered = None
            self.session.delivery_refused(str(error))
        else:
            self.credited(took)
            self.session.delivered(info, self.now)
        if self.undelivered is None:
            self.written = save(self.session)

    def credited(self, took: int) -> None:
        self.pass_time(took - took // 2)
        if self.called_at is not None and self.session.running:
            in_time = self.now - self.called_at <= ANSWERED_WITHIN
            self.slow = self.slow or not in_time
        left = self.session.balance.seconds_left(self.now)
        if left is not None and not self.unanswered:
            least = 0 if self.slow or self.clock_was_set else LEAST_CREDIT
            assert left >= least, f"the credit fell to {float(left)} s"
        self.undelivered, self.in_doubt, self.called_at = None, Fraction(0), None

    def well(self, action: Action | None, took: int) -> None:
        """The action gets the correct answer after `took`, a delivery after a quarter of it."""
        match action:
            case Sign():
                self.call_signer(action, took)
            case StartJob(payment):
                self.start(payment, took)
            case Deliver(payment):
                self.deliver(payment, took // 4)
            case Refresh():
                self.pass_time(took)
                try:
                    info = answer_of(self.payee.refresh_payment(self.session.info, sender="", manifest_id=""))
                except OrchestratorError as error:
                    refused = isinstance(error, Refused)
                    self.session.refresh_failed(str(error), self.now, refused=refused)
                else:
                    self.session.refreshed(info)

    def start(self, payment: Payment, took: int) -> None:
        """The session is reserved, by an earlier try or by this one."""
        payer = SimpleNamespace(start_unanswered=self.start_unanswered, job_refused=accept_refusal)
        self.handed_out = True
        self.pass_time(took)
        try:
            client = cast(RunnerClient, self.orchestrator)
            _, before = answer_of(reserve(client, self.payee, cast(Payer, payer), payment.live))
        except OrchestratorError:
            assert self.start_unanswered and self.orchestrator.released, "it is not served"
            self.over = Leave(EndReason.ORCHESTRATOR_LOST, "the session of its payment is over")
            return
        self.pass_time(took)
        self.undelivered = self.called_at = None
        self.in_doubt = Fraction(0)
        self.session.started(MANIFEST, self.now, before=before)
        self.written = save(self.session)
        if before:
            left = self.session.balance.seconds_left(self.now)
            # go-livepeer debits each 5 s: what is owed since the last time does not show yet
            assert left is not None and 0 <= left <= max(0, self.orchestrator.seconds_left)

    @rule(took=st.lists(st.integers(20 * MS, 80 * MS), min_size=1, max_size=60))
    def all_is_well(self, took: list[int]) -> None:
        for one in took:
            self.well(self.act(), one)

    @rule(took=st.sampled_from([90 * MS, 300 * MS, S, 2 * S]))
    def a_call_takes_longer(self, took: int) -> None:
        self.disturbed += 1
        self.well(self.act(), took)

    @rule()
    def the_loop_is_late(self) -> None:
        self.disturbed += 1
        action = self.act()
        self.pass_time(150 * MS)
        if isinstance(action, Sign):
            self.session.calling(self.now)
        self.well(action, 50 * MS)

    @rule(arrives=st.booleans())
    def the_signer_does_not_answer(self, arrives: bool) -> None:
        """`arrives`: it made a payment, whose answer is lost."""
        match self.act():
            case Sign() as action if arrives:
                self.fail()
                self.call_signer(action, S, arrives=False)
            case Sign():
                self.fail()
                self.session.signer_failed("refused", self.now)
            case other:
                self.well(other, 50 * MS)

    @rule(fault=st.sampled_from(["lost", "busy", "unanswered"]), times=st.integers(1, 3))
    def the_orchestrator_does_not_answer(self, fault: str, times: int) -> None:
        for _ in range(times):
            match self.act():
                case (Deliver() | Refresh()) as action:
                    self.fail()
                    self.orchestrator.faults.append(fault)
                    self.well(action, S)
                case other:
                    self.well(other, 50 * MS)

    def fail(self) -> None:
        self.unanswered = True
        self.disturbed += 1

    @rule()
    def the_orchestrator_releases_the_session(self) -> None:
        self.unanswered = True
        self.orchestrator.released = self.orchestrator.released or "it likes to"

    @rule(seconds=st.sampled_from([1, 4, 7, 60]))
    def nobody_runs_for_a_while(self, seconds: int) -> None:
        self.fail()
        self.pass_time(seconds * S)

    @rule(tenths=st.sampled_from([-36_000, -60, -13, 7, 80, 36_000]))
    def the_signers_clock_is_set(self, tenths: int) -> None:
        self.offset += Fraction(tenths, 10)
        self.clock_was_set = True
        self.disturbed += 1

    @precondition(lambda self: not self.session.ended and self.over is None)
    @rule(seconds=st.sampled_from([0, 1, 3, 8, 30, 60]))
    def the_gateway_crashes_between_two_payments(self, seconds: int) -> None:
        self.crash(seconds)

    @precondition(lambda self: not self.session.ended and self.over is None)
    @rule(moment=st.sampled_from(CRASHES), seconds=st.sampled_from([0, 1, 2, 3, 6, 8]))
    def the_gateway_crashes_while_a_payment_is_under_way(self, moment: str, seconds: int) -> None:
        self.come_to(moment)
        if self.over is None:
            self.crash(seconds)

    def crash(self, seconds: int) -> None:
        """The gateway is gone for so long; then another run goes on, if it can."""
        self.fail()
        self.pass_time(seconds * S)
        self.called_at = None
        if not self.goes_on():
            self.over = Leave(EndReason.INTERNAL_ERROR, "the gateway crashed")

    def come_to(self, moment: str) -> None:
        """Let the next payment come so far, and no further."""
        action = self.act()
        while not isinstance(action, Sign | None):  # it is asked for, whatever is under way
            self.well(action, 50 * MS)
            action = self.act()
        if action is None:
            return
        if moment == "the signer has answered":
            with suppress(Status):
                self.signer.sign(
                    action.info, action.state, Fraction(self.now, S) + self.offset, Fraction(self.now, S)
                )
                self.lost_null_states += action.state is None
            return
        self.well(action, 50 * MS)
        if self.undelivered is None or moment == "it is written":
            return
        payment, self.handed_out = Payment.read(self.undelivered), True
        if moment == "it is handed out":
            return
        before, headers = self.orchestrator.credited, {"payment": payment.live.payment}
        headers |= {"seg_creds": payment.live.seg_creds}
        with suppress(OrchestratorError):
            if self.session.running:
                answer_of(self.orchestrator.pay("", self.session.info, **headers))
            else:
                answer_of(self.orchestrator.reserve(self.payee.offer, self.payee.challenge, **headers))
        self.in_doubt = self.orchestrator.credited - before

    def goes_on(self) -> bool:
        """Whether another run goes on with what is written, as `FormerJobs` has it."""
        if self.written is None:
            return False
        saved = SavedSession.parse(json.loads(json.dumps(self.written.json())))
        starts = saved.started_at is None
        try:
            session = restore(
                saved,
                sender=SENDER,
                interval=self.interval,
                ceiling=self.price,
                handed_out=self.handed_out and not starts,
            )
        except NotResumable:
            return False
        if not starts and seconds_to_resume(saved, self.now) <= 0:
            return False
        if starts and not session.first_payment_usable(self.now):
            return False
        assert session.state == self.newest
        assert (session.pending is None) == (self.undelivered is None)
        if session.pending is not None:
            assert session.pending.live == self.undelivered, "other bytes are to be delivered"
            self.undelivered = session.pending.live
        self.session, self.payee = session, self.former_payee(saved)
        self.start_unanswered = starts and self.handed_out
        return True

    def former_payee(self, saved: SavedSession) -> SessionPayee:
        """Who is paid, by what is written."""
        payee = self.payee
        details = SessionDetails(offer=payee.offer, payment_url=payee.challenge.payment_url)
        former = FormerJob(
            session_id="1",
            number=1,
            job=JobIdentity("cam", "cam", "r1", payee.offer.url),
            sender=SENDER_TEXT,
            recipient=saved.orchestrator_info.recipient,
            unanswered=None,
            saved=SavedJob("", ""),
            saved_at=Moment(0, 0),
            signed=saved.payments,
            payment=Step.DELIVERED if self.handed_out else Step.SIGNED,
            signed_wall_ns=0,
        )
        resources = cast(RunnerResources, SimpleNamespace(client=self.orchestrator))
        kept = json.loads(json.dumps(details.json(REQUEST, None)))
        return RunnerRemains(resources, cast(RunnerSource, None), kept, REQUEST, former, saved).payee

    @precondition(lambda self: self.session.running and not self.session.ended)
    @rule()
    def the_job_ends(self) -> None:
        self.session.end(self.now)
        for _ in range(3):
            action = self.act()
            assert action is None or isinstance(action, Deliver), "signed for a job that is over"
            self.well(action, 50 * MS)

    # what holds

    @invariant()
    def every_wei_is_explained(self) -> None:
        if not hasattr(self, "session"):
            return
        session, had = self.session, self.orchestrator.credited
        waiting = Fraction(0) if self.undelivered is None else Payment.read(self.undelivered).value
        assert session.balance.credited <= had <= session.balance.credited + self.in_doubt
        assert session.balance.credited + waiting <= self.value
        assert self.signer.null_states <= 1 + self.lost_null_states
        assert self.value == session.billing.total

    @invariant()
    def the_time_that_passed_is_paid_and_hardly_more(self) -> None:
        if hasattr(self, "session"):
            by_the_second = self.session.billing.rules.whole_seconds
            most = ROUNDING * self.session.billing.payments + self.disturbed if by_the_second else 0
            assert self.billed_over <= most
            if by_the_second and self.interval >= 4 * S and not self.disturbed:
                assert self.billed_over <= MOST_OVER * Fraction(self.now - self.began, S)

    @invariant()
    def no_session_is_released_for_want_of_credit_while_payments_are_answered(self) -> None:
        if hasattr(self, "session") and not self.unanswered and not self.session.ended and self.over is None:
            assert not self.orchestrator.released


async def accept_refusal(error: OrchestratorError) -> None:
    """What a payer does with it is not looked at here."""


class LongLiveHistories(LiveHistories):
    """The same with more steps."""


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("moment", CRASHES)
@pytest.mark.parametrize("steps", [0, 2, 4])
def test_a_session_goes_on_after_a_crash_at_each_moment_of_a_payment(
    flow: tuple[Dialect, Unit], moment: str, steps: int
) -> None:
    for seconds in (0, 1, 3) if steps else (0, 1, 3, 8):
        history = LiveHistories()
        history.open(flow, Fraction(1), 5 * S, 40, steps)
        history.the_gateway_crashes_while_a_payment_is_under_way(moment, seconds)
        if history.written is None:
            assert (steps, moment) == (0, "the signer has answered"), "nobody has seen anything of it"
            continue
        history.all_is_well([50 * MS] * 6)
        assert history.over is None
        assert history.orchestrator.released == ""
        assert history.orchestrator.credited == history.session.balance.credited
        assert history.session.balance.accepted >= steps // 2 + 2


SHORT = settings(max_examples=HISTORIES, stateful_step_count=12)
LiveHistories.TestCase.settings = SHORT
LongLiveHistories.TestCase.settings = settings(SHORT, max_examples=3 * HISTORIES, stateful_step_count=40)
TestLiveHistories = LiveHistories.TestCase
TestLongLiveHistories = pytest.mark.long(LongLiveHistories.TestCase)
