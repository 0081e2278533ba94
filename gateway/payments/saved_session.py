"""A payment session as it is kept over a restart of the gateway, and for how long it may be gone on with.

Plain logic: no I/O, no clock. What is kept holds a signed payment and the signer's state: it is for the
ledger's database and for nobody's eyes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from ipaddress import ip_address
from typing import Any

from gateway import money
from gateway.aio.inside import Reach
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.payments.balance import Balance
from gateway.payments.billing import BALANCE_IN_TICKETS, Billing
from gateway.payments.payment import MAX_TICKETS, Payment, PaymentMismatch
from gateway.payments.schedule import FIRST_BACKOFF
from gateway.payments.session import PaymentSession
from gateway.payments.signing_rules import PIXEL_RULES, PaymentFlow, rules_for
from gateway.payments.ticket_limits import DEFAULT_TICKET_LIMITS, TicketLimits
from gateway.payments.timebase import NANOSECONDS, Moment
from signer_client import LivePayment, SignerState

RESERVE = 10
"""Seconds of the credit at the last payment that have to be left when a job is gone on with."""
RESERVE_BY_SECONDS = 1
"""The same where whole seconds are billed: the credit is small, and who comes back pays first of all."""
LONGEST_GAP = 45
"""The most seconds since the last payment."""

NO_STATE = SignerState("", "")

_EXACT = re.compile(r"[0-9]{1,400}(/[1-9][0-9]{0,399})?")

Json = dict[str, Any]


class NotResumable(Exception):
    """A job of a former run cannot be gone on with; the text says why."""


def passed(saved: Moment, now: Moment) -> int:
    """The most nanoseconds that may have passed since `saved`, which another process noted.

    The monotonic clock counts where it has not started anew, so that a wall clock that was set back hides
    nothing. Raises NotResumable where neither tells.
    """
    longest = max(now.wall_ns - saved.wall_ns, now.monotonic_ns - saved.monotonic_ns)
    if longest < 0:
        raise NotResumable("the clock was set back since")
    return longest


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSession:
    """All that a payment session needs. Times are nanoseconds of the monotonic clock, prices wei a second.

    `payment` is signed and not known to be credited: then everything else is as it was before.
    """

    info: bytes
    """The OrchestratorInfo that is paid on."""
    reach_host: str
    reach_address: str
    """Where its URLs may lead (`Reach`); empty where it is public."""
    payment_type: str
    """By whose rules the signer bills."""
    app: str
    """Of a live runner."""
    state: str = field(repr=False)
    """The signer's newest, and its signature; empty before the first payment."""
    state_signature: str = field(repr=False)
    state_names: str
    """How the signer calls both, a word each."""
    manifest_id: str
    interval: int
    due: int
    price: Fraction
    """The session's first; 0 before the first payment."""
    payments: int
    opened_at: int | None
    asked_at: int
    billed_until: int
    first: Fraction
    total: Fraction
    largest_ev: Fraction
    last_nonce: int
    last_hash: bytes
    accepted: int
    tickets: int
    credited: Fraction
    started_at: int | None
    last_accepted_at: int | None
    payment: str = field(repr=False)
    """With its credentials and the state after it, as the signer gave them; empty where none waits."""
    seg_creds: str = field(repr=False)
    next_state: str = field(repr=False)
    next_state_signature: str = field(repr=False)

    def json(self) -> Json:
        return {one.name: _WRITE[str(one.type)](getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def parse(cls, value: object) -> SavedSession:
        """Raises ValueError for anything that `json` cannot have given."""
        if isinstance(value, dict):  # releases that knew no others wrote no type of payment
            value = {"payment_type": PIXEL_RULES.type, "app": "", "state_names": "State Sig", **value}
        if not isinstance(value, dict) or set(value) != {one.name for one in fields(cls)}:
            raise ValueError("it has other fields than a saved session")
        saved = cls(**{one.name: _READ[str(one.type)](value[one.name]) for one in fields(cls)})
        if saved.interval == 0 or not (saved.payments or saved.payment):
            raise ValueError("it is no session that was paid")
        if len(saved.state_names.split()) != 2:
            raise ValueError("a signer's state has two names")
        return saved

    def moved(self, by: int) -> SavedSession:
        """With all of its times later by so many nanoseconds."""
        return replace(
            self,
            due=self.due + by,
            opened_at=_moved(self.opened_at, by),
            asked_at=self.asked_at + by,
            billed_until=self.billed_until + by,
            started_at=_moved(self.started_at, by),
            last_accepted_at=_moved(self.last_accepted_at, by),
        )

    @property
    def orchestrator_info(self) -> OrchestratorInfo:
        """Raises ValueError where it cannot be read."""
        unit = PriceUnit.SECONDS if self.flow.rules.whole_seconds else PriceUnit.PIXELS
        return OrchestratorInfo.parse(self.info, self.reach, unit)

    @property
    def reach(self) -> Reach:
        address = ip_address(self.reach_address) if self.reach_address else None
        return Reach(self.reach_host, address)

    @property
    def flow(self) -> PaymentFlow:
        """What its signing calls have in common."""
        return PaymentFlow(rules_for(self.payment_type), self.manifest_id, self.app)

    @property
    def waiting_payment(self) -> LivePayment | None:
        """The payment that is not known to be credited."""
        if not self.payment:
            return None
        state = self.signer_state(self.next_state, self.next_state_signature)
        return LivePayment(self.payment, self.seg_creds, state)

    def signer_state(self, state: str, signature: str) -> SignerState:
        """A state as the signer gave it."""
        first, second = self.state_names.split()
        return SignerState(state, signature, (first, second))


def save(session: PaymentSession, payment: LivePayment | None = None) -> SavedSession:
    """The session now; with a payment that the signer gave and `session` has not taken yet."""
    billing, balance, schedule, state = session.billing, session.balance, session.schedule, session.state
    reach, newest = session.info.reach, state if payment is None else payment.state
    return SavedSession(
        info=session.info.raw,
        reach_host=reach.host,
        reach_address="" if reach.address is None else str(reach.address),
        payment_type=session.flow.rules.type,
        app=session.flow.app,
        state="" if state is None else state.state,
        state_signature="" if state is None else state.signature,
        state_names=" ".join(NO_STATE.names if newest is None else newest.names),
        manifest_id=session.manifest_id,
        interval=schedule.interval,
        due=schedule.due,
        price=billing.price,
        payments=billing.payments,
        opened_at=billing.opened_at,
        asked_at=billing.asked_at,
        billed_until=billing.billed_until,
        first=billing.first,
        total=billing.total,
        largest_ev=billing.largest_ev,
        last_nonce=billing.last_nonce,
        last_hash=billing.last_hash,
        accepted=balance.accepted,
        tickets=balance.tickets,
        credited=balance.credited,
        started_at=balance.started_at,
        last_accepted_at=balance.last_accepted_at,
        payment="" if payment is None else payment.payment,
        seg_creds="" if payment is None else payment.seg_creds,
        next_state="" if payment is None else payment.state.state,
        next_state_signature="" if payment is None else payment.state.signature,
    )


def seconds_to_resume(saved: SavedSession, now: int) -> Fraction:
    """For how many seconds from now its publisher may still come back; 0 or less where it may not.

    The credit at the last payment covers the time since then, which is LONGEST_GAP at most, with RESERVE or
    RESERVE_BY_SECONDS left over. The signer would give the tickets for it at once.
    """
    if saved.started_at is None or saved.last_accepted_at is None or not saved.price:
        return Fraction(0)
    paid = saved.last_accepted_at
    ran = Fraction(max(0, paid - saved.started_at), NANOSECONDS)
    credit = (saved.credited - money.fee(ran, saved.price)) / saved.price
    reserve = RESERVE_BY_SECONDS if saved.flow.rules.whole_seconds else RESERVE
    window = min(credit - reserve, Fraction(LONGEST_GAP))
    left = window - Fraction(now - paid, NANOSECONDS)
    return min(left, _payable_for(saved, now))


def _payable_for(saved: SavedSession, now: int) -> Fraction:
    """Seconds from now until the unbilled time needs more tickets than a signer gives at once."""
    ev = saved.orchestrator_info.ticket_ev or Fraction(0)
    billed_until = saved.asked_at if saved.payment else saved.billed_until
    most = (MAX_TICKETS - BALANCE_IN_TICKETS) * ev / saved.price
    return most - Fraction(now - billed_until, NANOSECONDS)


def restore(
    saved: SavedSession,
    *,
    sender: bytes,
    interval: int,
    ceiling: Fraction,
    ticket_limits: TicketLimits = DEFAULT_TICKET_LIMITS,
    first_backoff: int = FIRST_BACKOFF,
    handed_out: bool,
) -> PaymentSession:
    """The session, by the limits of now. `handed_out`: its payment may have arrived before.

    Raises NotResumable where nothing can be paid on it any more, ValueError where it cannot be right.
    """
    info = saved.orchestrator_info
    if (saved.price or info.price or 0) > ceiling:
        raise NotResumable(f"its price is above the ceiling of {money.text(ceiling)} wei/s")
    flow = saved.flow
    billing, balance = Billing(flow.rules), Balance()
    billing.price, billing.payments = saved.price, saved.payments
    billing.opened_at, billing.asked_at, billing.billed_until = (
        saved.opened_at,
        saved.asked_at,
        saved.billed_until,
    )
    billing.first, billing.total, billing.largest_ev = saved.first, saved.total, saved.largest_ev
    billing.last_nonce, billing.last_hash = saved.last_nonce, saved.last_hash
    balance.accepted, balance.tickets, balance.credited = saved.accepted, saved.tickets, saved.credited
    if saved.started_at is not None:
        balance.start(saved.price, saved.started_at)
    balance.last_accepted_at = saved.last_accepted_at
    session = PaymentSession(
        info,
        interval=min(interval, saved.interval),
        ceiling=ceiling,
        ticket_limits=ticket_limits,
        first_backoff=first_backoff,
        billing=billing,
        balance=balance,
        flow=flow,
    )
    session.schedule.due = saved.due
    if saved.state:
        session.state = saved.signer_state(saved.state, saved.state_signature)
    if session.leaving:
        raise NotResumable(session.leaving)
    waiting = saved.waiting_payment
    if waiting is not None:
        _take(session, waiting, sender, handed_out)
    return session


def _take(session: PaymentSession, waiting: LivePayment, sender: bytes, handed_out: bool) -> None:
    """Check the payment as when it came: the former run may have ended before it did."""
    try:
        payment = Payment.read(waiting)
        session.billing.check(payment, session.info, session.billing.asked_at)
        payment.verify(sender)
    except PaymentMismatch as mismatch:
        raise NotResumable(str(mismatch)) from mismatch
    session.take(payment, handed_out=handed_out)


def _moved(at: int | None, by: int) -> int | None:
    return None if at is None else at + by


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a number is missing")
    return value


def _optional(value: object) -> int | None:
    return None if value is None else _integer(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is missing")
    return value


def _bytes(value: object) -> bytes:
    return base64.b64decode(_text(value), validate=True)


def _fraction(value: object) -> Fraction:
    text = _text(value)
    if _EXACT.fullmatch(text) is None:
        raise ValueError("an exact number is missing")
    return Fraction(text)


_READ: dict[str, Callable[[object], Any]] = {
    "int": _integer,
    "int | None": _optional,
    "str": _text,
    "bytes": _bytes,
    "Fraction": _fraction,
}
_WRITE: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "int | None": lambda value: value,
    "str": str,
    "bytes": lambda value: base64.b64encode(value).decode(),
    "Fraction": str,
}
