"""What a payment session knows, and the changes that many of its answers share."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeVar

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Action, Deliver, Leave, Refresh, RefreshKind, Sign, StartJob
from gateway.payments.balance import Balance
from gateway.payments.billing import Billing
from gateway.payments.credit import Credit
from gateway.payments.paid_info import PaidInfo
from gateway.payments.payment import MAX_TICKETS, Payment
from gateway.payments.schedule import FIRST_BACKOFF, Schedule
from gateway.payments.signing_rules import JOB_FLOW, PaymentFlow
from gateway.payments.ticket_limits import DEFAULT_TICKET_LIMITS, TicketLimits
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from signer_client import SignerState

LEAD = NANOSECONDS // 10
"""Nanoseconds that are needed before a call of the signer, for its turn and the ledger."""
LEAST_CREDIT = Fraction(11, 2)
"""Seconds of credit below which no call of a signer waits for its next whole second."""
MAX_TRIES = 4
"""Tries in a row of what no credit covers yet, or what the session can do without."""
_A = TypeVar("_A", Sign, StartJob, Deliver, Refresh)


class SessionState:
    """The base of `PaymentSession`, with its arguments. Times are nanoseconds of a monotonic clock."""

    def __init__(
        self,
        info: OrchestratorInfo,
        *,
        interval: int,
        ceiling: Fraction,
        ticket_limits: TicketLimits = DEFAULT_TICKET_LIMITS,
        first_backoff: int = FIRST_BACKOFF,
        billing: Billing | None = None,
        balance: Balance | None = None,
        flow: PaymentFlow = JOB_FLOW,
    ) -> None:
        interval, longest_backoff = flow.rules.interval(interval), flow.rules.longest_backoff
        self.schedule = Schedule(interval, first_backoff, longest_backoff)
        self.billing = billing or Billing(flow.rules)
        """The signer's side."""
        self.balance = balance or Balance()
        """The orchestrator's side."""
        self.state: SignerState | None = None
        """The signer's newest."""
        self.flow = flow
        self.manifest_id = flow.manifest_id
        self.pending: Payment | None = None
        """Signed, and not known to be credited or refused."""
        self.idle = False
        """Whether the signer's last answer was that nothing is due."""
        self.needs_challenge = False
        """Whether it can only be opened on a newer challenge of the live runner."""
        self._credit = Credit(self.billing, self.balance, self.schedule)
        self._info = PaidInfo(
            info,
            ceiling=ceiling,
            ticket_limits=ticket_limits,
            interval=interval,
            opening=flow.rules.opening,
        )
        if self.billing.payments:
            self._info.signed(self.billing.price)
        self._asked: Action | None = None
        self._leave: Leave | None = None
        self._attempts = 0
        """Deliveries of the pending payment."""
        self._settling_tries = 0
        self._take(info)

    def first_payment_usable(self, now: int) -> bool:
        """Whether a job can start with the first payment, and be paid on: nobody has credited it yet."""
        if self.pending is None or self.running or self.ended or self._leave is not None:
            return False
        return self._credit.first_payment_lasts(self.info, now)

    @property
    def info(self) -> OrchestratorInfo:
        """What is paid on: price and ticket params of one message."""
        return self._info.current

    @property
    def handed_out(self) -> bool:
        """Whether the pending payment may have arrived."""
        return self.pending is not None and self._attempts > 0

    @property
    def leaving(self) -> str:
        """Why nothing more is to be signed; empty where the session goes on."""
        return "" if self._leave is None else self._leave.detail

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

    def wait_to_call(self, now: int) -> int:
        """For how many nanoseconds the signer is better not called yet: its next second begins then.

        None where the credit would get low.
        """
        at = self.billing.next_call(now)
        return at - now if self.running and at <= self._credit.falls_to(LEAST_CREDIT, now) else 0

    # what answers have in common

    def _answered(self, kind: type[_A]) -> _A:
        asked, self._asked = self._asked, None
        if not isinstance(asked, kind):
            raise RuntimeError(f"an answer to {kind.__name__} came where {type(asked).__name__} was asked")
        return asked

    def _give_up(self, reason: EndReason, detail: str) -> None:
        self._leave_if(Leave(reason, detail))

    def _leave_if(self, leave: Leave | None) -> None:
        """Leave where there is a reason; the first one counts."""
        self._leave = self._leave or leave

    def _leave_unpayable(self, now: int) -> None:
        self._give_up(
            EndReason.CREDIT_EXHAUSTED,
            f"{int(self.billing.unbilled(now))} s without a payment need more than {MAX_TICKETS} tickets, "
            "more than a signer gives at once: only the null state of a new job helps",
        )

    def _credited(self, now: int) -> None:
        assert self.pending is not None
        self.balance.credit(self.pending, now)
        self.pending = None
        self._succeeded()
        self._schedule_after(max(self.billing.asked_at, self._credit.enough_until(now)), now)
        self._check_credit("all payments are credited", self.billing.asked_at)

    def _schedule_after(self, billed_until: int, now: int) -> None:
        """The next payment is due at a tick of the interval after that time.

        Where whole seconds are billed it is due at the last good time within an interval, or sooner where
        the credit gets low: a signer whose clock was set back has billed too little.
        """
        if not self.billing.rules.whole_seconds:
            self.schedule.advance(billed_until)
            return
        earliest = billed_until + max(self.schedule.interval - NANOSECONDS, NANOSECONDS // 2)
        good = self.billing.next_call(earliest) - LEAD
        self.schedule.due = min(good, self._credit.falls_to(LEAST_CREDIT, now))

    def _check_credit(self, finding: str, paid_until: int) -> None:
        if not self._credit.lasts(paid_until):
            self._give_up(
                EndReason.CREDIT_EXHAUSTED,
                f"{finding}, but by our estimate the credit lasts for less than one payment interval",
            )

    def _take(self, info: OrchestratorInfo) -> None:
        self._leave_if(self._info.take(info, running=self.running))

    def _ask_refresh(self, kind: RefreshKind, reason: EndReason, detail: str) -> None:
        self._leave_if(self._info.ask(kind, reason, detail, running=self.running))

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
