"""Whether a session's rows add up: plain logic over what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from gateway import money
from gateway.payments.billing import by_another_clock, first_payment, most_in_all
from gateway.payments.ledger_reader import LedgerPayment, LedgerSession, Outcome, Row
from gateway.payments.schema import Step
from gateway.payments.ticket import expected_value
from gateway.payments.timebase import NANOSECONDS

# what may come after what, of one payment
_NEXT: dict[str | None, set[str]] = {
    None: {Step.INTENDED},
    Step.INTENDED: {Step.SIGNED},
    Step.SIGNED: {Step.DELIVERED, Step.REFUSED},
    Step.DELIVERED: {Step.DELIVERED, Step.UNKNOWN, Step.CREDITED, Step.REFUSED},
    Step.UNKNOWN: {Step.DELIVERED, Step.CREDITED, Step.REFUSED},
    Step.CREDITED: set(),
    Step.REFUSED: set(),
}


@dataclass(slots=True)
class Verification:
    """Takes sessions one by one, oldest first, and finds what does not add up, in them and between them."""

    sessions: int = 0
    payments: int = 0
    open_sessions: int = 0
    """Sessions that nobody closed: live ones, or those of a gateway that crashed and is not back."""
    wei: dict[Outcome, Fraction] = field(default_factory=lambda: dict.fromkeys(Outcome, Fraction(0)))
    findings: list[tuple[str, str]] = field(default_factory=list)
    """Session id, and a sentence."""
    _spent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def take(self, account: LedgerSession) -> None:
        """Check one session."""
        self.sessions += 1
        self.payments += len(account.payments)
        self.open_sessions += account.closed is None
        for outcome in Outcome:
            self.wei[outcome] += account.total.wei[outcome]
        for finding in (*_findings(account), *self._repeated_nonces(account)):
            self.findings.append((str(account.row["id"]), finding))

    def _repeated_nonces(self, account: LedgerSession) -> Iterable[str]:
        for paid in account.payments:
            if paid.outcome in (Outcome.REFUSED, Outcome.UNSPENT):
                continue
            first, last = paid.row["first_nonce"], paid.row["last_nonce"]
            spent = self._spent.setdefault(paid.row["recipient_rand_hash"], [])
            if any(first <= other_last and other_first <= last for other_first, other_last in spent):
                yield f"payment {paid.row['number']} spends nonces {first} to {last} a second time"
            spent.append((first, last))


def _findings(account: LedgerSession) -> Iterable[str]:
    closings = [step for step in account.steps if step["step"] == Step.CLOSED]
    if len(closings) > 1:
        yield f"it was closed {len(closings)} times"
    numbers = [paid.row["number"] for paid in account.payments]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its payments are not numbered one after the other: {numbers}"
    for step in account.steps:
        if step["step"] not in (Step.CLOSED, Step.INTENDED, Step.REFUSED):  # the last: it was unreadable
            yield f"a payment that does not exist was {step['step']}"
    for paid in account.payments:
        for finding in _payment_findings(account.row, paid):
            yield f"payment {paid.row['number']} {finding}"
    yield from _paid_too_much(account)


def _payment_findings(session: Row, paid: LedgerPayment) -> Iterable[str]:
    row = paid.row
    former: str | None = None
    for step in paid.steps:
        name = step["step"]
        if name not in _NEXT[former]:
            yield f"was {name} after {former or 'nothing'}"
        former = name
    if row["ticket_ev"] != expected_value(int(row["face_value"]), int(row["win_prob"])):
        yield "has an expected value that its face value and win probability do not make"
    if row["value"] != row["tickets"] * row["ticket_ev"]:
        yield "is not worth as much as its tickets"
    if paid.outcome is Outcome.REFUSED:
        return  # it was found wrong in time, or bought nothing
    if row["last_nonce"] - row["first_nonce"] < row["tickets"] - 1:
        yield "has fewer nonces than tickets"
    if row["price"] > session["price"]:
        yield "was made at a price above the session's first"
    if session["ceiling"] is not None and row["price"] > session["ceiling"]:
        yield "was made at a price above the operator's ceiling"


def _paid_too_much(account: LedgerSession) -> Iterable[str]:
    """More than the preload at first, or than the first payment and the time since it explain."""
    paid = [one for one in account.payments if one.outcome is not Outcome.REFUSED]
    if not paid:
        return
    price, first = account.row["price"], paid[0]
    preload = first_payment(first.row["price"], first.row["ticket_ev"])
    if first.value > preload:
        yield f"its first payment was worth more than the {money.whole_wei(preload)} wei that open a session"
    moments = [step["monotonic_ns"] for one in paid for step in one.steps if step["step"] in _TIMED]
    seconds = by_another_clock(Fraction(max(moments) - min(moments), NANOSECONDS))
    most = most_in_all(first.value, seconds, price, max(one.row["ticket_ev"] for one in paid))
    total = sum((one.value for one in paid), Fraction(0))
    if total > most:
        yield (
            f"{money.whole_wei(total)} wei were signed in all, where at most {money.whole_wei(most)} "
            "were due for the time"
        )


_TIMED = (Step.INTENDED, Step.SIGNED)
