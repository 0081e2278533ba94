"""One job's payments as plain logic: no I/O, no clock.

`PaymentSession.next(now)` says what to do, and one method for each kind of answer says what came back. No
further action is given before the answer is in, so there are never two signing calls at once.

The states, the first that applies being the session's:

    state        while                        next() gives              answer and next state
    ended        `end` was called             Deliver, at most twice,   any: ended
                                              for what may have
                                              arrived; then Leave
    leaving      a reason to leave is known   Leave
    starting     the first payment is signed  StartJob                     `started`: paying
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

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Action, Deliver, Leave, Refresh, RefreshKind, Sign, StartJob, Wait
from gateway.payments.payment import MAX_TICKETS, Payment
from gateway.payments.session_state import MAX_TRIES, SessionState
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason

MAX_SETTLING_TRIES = 2
"""Deliveries after the end of a payment whose outcome is unknown."""


class PaymentSession(SessionState):
    """The payments of one job on one orchestrator, from its null state to its end.

    `interval` is nanoseconds between payments, `ceiling` the most to pay in wei per second. Nothing is
    signed at a price above the ceiling or above that of the first `info`. A session that a former run of the
    gateway began has the `billing` and `balance` that it had then (`saved_session.py`).
    """

    # what to do

    def next(self, now: int) -> Action:
        """What to do now. After Sign, StartJob, Deliver or Refresh, tell what came back before the next."""
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
            return StartJob(self.pending)
        if self.schedule.retry_at is not None and now < self.schedule.retry_at:
            return Wait(self.schedule.retry_at)
        if self.pending is not None:
            return self._deliver(self.pending)
        if self._info.needed is not None:
            return Refresh(self._info.needed)
        if self.running and now < self.schedule.due:
            return Wait(self.schedule.due)
        return self._sign(now)

    def _settle(self) -> Action:
        if self.pending is not None and self.handed_out and self._settling_tries < MAX_SETTLING_TRIES:
            self._settling_tries += 1
            return self._deliver(self.pending)
        return self._leave or Leave(EndReason.PAYMENT_REFUSED, "the payment session is over")

    def _deliver(self, payment: Payment) -> Deliver:
        self._attempts += 1
        return Deliver(payment, self._attempts)

    def _sign(self, now: int) -> Action:
        if not self._credit.payable(self.info, now):
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
        self._answered(Sign)
        self.take(payment)

    def take(self, payment: Payment, *, handed_out: bool = False) -> None:
        """Go on with a payment on the present info. `handed_out`: an earlier delivery had no answer."""
        self.billing.signed(payment, self.info)
        self._info.signed(self.billing.price)
        self.state = payment.state
        self.pending = payment
        self._attempts = int(handed_out)
        self._succeeded()

    def withheld(self, reason: EndReason, detail: str) -> None:
        """The signer was not called after all, or its payment must not be delivered."""
        self._answered(Sign)
        self._give_up(reason, detail)

    def signing_refused(self, detail: str) -> None:
        """400: the same request can never succeed."""
        self._answered(Sign)
        at = self.billing.asked_at
        if not self._credit.surely_payable(self.info, at):
            self._leave_unpayable(at)
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def refresh_needed(self, detail: str) -> None:
        """480: the same state goes with a newer info; a live runner is opened on a new challenge."""
        self._answered(Sign)
        if self.flow.app and not self.billing.payments:
            self.needs_challenge = True
            self._give_up(EndReason.ORCHESTRATOR_LOST, detail)
            return
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
        self._info.found_in_order()
        self._schedule_after(now, now)
        self._check_credit("the signer finds nothing due", now)

    def signer_failed(self, detail: str, now: int) -> None:
        """No payment, which may pass: no answer, a 5xx or an unreadable one. No orchestrator is to blame."""
        self._answered(Sign)
        self._failed(EndReason.SIGNER_UNREACHABLE, detail, now)

    # what the orchestrator answered

    def started(self, manifest_id: str, now: int, *, before: bool = False) -> None:
        """The job runs, and its first payment is credited to this manifest id.

        `before`: an earlier try started it, at some time since the payment was signed.
        """
        self._answered(StartJob)
        assert self.pending is not None
        self.manifest_id = manifest_id
        bought = int(self.pending.value / self.billing.price * NANOSECONDS)
        began = max(self.billing.asked_at, now - bought) if before else now
        self.balance.start(self.billing.price, began)
        self.schedule.start(now, bought)
        self.billing.asked_at = began
        self._credited(now)
        if not manifest_id:
            self._give_up(
                EndReason.ORCHESTRATOR_LOST,
                "the job's start gave no manifest id, so no further payment could be credited to it",
            )

    def start_failed(self, detail: str, *, settled: bool = True) -> None:
        """The job did not start. Where its payment is not `settled`, `next` gives it for another start."""
        self._answered(StartJob)
        if settled:
            self.pending = None
            self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def start_again(self) -> None:
        """Another job is to start with the first payment, whatever became of the former job."""
        self._asked = None

    def delivered(self, info: OrchestratorInfo | None, now: int) -> None:
        """Credited. `info` holds the ticket params for the next payment; None where it was unreadable."""
        self._answered(Deliver)
        self._credited(now)
        if info is not None and info.price and info.ticket_ev:
            self._take(info)
        else:
            self._info.needed = RefreshKind.INFO

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
        self._succeeded()
        self._leave_if(self._info.came(info, kind, running=self.running))

    def refresh_failed(self, detail: str, now: int, *, refused: bool = False) -> None:
        """No info came; where it was `refused`, asking again is of no use."""
        by_price = self._answered(Refresh).kind is RefreshKind.FIXED_PRICE
        if by_price and refused:
            self._leave_if(self._info.no_fixed_price(detail))
            self._succeeded()
        elif not self._info.is_of_use:
            self._failed(EndReason.PRICE_RAISED if by_price else EndReason.ORCHESTRATOR_LOST, detail, now)
        elif self.schedule.failures + 1 >= MAX_TRIES:
            self._info.do_without()
            self._succeeded()
        else:
            self._back_off(now)

    def end(self, now: int) -> None:
        """The job is over: nothing is signed any more, and what is owed grows no further."""
        self.balance.end(now)
