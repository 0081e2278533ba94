"""One job's payments as plain logic: no I/O, no clock.

`PaymentSession.next(now)` says what to do, and one method per kind of answer tells it what came back.
Nothing more is said until the answer is in, so two signing calls at once cannot be asked for.

Time is integer nanoseconds of a monotonic clock, so that a duration times a price stays exact.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeVar

from gateway import money
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Action, Deliver, Leave, Refresh, RefreshKind, Sign, Start, Wait
from gateway.payments.balance import Balance
from gateway.payments.billing import BALANCE_IN_TICKETS, Billing
from gateway.payments.cadence import Cadence
from gateway.payments.payment import MAX_TICKETS, Payment
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from signer_client import SignerState

REFRESHES_IN_A_ROW = 3
"""How often a signer that will not pay on an info gets another one before it pays again."""
TRIES_WITHOUT_CREDIT = 4
"""How often something is tried that nothing has been paid for yet, or that can be done without."""
FIRST_BACKOFF = NANOSECONDS // 4
"""Nanoseconds before the first retry; doubled for each further one, up to LONGEST_BACKOFF."""
LONGEST_BACKOFF = 4 * NANOSECONDS
SHORTEST_INTERVAL = NANOSECONDS // 10
SETTLING_TRIES = 2
"""How often a payment whose fate is unknown is delivered again once the session is over."""

_A = TypeVar("_A", Sign, Start, Deliver, Refresh)


class PaymentSession:
    """The payments of one job on one orchestrator, from its null state to its end.

    `interval` is nanoseconds between payments; `ceiling` the most to pay in wei per second. What is over
    the ceiling, becomes dearer than `info`, or cannot be paid for at all, is left before anything is signed.
    """

    def __init__(
        self,
        info: OrchestratorInfo,
        *,
        interval: int,
        ceiling: Fraction,
        first_backoff: int = FIRST_BACKOFF,
    ) -> None:
        self.info = info
        """What is paid on: price and ticket params of one message."""
        self.interval = interval
        self.ceiling = ceiling
        self.offered = info.price or Fraction(0)
        """The price that the orchestrator was chosen for, in wei per second."""
        self.billing = Billing()
        """The signer's side."""
        self.balance = Balance()
        """The orchestrator's side."""
        self.state: SignerState | None = None
        self.manifest_id = ""
        self.pending: Payment | None = None
        """Signed, and not known to be credited or refused."""
        self.failures = 0
        """Tries in a row that came to nothing."""
        self.idle = False
        """Whether the signer's last word was that nothing is due."""
        self._first_backoff = first_backoff
        self._asked: Action | None = None
        self._leave: Leave | None = None
        self._due = 0
        self._not_before: int | None = None
        self._attempts = 0
        self._settling = 0
        self._refresh: RefreshKind | None = None
        self._demands = 0
        """Refreshes that the signer wanted since it last was content with an info."""
        self._take(info)

    # what to do

    def next(self, now: int) -> Action:
        """What to do now. After Sign, Start, Deliver or Refresh, tell what came back before asking again."""
        if self.ended:
            action = self._settle()
        elif self._asked is not None:
            raise RuntimeError(f"{type(self._asked).__name__} has not been answered yet")
        else:
            action = self._decide(now)
        if not isinstance(action, Wait | Leave):
            self._asked = action
        return action

    def _decide(self, now: int) -> Action:
        if self._leave is not None:
            return self._leave
        if self.pending is not None and not self.running:
            return Start(self.pending)
        if self._not_before is not None and now < self._not_before:
            return Wait(self._not_before)
        if self.pending is not None:
            return self._deliver(self.pending)
        if self._refresh is not None:
            return Refresh(self._refresh)
        if self.running and now < self._due:
            return Wait(self._due)
        if self.billing.unbilled_tickets(self.info, now) > MAX_TICKETS + BALANCE_IN_TICKETS:
            self._give_up_the_state(now)
            return self._decide(now)
        if self.billing.nonces_left(self.info) < MAX_TICKETS:
            self._demand(RefreshKind.INFO, EndReason.PAYMENT_REFUSED, "the ticket params are used up")
            return self._decide(now)
        self.billing.ask(now)
        return Sign(self.billing.payments + 1, self.state, self.info, self.manifest_id)

    def calling(self, now: int) -> None:
        """The signer is called only now, since the call had to wait for its turn."""
        self.billing.ask(now)

    def _settle(self) -> Action:
        """After the end: find out what became of a payment that was sent, and sign nothing."""
        unknown = self.pending is not None and self._attempts > 0
        if self.pending is not None and unknown and self._settling < SETTLING_TRIES:
            self._settling += 1
            return self._deliver(self.pending)
        return self._leave or Leave(EndReason.PAYMENT_REFUSED, "the payment session is over")

    def _deliver(self, payment: Payment) -> Deliver:
        self._attempts += 1
        return Deliver(payment, self._attempts)

    # what the signer answered

    def signed(self, payment: Payment) -> None:
        """200: this payment, which was checked. It is money spent: delivered until its fate is known."""
        self.billing.signed(payment, self._answered(Sign).info)
        self.state = payment.state
        self.pending = payment
        self._attempts = 0
        self._demands = 0
        self._succeeded()

    def withheld(self, reason: EndReason, detail: str) -> None:
        """The signer was not asked after all, or its payment is not handed out: the end of the session."""
        self._answered(Sign)
        self._give_up(reason, detail)

    def signing_refused(self, detail: str) -> None:
        """400: the same request can never succeed."""
        self._answered(Sign)
        at = self.billing.asked_at
        if self.billing.unbilled_tickets(self.info, at) > MAX_TICKETS - BALANCE_IN_TICKETS:
            self._give_up_the_state(at)
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def refresh_needed(self, detail: str) -> None:
        """480: the same state goes with an info that is fetched anew and taken whole."""
        self._answered(Sign)
        self._demand(RefreshKind.INFO, EndReason.PAYMENT_REFUSED, detail)

    def price_exceeded(self, detail: str) -> None:
        """481: the price is above what the signer allows or above the session's first one."""
        self._answered(Sign)
        self._demand(RefreshKind.FIXED_PRICE, EndReason.PRICE_RAISED, detail)

    def no_tickets_needed(self, now: int) -> None:
        """482: the signer's balance covers the time. The state stays, the next interval asks again."""
        self._answered(Sign)
        if not self.running:
            self._give_up(EndReason.PAYMENT_REFUSED, "the signer found nothing due for a job that starts")
        else:
            self._succeeded()
            self.idle = True
            self._demands = 0  # it looks at params and price first
            self._schedule(now)
            self._must_last("the signer finds nothing due", now)

    def signer_failed(self, detail: str, now: int, *, answered: bool) -> None:
        """No payment came, which may pass: no answer at all, or (`answered`) a 5xx or an unreadable one."""
        self._answered(Sign)
        reason = EndReason.PAYMENT_REFUSED if answered else EndReason.SIGNER_UNREACHABLE
        self._failed(reason, detail, now)

    # what the orchestrator answered

    def started(self, manifest_id: str, now: int) -> None:
        """The job runs and its first payment is credited to this manifest id."""
        self._answered(Start)
        self.manifest_id = manifest_id
        self.balance.start(self.billing.price, now)
        self._due = self.billing.asked_at = now
        self._pay_within_the_preload()
        self._credit(now)
        if not manifest_id:
            self._give_up(
                EndReason.ORCHESTRATOR_LOST,
                "the job's start gave no manifest id, so no further payment could be credited to it",
            )

    def start_failed(self, detail: str) -> None:
        """The job did not start; whether its payment was credited is not for this session to find out."""
        self._answered(Start)
        self.pending = None
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def delivered(self, info: OrchestratorInfo | None, now: int) -> None:
        """Credited. `info` holds the ticket params for the next payment; None where it was unusable."""
        self._answered(Deliver)
        self._credit(now)
        if info is not None and info.price and info.ticket_ev:
            self._take(info)
        else:
            self._refresh = RefreshKind.INFO

    def already_seen(self, now: int) -> None:
        """Credited at an earlier delivery, whose answer with newer ticket params was lost."""
        self.delivered(None, now)

    def delivery_refused(self, detail: str) -> None:
        """The orchestrator said no to the payment itself."""
        self._answered(Deliver)
        self.pending = None
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def delivery_unknown(self, detail: str, now: int) -> None:
        """No verdict came: the payment is delivered again before anything else is signed."""
        self._answered(Deliver)
        self._failed(EndReason.ORCHESTRATOR_LOST, detail, now)

    def refreshed(self, info: OrchestratorInfo) -> None:
        """The info that was asked for."""
        kind = self._answered(Refresh).kind
        self._refresh = None
        self._succeeded()
        self._take(info, last_word=kind is RefreshKind.FIXED_PRICE)

    def refresh_failed(self, detail: str, now: int, *, refused: bool = False) -> None:
        """No info came; `refused` means that asking again is of no use."""
        by_price = self._answered(Refresh).kind is RefreshKind.FIXED_PRICE
        if by_price and refused:
            self._give_up(EndReason.PRICE_RAISED, f"the first price is not to be had any more: {detail}")
        elif self._demands:
            self._failed(EndReason.PRICE_RAISED if by_price else EndReason.ORCHESTRATOR_LOST, detail, now)
        elif self.failures + 1 >= TRIES_WITHOUT_CREDIT:
            self._refresh = None  # the former ticket params are still good for some time
            self._succeeded()
        else:
            self._back_off(now)

    def end(self, now: int) -> None:
        """The job is over: nothing is signed any more, and what is owed stands still."""
        self.balance.end(now)

    # how it stands

    @property
    def running(self) -> bool:
        """Whether the job has started."""
        return self.balance.started_at is not None

    @property
    def ended(self) -> bool:
        """Whether the job is over, so that nothing may be signed."""
        return self.balance.ended_at is not None

    @property
    def due_at(self) -> int | None:
        """When something happens next; None while something does, or before the job runs."""
        if not self.running or self._asked is not None or self.ended:
            return None
        return self._due if self._not_before is None else self._not_before

    # how it is kept

    def _answered(self, kind: type[_A]) -> _A:
        asked, self._asked = self._asked, None
        if not isinstance(asked, kind):
            raise RuntimeError(f"an answer to {kind.__name__} came where {type(asked).__name__} was asked")
        return asked

    def _give_up(self, reason: EndReason, detail: str) -> None:
        if self._leave is None:
            self._leave = Leave(reason, detail)

    def _credit(self, now: int) -> None:
        assert self.pending is not None
        self.balance.credit(self.pending, now)
        self.pending = None
        self._succeeded()
        self._schedule(self.billing.asked_at)
        self._must_last("all payments are credited", self.billing.asked_at)

    def _schedule(self, billed_until: int) -> None:
        """Due at the next tick of the interval: the ticks that were missed are one payment, not many."""
        self._due += ((billed_until - self._due) // self.interval + 1) * self.interval

    def _pay_within_the_preload(self) -> None:
        """Pay twice before the first credit is used up, where the interval alone would not."""
        assert self.pending is not None
        half = int(self.pending.value / self.billing.price * NANOSECONDS / 2)
        self.interval = min(self.interval, max(half, SHORTEST_INTERVAL))

    def _must_last(self, finding: str, paid_until: int) -> None:
        """Leave where the credit that was left when the signer was asked is gone before it is asked again."""
        one_interval = money.fee(Fraction(self.interval, NANOSECONDS), self.billing.price)
        if self.balance.left(paid_until) < one_interval:
            self._give_up(
                EndReason.CREDIT_EXHAUSTED,
                f"{finding}, but by our estimate the credit lasts for less than one payment interval",
            )

    def _give_up_the_state(self, now: int) -> None:
        self._give_up(
            EndReason.CREDIT_EXHAUSTED,
            f"{int(self.billing.unbilled(now))} s without a payment need more than {MAX_TICKETS} tickets, "
            "which no signer gives at once: only a new job's null state helps",
        )

    def _take(self, info: OrchestratorInfo, *, last_word: bool = False) -> None:
        """Pay on this info from now on, whole, unless it is one that must not be paid on.

        A dearer one has the first price asked for, unless it is the orchestrator's `last_word` on that.
        """
        if info.message.address != self.info.message.address:
            self._give_up(EndReason.PAYMENT_REFUSED, "the orchestrator answered under another address")
        elif not info.price or not info.ticket_ev:
            self._give_up(
                EndReason.PAYMENT_REFUSED, "the orchestrator's info holds nothing that a signer can pay on"
            )
        elif dearer := self._dearer(info.price):
            if self.running and not last_word:
                self._refresh = RefreshKind.FIXED_PRICE
            else:
                self._give_up(EndReason.PRICE_RAISED, dearer)
        elif not self.billing.payments and (
            refusal := Cadence(info.price, info.ticket_ev, self.interval).refusal
        ):
            self._give_up(EndReason.PAYMENT_REFUSED, refusal)
        else:
            self.info = info

    def _dearer(self, price: Fraction) -> str:
        """What a price is above; empty where it may be paid."""
        asked = f"{money.text(price)} wei/s is above the"
        if price > self.ceiling:
            return f"{asked} ceiling of {money.text(self.ceiling)} wei/s"
        first = self.billing.price if self.billing.payments else self.offered
        return f"{asked} session's {money.text(first)} wei/s" if price > first else ""

    def _demand(self, kind: RefreshKind, reason: EndReason, detail: str) -> None:
        """The signer will not pay on this info: get another, and leave where it said so of the last ones."""
        self._demands += 1
        if self._demands > REFRESHES_IN_A_ROW:
            self._give_up(reason, f"{detail}; {REFRESHES_IN_A_ROW} refreshes in a row did not help")
        elif kind is RefreshKind.FIXED_PRICE and not self.running:
            self._give_up(reason, detail)
        else:
            self._refresh = kind

    def _succeeded(self) -> None:
        self.failures = 0
        self.idle = False
        self._not_before = None

    def _failed(self, reason: EndReason, detail: str, now: int) -> None:
        """Try again for as long as the credit lasts; what was never paid for is tried a few times."""
        if not self.running:
            hopeless = self.failures + 1 >= TRIES_WITHOUT_CREDIT
        else:
            hopeless = self.balance.left(now) < 0
        if hopeless:
            self._give_up(reason, detail)
        else:
            self._back_off(now)

    def _back_off(self, now: int) -> None:
        self._not_before = now + min(LONGEST_BACKOFF, self._first_backoff << self.failures)
        self.failures += 1
        self.idle = False
