"""Checks that the ledger's rows are consistent: plain logic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from gateway import money
from gateway.payments.billing import first_payment, max_total, signer_seconds
from gateway.payments.ledger_reader import LedgerPayment, LedgerSession, Outcome, Row
from gateway.payments.schema import Step
from gateway.payments.ticket import expected_value
from gateway.payments.timebase import NANOSECONDS

# which steps of one payment may follow which
_NEXT: dict[str | None, set[str]] = {
    None: {Step.INTENDED},
    Step.INTENDED: {Step.SIGNED},
    Step.SIGNED: {Step.DELIVERED, Step.REFUSED},
    Step.DELIVERED: {Step.DELIVERED, Step.UNKNOWN, Step.CREDITED, Step.REFUSED},
    Step.UNKNOWN: {Step.DELIVERED, Step.CREDITED, Step.REFUSED},
    Step.CREDITED: set(),
    Step.REFUSED: set(),
}


_WITHOUT_PAYMENT = (Step.CLOSED, Step.INTENDED, Step.REFUSED)
"""Steps that may be of no payment: the signer gave none, or one that could not be read."""
_TIMED = (Step.INTENDED, Step.SIGNED)
"""Steps between which the signer bills the time."""


@dataclass(slots=True)
class Verification:
    """Checks sessions one by one, oldest first, each alone and against those before."""

    sessions: int = 0
    payments: int = 0
    open_sessions: int = 0
    """Sessions that were not closed: live, or left by a crash of a gateway that has not started again."""
    wei: dict[Outcome, Fraction] = field(default_factory=lambda: dict.fromkeys(Outcome, Fraction(0)))
    findings: list[tuple[str, str]] = field(default_factory=list)
    """Session id and a sentence for each inconsistency."""
    _spent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def take(self, session: LedgerSession) -> None:
        """Check one session."""
        self.sessions += 1
        self.payments += len(session.payments)
        self.open_sessions += session.closed is None
        for outcome in Outcome:
            self.wei[outcome] += session.total.wei[outcome]
        for finding in (*_findings(session), *self._repeated_nonces(session)):
            self.findings.append((str(session.row["id"]), finding))

    def _repeated_nonces(self, session: LedgerSession) -> Iterable[str]:
        for payment in session.payments:
            if payment.outcome in (Outcome.REFUSED, Outcome.UNSPENT):
                continue
            first, last = payment.row["first_nonce"], payment.row["last_nonce"]
            spent = self._spent.setdefault(payment.row["recipient_rand_hash"], [])
            if any(first <= other_last and other_first <= last for other_first, other_last in spent):
                yield f"payment {payment.row['number']} uses nonces {first} to {last} a second time"
            spent.append((first, last))


def _findings(session: LedgerSession) -> Iterable[str]:
    closings = [step for step in session.steps if step["step"] == Step.CLOSED]
    if len(closings) > 1:
        yield f"it was closed {len(closings)} times"
    numbers = [payment.row["number"] for payment in session.payments]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the numbers of its payments are not consecutive: {numbers}"
    for step in session.steps:
        if step["step"] not in _WITHOUT_PAYMENT:
            yield f"step {step['step']} is of a payment that does not exist"
    for payment in session.payments:
        for finding in _payment_findings(session.row, payment):
            yield f"payment {payment.row['number']} {finding}"
    yield from _paid_too_much(session)


def _payment_findings(session: Row, payment: LedgerPayment) -> Iterable[str]:
    row = payment.row
    former: str | None = None
    for step in payment.steps:
        name = step["step"]
        if name not in _NEXT[former]:
            yield f"has step {name} after {former or 'none'}"
        former = name
    if row["ticket_ev"] != expected_value(int(row["face_value"]), int(row["win_prob"])):
        yield "has a ticket value other than its face value times its win probability"
    if row["value"] != row["tickets"] * row["ticket_ev"]:
        yield "has another value than its tickets together"
    if payment.outcome is Outcome.REFUSED:
        return  # it was never sent, or credited nothing
    if row["last_nonce"] - row["first_nonce"] < row["tickets"] - 1:
        yield "has fewer nonces than tickets"
    if row["price"] > session["price"]:
        yield "was made at a price above the session's first"
    if session["ceiling"] is not None and row["price"] > session["ceiling"]:
        yield "was made at a price above the operator's ceiling"


def _paid_too_much(session: LedgerSession) -> Iterable[str]:
    """Payments above what was due: the preload at first, later the time that passed."""
    paid = [one for one in session.payments if one.outcome is not Outcome.REFUSED]
    if not paid:
        return
    price, first = session.row["price"], paid[0]
    preload = first_payment(first.row["price"], first.row["ticket_ev"])
    if first.value > preload:
        yield f"its first payment is above the {money.whole_wei(preload)} wei of a preload"
    moments = [step["monotonic_ns"] for one in paid for step in one.steps if step["step"] in _TIMED]
    seconds = signer_seconds(Fraction(max(moments) - min(moments), NANOSECONDS))
    most = max_total(first.value, seconds, price, max(one.row["ticket_ev"] for one in paid))
    total = sum((one.value for one in paid), Fraction(0))
    if total > most:
        yield (
            f"{money.whole_wei(total)} wei were signed in total, where at most {money.whole_wei(most)} "
            "were due for the time"
        )
