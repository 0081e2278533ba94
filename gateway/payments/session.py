"""One job's payments as plain logic: no I/O, no clock.

`PaymentSession.next(now)` says what to do, and one method for each kind of answer says what came back. No
further action is given before the answer is in, so there are never two signing calls at once.

The states, the first that applies being the session's:

    state        while                        next() gives              answer and next state
    ended        `end` was called             Deliver, at most twice,   any: ended
                                              for what may have
                                              arrived; then Leave
    leaving      a reason to leave is known   Leave
    starting     the first payment is signed  Start                     `started`: paying
                                                                        `start_failed`: leaving, or
                                                                          starting another job
    backing off  the last try failed          Wait until the next try
    delivering   a later payment is signed    Deliver                   `delivered`: paying; refreshing where
                                                                          the info in the answer is unusable
                                                                        `already_seen`: refreshing
                                                                        `delivery_unknown`: delivering again
                                                                        `delivery_refused`: leaving
    refreshing   newer info is needed         Refresh                   `refreshed`: paying
                                                                        `refresh_failed`: refreshing again;
                                                                          paying on the former info where that
                                                                          is still good, after some tries or
                                                                          where there is no fixed price
    paying       otherwise                    Wait until the next       `signed`: starting or delivering
                                              payment is due; Sign      `no_tickets_needed`: paying
                                                                        `refresh_needed`, `price_exceeded`:
                                                                          refreshing
                                                                        `signer_failed`: paying again
                                                                        `signing_refused`, `withheld`: leaving

Any answer leads to leaving where it leaves no way to go on: a price above the limits, an info that cannot be
paid on, a credit that does not last until the next payment, too many failures.

Time is integer nanoseconds of a monotonic clock, so that a duration times a price stays exact.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TypeVar

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Action, Deliver, Leave, Refresh, RefreshKind, Sign, Start, Wait
from gateway.payments.balance import Balance
from gateway.payments.billing import BALANCE_IN_TICKETS, PRELOAD, Billing
from gateway.payments.cadence import Cadence
from gateway.payments.payment import MAX_TICKETS, Payment
from gateway.payments.schedule import FIRST_BACKOFF, Schedule
from gateway.payments.terms import Terms
from gateway.payments.ticket_limits import DEFAULT_TICKET_LIMITS, TicketLimits
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from signer_client import SignerState

MAX_REFRESHES = 3
"""Refreshes in a row, for a 480, a 481 or used-up ticket params, before the session leaves."""
MAX_TRIES = 4
"""Tries in a row of what no credit covers yet, or what the session can do without."""
PARAMS_LIFE = 40 * 12
"""Seconds for which ticket params hold: orchestrators issue them 40 blocks of 12 s ahead."""
MAX_SETTLING_TRIES = 2
"""Deliveries after the end of a payment whose outcome is unknown."""

_A = TypeVar("_A", Sign, Start, Deliver, Refresh)


class PaymentSession:
    """The payments of one job on one orchestrator, from its null state to its end.

    `interval` is nanoseconds between payments, `ceiling` the most to pay in wei per second. Nothing is
    signed at a price above the ceiling or above that of the first `info`.
    """

    def __init__(
        self,
        info: OrchestratorInfo,
        *,
        interval: int,
        ceiling: Fraction,
        ticket_limits: TicketLimits = DEFAULT_TICKET_LIMITS,
        first_backoff: int = FIRST_BACKOFF,
    ) -> None:
        self.info = info
        """What is paid on: price and ticket params of one message."""
        self.schedule = Schedule(interval, first_backoff)
        self.billing = Billing()
        """The signer's side."""
        self.balance = Balance()
        """The orchestrator's side."""
        self.state: SignerState | None = None
        """The signer's newest."""
        self.manifest_id = ""
        self.pending: Payment | None = None
        """Signed, and not known to be credited or refused."""
        self.idle = False
        """Whether the signer's last answer was that nothing is due."""
        self._terms = Terms(
            info.message.address,
            info.message.ticket_params.recipient,
            ceiling,
            info.price or Fraction(0),
            ticket_limits,
        )
        self._asked: Action | None = None
        self._leave: Leave | None = None
        self._refresh: RefreshKind | None = None
        self._refreshes_asked = 0
        """Refreshes in a row that the signer asked for: until it signs, the former info is of no use."""
        self._fixed_price_refused = False
        self._attempts = 0
        """Deliveries of the pending payment."""
        self._settling_tries = 0
        self._take(info)

    # what to do

    def next(self, now: int) -> Action:
        """What to do now. After Sign, Start, Deliver or Refresh, tell what came back before asking again."""
        if not self.ended and self._asked is not None:
            raise RuntimeError(f"{type(self._asked).__name__} has not been answered yet")
        action = self._decide(now)
        if not isinstance(action, Wait | Leave):
            self._asked = action
        return action

    def _decide(self, now: int) -> Action:
        """The table's rows, from top to bottom."""
        if self.ended:
            return self._settle()
        if self._leave is not None:
            return self._leave
        if self.pending is not None and not self.running:
            return Start(self.pending)
        if self.schedule.retry_at is not None and now < self.schedule.retry_at:
            return Wait(self.schedule.retry_at)
        if self.pending is not None:
            return self._deliver(self.pending)
        if self._refresh is not None:
            return Refresh(self._refresh)
        if self.running and now < self.schedule.due:
            return Wait(self.schedule.due)
        return self._sign(now)

    def _settle(self) -> Action:
        may_have_arrived = self._attempts > 0
        if self.pending is not None and may_have_arrived and self._settling_tries < MAX_SETTLING_TRIES:
            self._settling_tries += 1
            return self._deliver(self.pending)
        return self._leave or Leave(EndReason.PAYMENT_REFUSED, "the payment session is over")

    def _deliver(self, payment: Payment) -> Deliver:
        self._attempts += 1
        return Deliver(payment, self._attempts)

    def _sign(self, now: int) -> Action:
        if self.billing.unbilled_tickets(self.info, now) > MAX_TICKETS + BALANCE_IN_TICKETS:
            self._leave_unpayable(now)
            return self._decide(now)
        if self.billing.nonces_left(self.info) < MAX_TICKETS:
            self._ask_refresh(RefreshKind.INFO, EndReason.PAYMENT_REFUSED, "the ticket params are used up")
            return self._decide(now)
        self.billing.ask(now)
        return Sign(self.billing.payments + 1, self.state, self.info, self.manifest_id)

    def calling(self, now: int) -> None:
        """The signer is called only now: the call had to wait for its turn."""
        self.billing.ask(now)

    # what the signer answered

    def signed(self, payment: Payment) -> None:
        """200, and the payment was checked. It is money spent: delivered until its outcome is known."""
        self.billing.signed(payment, self._answered(Sign).info)
        self._terms = replace(self._terms, price=self.billing.price)
        self.state = payment.state
        self.pending = payment
        self._attempts = 0
        self._refreshes_asked = 0
        self._succeeded()

    def withheld(self, reason: EndReason, detail: str) -> None:
        """The signer was not called after all, or its payment must not be delivered."""
        self._answered(Sign)
        self._give_up(reason, detail)

    def signing_refused(self, detail: str) -> None:
        """400: the same request can never succeed."""
        self._answered(Sign)
        at = self.billing.asked_at
        if self.billing.unbilled_tickets(self.info, at) > MAX_TICKETS - BALANCE_IN_TICKETS:
            self._leave_unpayable(at)
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def refresh_needed(self, detail: str) -> None:
        """480: the same state goes with a newer info."""
        self._answered(Sign)
        self._ask_refresh(RefreshKind.INFO, EndReason.PAYMENT_REFUSED, detail)

    def price_exceeded(self, detail: str) -> None:
        """481: the price is above what the signer allows, or above the session's first one."""
        self._answered(Sign)
        self._ask_refresh(RefreshKind.FIXED_PRICE, EndReason.PRICE_RAISED, detail)

    def no_tickets_needed(self, now: int) -> None:
        """482: the signer's balance covers the time. The state stays, the next interval asks again."""
        self._answered(Sign)
        if not self.running:
            self._give_up(EndReason.PAYMENT_REFUSED, "the signer found nothing due for a job that starts")
            return
        self._succeeded()
        self.idle = True
        self._refreshes_asked = 0  # the signer looks at params and price before its balance
        self.schedule.advance(now)
        self._check_credit("the signer finds nothing due", now)

    def signer_failed(self, detail: str, now: int) -> None:
        """No payment, which may pass: no answer, a 5xx or an unreadable one. No orchestrator is to blame."""
        self._answered(Sign)
        self._failed(EndReason.SIGNER_UNREACHABLE, detail, now)

    # what the orchestrator answered

    def started(self, manifest_id: str, now: int) -> None:
        """The job runs, and its first payment is credited to this manifest id."""
        self._answered(Start)
        assert self.pending is not None
        self.manifest_id = manifest_id
        self.balance.start(self.billing.price, now)
        self.schedule.start(now, int(self.pending.value / self.billing.price * NANOSECONDS))
        self.billing.asked_at = now
        self._credit(now)
        if not manifest_id:
            self._give_up(
                EndReason.ORCHESTRATOR_LOST,
                "the job's start gave no manifest id, so no further payment could be credited to it",
            )

    def start_failed(self, detail: str, *, settled: bool = True) -> None:
        """The job did not start. Where its payment is not `settled`, `next` gives it for another start."""
        self._answered(Start)
        if settled:
            self.pending = None
            self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def start_again(self) -> None:
        """Another job is to start with the first payment, whatever became of the former job."""
        self._asked = None

    def delivered(self, info: OrchestratorInfo | None, now: int) -> None:
        """Credited. `info` holds the ticket params for the next payment; None where it was unreadable."""
        self._answered(Deliver)
        self._credit(now)
        if info is not None and info.price and info.ticket_ev:
            self._take(info)
        else:
            self._refresh = RefreshKind.INFO

    def already_seen(self, now: int) -> None:
        """Credited at an earlier delivery; the answer to that one, with newer ticket params, was lost."""
        self.delivered(None, now)

    def delivery_refused(self, detail: str) -> None:
        """The orchestrator refused the payment."""
        self._answered(Deliver)
        self.pending = None
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def delivery_unknown(self, detail: str, now: int) -> None:
        """No answer: the payment is delivered again before anything else is signed."""
        self._answered(Deliver)
        self._failed(EndReason.ORCHESTRATOR_LOST, detail, now)

    def refreshed(self, info: OrchestratorInfo) -> None:
        """The info that was asked for."""
        kind = self._answered(Refresh).kind
        self._refresh = None
        self._succeeded()
        self._take(info, final=kind is RefreshKind.FIXED_PRICE)

    def refresh_failed(self, detail: str, now: int, *, refused: bool = False) -> None:
        """No info came; where it was `refused`, asking again is of no use."""
        by_price = self._answered(Refresh).kind is RefreshKind.FIXED_PRICE
        no_fixed_price = by_price and refused
        self._fixed_price_refused |= no_fixed_price
        if no_fixed_price and self._refreshes_asked:
            self._give_up(
                EndReason.PRICE_RAISED, f"the orchestrator no longer gives the first price: {detail}"
            )
        elif self._refreshes_asked:
            self._failed(EndReason.PRICE_RAISED if by_price else EndReason.ORCHESTRATOR_LOST, detail, now)
        elif no_fixed_price or self.schedule.failures + 1 >= MAX_TRIES:
            self._refresh = None  # the former ticket params are still good for some time
            self._succeeded()
        else:
            self._back_off(now)

    def end(self, now: int) -> None:
        """The job is over: nothing is signed any more, and what is owed grows no further."""
        self.balance.end(now)

    # how it stands

    def first_payment_usable(self, now: int) -> bool:
        """Whether a job can start with the first payment, and be paid on: nobody has credited it yet."""
        if self.pending is None or self.running or self.ended or self._leave is not None:
            return False
        next_payment = now + self.schedule.interval
        tickets = self.billing.unbilled_tickets(self.info, next_payment)
        return self.billing.unbilled(now) < PARAMS_LIFE and tickets <= MAX_TICKETS - BALANCE_IN_TICKETS

    @property
    def running(self) -> bool:
        """Whether the job has started."""
        return self.balance.started_at is not None

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.balance.ended_at is not None

    @property
    def due_at(self) -> int | None:
        """When something happens next; None while something does, or before the job runs."""
        if not self.running or self._asked is not None or self.ended:
            return None
        return self.schedule.due if self.schedule.retry_at is None else self.schedule.retry_at

    # how it is done

    def _answered(self, kind: type[_A]) -> _A:
        asked, self._asked = self._asked, None
        if not isinstance(asked, kind):
            raise RuntimeError(f"an answer to {kind.__name__} came where {type(asked).__name__} was asked")
        return asked

    def _give_up(self, reason: EndReason, detail: str) -> None:
        """Leave; the first reason counts."""
        if self._leave is None:
            self._leave = Leave(reason, detail)

    def _leave_unpayable(self, now: int) -> None:
        self._give_up(
            EndReason.CREDIT_EXHAUSTED,
            f"{int(self.billing.unbilled(now))} s without a payment need more than {MAX_TICKETS} tickets, "
            "more than a signer gives at once: only the null state of a new job helps",
        )

    def _credit(self, now: int) -> None:
        assert self.pending is not None
        self.balance.credit(self.pending, now)
        self.pending = None
        self._succeeded()
        self.schedule.advance(max(self.billing.asked_at, self._enough_until(now)))
        self._check_credit("all payments are credited", self.billing.asked_at)

    def _enough_until(self, now: int) -> int:
        """When the credit falls to the preload and one interval. More is not signed for: it is lost where
        the job ends, and the signer bills the time later.
        """
        enough = PRELOAD + Fraction(self.schedule.interval, NANOSECONDS)
        left = self.balance.seconds_left(now) or Fraction(0)
        return now + int((left - enough) * NANOSECONDS)

    def _check_credit(self, finding: str, paid_until: int) -> None:
        """Leave where the credit at the last call of the signer does not last until the next one."""
        one_interval = money.fee(Fraction(self.schedule.interval, NANOSECONDS), self.billing.price)
        if self.balance.left(paid_until) < one_interval:
            self._give_up(
                EndReason.CREDIT_EXHAUSTED,
                f"{finding}, but by our estimate the credit lasts for less than one payment interval",
            )

    def _take(self, info: OrchestratorInfo, *, final: bool = False) -> None:
        """Pay on this info from now on, unless it breaks the terms.

        Where its price or its tickets do, the job's first price is asked for, unless this is the `final`
        answer to that. Then the former info stays until the signer asks for a newer one.
        """
        refusal = self._terms.refusal(info) or self._first_payment_refusal(info)
        if refusal is None:
            self.info = info
        elif refusal.reason is not EndReason.PRICE_RAISED or not self.running:
            self._give_up(refusal.reason, refusal.detail)
        elif not final and (self._refreshes_asked or not self._fixed_price_refused):
            self._refresh = RefreshKind.FIXED_PRICE
        elif self._refreshes_asked:
            self._give_up(refusal.reason, refusal.detail)

    def _first_payment_refusal(self, info: OrchestratorInfo) -> Leave | None:
        if self.billing.payments or not info.price or not info.ticket_ev:
            return None
        refusal = Cadence(info.price, info.ticket_ev, self.schedule.interval).refusal
        return Leave(EndReason.PAYMENT_REFUSED, refusal) if refusal else None

    def _ask_refresh(self, kind: RefreshKind, reason: EndReason, detail: str) -> None:
        """The signer does not pay on this info: get another, or leave where others did not help."""
        self._refreshes_asked += 1
        if self._refreshes_asked > MAX_REFRESHES:
            self._give_up(reason, f"{detail}; {MAX_REFRESHES} refreshes in a row did not help")
        elif kind is RefreshKind.FIXED_PRICE and not self.running:
            self._give_up(reason, detail)
        else:
            self._refresh = kind

    def _succeeded(self) -> None:
        self.idle = False
        self.schedule.succeed()

    def _failed(self, reason: EndReason, detail: str, now: int) -> None:
        """Try again for as long as the credit lasts, and a few times where there is none yet."""
        credit_is_gone = self.running and self.balance.left(now) < 0
        tried_enough = not self.running and self.schedule.failures + 1 >= MAX_TRIES
        if credit_is_gone or tried_enough:
            self._give_up(reason, detail)
        else:
            self._back_off(now)

    def _back_off(self, now: int) -> None:
        self.idle = False
        self.schedule.back_off(now)
