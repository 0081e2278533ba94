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
from gateway.payments.payment import MAX_TICKETS, Payment, PaymentMismatch
from gateway.reason import EndReason
from signer_client import SignerState

NANOSECONDS = 10**9
PRELOAD = 60
"""Seconds that a signer bills when a session opens."""
CLOCK_SLACK = 60
"""Seconds that a signer's clock may run ahead of ours before what it bills counts as too much."""
REFRESHES_IN_A_ROW = 3
TRIES_WITHOUT_CREDIT = 4
"""How often something is tried that nothing has been paid for yet, or that can be done without."""
FIRST_BACKOFF = NANOSECONDS // 4
LONGEST_BACKOFF = 4 * NANOSECONDS
SHORTEST_INTERVAL = NANOSECONDS // 10
BALANCE_IN_TICKETS = 2
"""A signer's balance stays below the worth of so many tickets."""
SETTLING_TRIES = 2
"""How often a payment whose fate is unknown is delivered again once the session is over."""


_A = TypeVar("_A", Sign, Start, Deliver, Refresh)


def wants_payment(info: OrchestratorInfo) -> bool:
    """Whether the orchestrator is to be paid at all: off-chain ones send neither price nor ticket params."""
    return info.price is not None or info.has_ticket_params


def is_payable(info: OrchestratorInfo) -> bool:
    """Whether a signer can pay on this info: it refuses a price of zero and worthless tickets."""
    return bool(info.price) and bool(info.ticket_ev)


class PaymentSession:
    """The payments of one job on one orchestrator, from its null state to its end.

    `info` must ask to be paid; `interval` is nanoseconds between payments; `ceiling` the most to pay in
    wei per second. What is over the ceiling, or cannot be paid for at all, is left before anything is signed.
    """

    def __init__(self, info: OrchestratorInfo, *, interval: int, ceiling: Fraction | None) -> None:
        self.info = info
        self.price = Fraction(0)
        """The session's price in wei per second: the first one, fixed once a payment was signed on it."""
        self.interval = interval
        self.ceiling = ceiling
        self.state: SignerState | None = None
        self.manifest_id = ""
        self.pending: Payment | None = None
        """Signed, and not known to be credited or refused."""
        self.signed_count = 0
        self.accepted = 0
        self.tickets = 0
        self.credited = Fraction(0)
        """Wei, exact: the expected value of all tickets that were credited."""
        self.started_at: int | None = None
        self.last_accepted_at: int | None = None
        self.failures = 0
        """Tries in a row that came to nothing."""
        self.idle = False
        """Whether the signer's last word was that nothing is due."""
        self._ended_at: int | None = None
        self._asked: Action | None = None
        self._leave: Leave | None = None
        self._due = 0
        self._not_before: int | None = None
        self._attempts = 0
        self._settling = 0
        self._refresh: RefreshKind | None = None
        self._refresh_is_needed = False
        self._refreshes = 0
        self._price_refreshes = 0
        self._last_nonce = 0
        self._last_hash = b""
        self._signed_value = Fraction(0)
        self._largest_ev = Fraction(0)
        self._first_value = Fraction(0)
        self._opened_at: int | None = None
        self._asked_at = 0
        """When the signer was last asked: what it bills ends there."""
        self._billed_at = 0
        """When the signer was last asked with success: what it bills next begins there."""
        self._take(info)

    # what to do

    def next(self, now: int) -> Action:
        """What to do now. After Sign, Start, Deliver or Refresh, tell what came back before asking again."""
        if self._ended_at is not None:
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
        if self.pending is not None and self.started_at is None:
            return Start(self.pending)
        if self._not_before is not None and now < self._not_before:
            return Wait(self._not_before)
        if self.pending is not None:
            return self._deliver(self.pending)
        if self._refresh is not None:
            return Refresh(self._refresh)
        if self.started_at is not None and now < self._due:
            return Wait(self._due)
        if self._opened_at is None:
            self._opened_at = now
        if self._gap_in_tickets(now) > MAX_TICKETS + BALANCE_IN_TICKETS:
            self._give_up_the_state(now)
            return self._decide(now)
        self._asked_at = now
        return Sign(self.signed_count + 1, self.state, self.info, self.manifest_id)

    def due_at_most(self, now: int) -> Fraction:
        """The most that the next payment can be worth, in wei, by the rules that signers bill by."""
        price, ev = self.info.price, self.info.ticket_ev
        assert price and ev
        if not self.signed_count:
            return -(-max(PRELOAD * price, ev) // ev) * ev
        opened_at = now if self._opened_at is None else self._opened_at
        billed = self._first_value + money.fee(Fraction(now - opened_at, NANOSECONDS), self.price)
        in_all = billed + BALANCE_IN_TICKETS * max(self._largest_ev, ev)
        return max(ev, min(in_all - self._signed_value, MAX_TICKETS * ev))

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

    def check(self, payment: Payment, now: int) -> None:
        """PaymentMismatch unless the payment is what was asked for, and no more than the time that passed."""
        last_nonce = self._last_nonce if payment.recipient_rand_hash == self._last_hash else 0
        payment.check(self.info, last_nonce)
        opened_at = now if self._opened_at is None else self._opened_at
        seconds = Fraction(now - opened_at, NANOSECONDS) + PRELOAD + CLOCK_SLACK
        price = self.price if self.signed_count else self.info.price or Fraction(0)
        most = money.fee(seconds, price) + BALANCE_IN_TICKETS * max(self._largest_ev, payment.ticket_ev)
        if self._signed_value + payment.value > most:
            raise PaymentMismatch(
                f"the signer paid {money.whole_wei(self._signed_value + payment.value)} wei in all, "
                f"where at most {money.whole_wei(most)} can be due"
            )

    def signed(self, payment: Payment) -> None:
        """200: this payment, which was checked. It is money spent: delivered until its fate is known."""
        sign = self._answered(Sign)
        if self.signed_count == 0:
            self.price = sign.info.price or Fraction(0)
            self._first_value = payment.value
        self.signed_count += 1
        self._billed_at = self._asked_at
        self.state = payment.state
        self.pending = payment
        self._attempts = 0
        self._refreshes = 0
        self._price_refreshes = 0
        self._last_nonce, self._last_hash = payment.last_nonce, payment.recipient_rand_hash
        self._signed_value += payment.value
        self._largest_ev = max(self._largest_ev, payment.ticket_ev)
        self._succeeded()

    def withheld(self, reason: EndReason, detail: str) -> None:
        """The signer was not asked after all, or its payment is not handed out: the end of the session."""
        self._answered(Sign)
        self._give_up(reason, detail)

    def mistrusted(self, detail: str) -> None:
        """200 with a payment that failed its checks."""
        self._answered(Sign)
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def signing_refused(self, detail: str) -> None:
        """400: the same request can never succeed."""
        self._answered(Sign)
        if self._gap_in_tickets(self._asked_at) > MAX_TICKETS - BALANCE_IN_TICKETS:
            self._give_up_the_state(self._asked_at)
        self._give_up(EndReason.PAYMENT_REFUSED, detail)

    def signer_rejected(self, detail: str) -> None:
        """401, 403, 483 and the like: not the orchestrator's fault."""
        self._answered(Sign)
        self._give_up(EndReason.SIGNER_REFUSED, detail)

    def refresh_needed(self) -> None:
        """480: the same state goes with an info that is fetched anew and taken whole."""
        self._answered(Sign)
        self._refreshes += 1
        if self._refreshes > REFRESHES_IN_A_ROW:
            self._give_up(
                EndReason.PAYMENT_REFUSED,
                f"ticket params or auth token were about to expire {self._refreshes} times in a row",
            )
            return
        self._price_refreshes = 0
        self._want(RefreshKind.INFO, needed=True)

    def price_exceeded(self, detail: str) -> None:
        """481: the price is above what the signer allows or above the session's first one.

        The first price is asked for, at most 3 times in a row: a signer that goes on means it.
        """
        self._answered(Sign)
        self._price_is_raised(detail, needed=True, tries=REFRESHES_IN_A_ROW)

    def no_tickets_needed(self, now: int) -> None:
        """482: the signer's balance covers the time. The state stays, the next interval asks again."""
        self._answered(Sign)
        if self.started_at is None:
            self._give_up(EndReason.PAYMENT_REFUSED, "the signer found nothing due for a job that starts")
        else:
            self._succeeded()
            self.idle = True
            self._refreshes = 0
            self._price_refreshes = 0  # the price is looked at before the balance
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
        self.started_at = self._due = self._asked_at = now
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
        if info is not None and is_payable(info):
            self._take(info)
        else:
            self._want(RefreshKind.INFO, needed=False)

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
        self._answered(Refresh)
        self._refresh = None
        self._succeeded()
        self._take(info)

    def refresh_failed(self, detail: str, now: int, *, refused: bool = False) -> None:
        """No info came; `refused` means that asking again is of no use."""
        kind = self._answered(Refresh).kind
        if kind is RefreshKind.FIXED_PRICE and refused:
            self._give_up(EndReason.PRICE_RAISED, f"the first price is not to be had any more: {detail}")
            return
        if self._refresh_is_needed:
            by_price = kind is RefreshKind.FIXED_PRICE
            self._failed(EndReason.PRICE_RAISED if by_price else EndReason.ORCHESTRATOR_LOST, detail, now)
        elif self.failures + 1 >= TRIES_WITHOUT_CREDIT:
            self._refresh = None  # the former ticket params are still good for some time
            self._succeeded()
        else:
            self._back_off(now)

    def end(self, now: int) -> None:
        """The job is over: nothing is signed any more, and what is owed stands still."""
        if self._ended_at is None:
            self._ended_at = now

    @property
    def ended(self) -> bool:
        """Whether the job is over, so that nothing may be signed."""
        return self._ended_at is not None

    # what it comes to

    def elapsed(self, now: int) -> Fraction:
        """Seconds that the job ran, exact."""
        if self.started_at is None:
            return Fraction(0)
        until = now if self._ended_at is None else self._ended_at
        return Fraction(max(0, until - self.started_at), NANOSECONDS)

    def owed(self, now: int) -> Fraction:
        """The fee for the time that the job ran, in wei."""
        return money.fee(self.elapsed(now), self.price)

    def credit(self, now: int) -> Fraction:
        """An estimate of the credit that the orchestrator holds for the job, in wei."""
        return self.credited - self.owed(now)

    def credit_seconds(self, now: int) -> Fraction | None:
        """The credit in seconds of stream; None before the job runs."""
        return self.credit(now) / self.price if self.started_at is not None else None

    @property
    def due_at(self) -> int | None:
        """When something happens next; None while something does, or before the job runs."""
        if self.started_at is None or self._asked is not None or self._ended_at is not None:
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
        self.accepted += 1
        self.tickets += self.pending.tickets
        self.credited += self.pending.value
        self.last_accepted_at = now
        self.pending = None
        self._succeeded()
        self._schedule(self._asked_at)
        self._must_last("all payments are credited", self._asked_at)

    def _schedule(self, billed_until: int) -> None:
        """Due at the next tick of the interval: the ticks that were missed are one payment, not many."""
        self._due += ((billed_until - self._due) // self.interval + 1) * self.interval

    def _pay_within_the_preload(self) -> None:
        """Pay twice before the first credit is used up, where the interval alone would not."""
        assert self.pending is not None
        if self.price:
            half = int(self.pending.value / self.price * NANOSECONDS / 2)
            self.interval = min(self.interval, max(half, SHORTEST_INTERVAL))

    def _must_last(self, finding: str, paid_until: int) -> None:
        """Leave where the credit that was left when the signer was asked is gone before it is asked again."""
        if self.credit(paid_until) < money.fee(Fraction(self.interval, NANOSECONDS), self.price):
            self._give_up(
                EndReason.CREDIT_EXHAUSTED,
                f"{finding}, but by our estimate the credit lasts for less than one payment interval",
            )

    def _gap_in_tickets(self, now: int) -> Fraction:
        """What passed since the signer last billed, in tickets; 0 before the job runs."""
        ev = self.info.ticket_ev
        if self.started_at is None or not ev:
            return Fraction(0)
        return money.fee(Fraction(now - self._billed_at, NANOSECONDS), self.price) / ev

    def _give_up_the_state(self, now: int) -> None:
        seconds = (now - self._billed_at) // NANOSECONDS
        self._give_up(
            EndReason.CREDIT_EXHAUSTED,
            f"{seconds} s without a payment need more than {MAX_TICKETS} tickets, which no signer gives at "
            "once: only a new job's null state helps",
        )

    def _take(self, info: OrchestratorInfo) -> None:
        """Pay on this info from now on, whole, unless it is one that must not be paid on."""
        if info.message.address != self.info.message.address:
            self._give_up(EndReason.PAYMENT_REFUSED, "the orchestrator answered under another address")
        elif not info.price or not info.ticket_ev:
            self._give_up(
                EndReason.PAYMENT_REFUSED, "the orchestrator's info holds nothing that a signer can pay on"
            )
        elif self.ceiling is not None and info.price > self.ceiling:
            self._price_is_raised(
                f"{money.text(info.price)} wei/s is above the ceiling of {money.text(self.ceiling)} wei/s",
                needed=False,
            )
        elif self.signed_count and info.price > self.price:
            self._price_is_raised(
                f"{money.text(info.price)} wei/s is above the session's {money.text(self.price)} wei/s",
                needed=False,
            )
        elif not self.signed_count and PRELOAD * info.price > MAX_TICKETS * info.ticket_ev:
            self._give_up(
                EndReason.PAYMENT_REFUSED,
                f"one of its tickets is worth {money.decimal(info.ticket_ev / info.price)} s of stream, so "
                f"the first {PRELOAD} s need more than {MAX_TICKETS} tickets: the orchestrator's operator "
                "must raise the expected value of a ticket",
            )
        else:
            self.info = info

    def _price_is_raised(self, detail: str, *, needed: bool, tries: int = 1) -> None:
        """Ask for the first price; `needed` where nothing else is left that could be paid on meanwhile."""
        if self.started_at is None or self._price_refreshes >= tries:
            self._give_up(EndReason.PRICE_RAISED, detail)
        else:
            self._price_refreshes += 1
            self._want(RefreshKind.FIXED_PRICE, needed=needed)

    def _want(self, kind: RefreshKind, *, needed: bool) -> None:
        self._refresh = kind
        self._refresh_is_needed = needed

    def _succeeded(self) -> None:
        self.failures = 0
        self.idle = False
        self._not_before = None

    def _failed(self, reason: EndReason, detail: str, now: int) -> None:
        """Try again for as long as the credit lasts; what was never paid for is tried a few times."""
        if self.started_at is None:
            hopeless = self.failures + 1 >= TRIES_WITHOUT_CREDIT
        else:
            hopeless = self.credit(now) < 0
        if hopeless:
            self._give_up(reason, detail)
        else:
            self._back_off(now)

    def _back_off(self, now: int) -> None:
        self._not_before = now + min(LONGEST_BACKOFF, FIRST_BACKOFF << self.failures)
        self.failures += 1
        self.idle = False
