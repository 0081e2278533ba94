"""Checks that the ledger's rows are consistent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from gateway import money
from gateway.payments.billing import first_payment, max_total, signer_seconds
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.ledger_rows import LedgerPayment, LedgerSession, Row
from gateway.payments.signing_rules import rules_for
from gateway.payments.steps import FOLLOWING, Outcome, Step
from gateway.payments.timebase import NANOSECONDS

_TIMED = (Step.INTENDED, Step.SIGNED)
"""Steps between which the signer bills the time."""


@dataclass(slots=True)
class Verification:
    """What was checked, and what is not consistent."""

    sessions: int = 0
    payments: int = 0
    """Those that are kept: of older ones there are sums only."""
    open_sessions: int = 0
    """Sessions that were not closed: live, or left to the gateway's next start."""
    wei: dict[Outcome, Fraction] = field(default_factory=lambda: dict.fromkeys(Outcome, Fraction(0)))
    findings: list[tuple[str, str]] = field(default_factory=list)
    """Session id and a sentence for each inconsistency."""


async def verify(reader: LedgerReader, *, stream: str | None = None) -> Verification:
    """Check the sessions of a ledger, or of one of its streams. Raises LedgerError."""
    done = Verification()
    async for session in reader.sessions(stream=stream, payments=True):
        check = SessionCheck(session)
        async for payment in reader.payments_of(session):
            check.take(payment)
        done.sessions += 1
        done.payments += check.payments
        done.open_sessions += session.closed is None
        for outcome, wei in session.total.wei.items():
            done.wei[outcome] += wei
        done.findings += [(str(session.row["id"]), finding) for finding in check.findings()]
    nonces = NonceCheck()
    async for row in reader.nonces(stream=stream):
        if nonces.repeated(row):
            used = f"uses nonces {row['first_nonce']} to {row['last_nonce']} a second time"
            done.findings.append((str(row["session_id"]), f"payment {row['number']} {used}"))
    return done


class NonceCheck:
    """Takes payments by recipientRandHash and first nonce, and tells which repeat a nonce."""

    def __init__(self) -> None:
        self._hash = b""
        self._highest = -1

    def repeated(self, row: Row) -> bool:
        if row["recipient_rand_hash"] != self._hash:
            self._hash, self._highest = row["recipient_rand_hash"], -1
        repeated = bool(row["first_nonce"] <= self._highest)
        self._highest = max(self._highest, row["last_nonce"])
        return repeated


class SessionCheck:
    """Takes one session's payments in their order; `findings` are sentences."""

    def __init__(self, session: LedgerSession) -> None:
        self.payments = 0
        self._session = session
        self._findings: list[str] = []
        self._lowest = self._highest = 0
        self._sums = dict.fromkeys(Outcome, Fraction(0))
        self._first: LedgerPayment | None = None
        self._paid = self._largest_ticket = Fraction(0)
        self._moments: tuple[int, int] | None = None

    def take(self, payment: LedgerPayment) -> None:
        number = payment.row["number"]
        self.payments += 1
        self._lowest = self._lowest or number
        self._highest = number
        self._sums[payment.outcome] += payment.value
        found = _payment_findings(self._session.row, payment)
        self._findings += [f"payment {number} {finding}" for finding in found]
        if payment.row["state"] != Step.WITHHELD:
            self._count(payment)

    def _count(self, payment: LedgerPayment) -> None:
        timed = [step["monotonic_ns"] for step in payment.steps if step["step"] in _TIMED]
        began, ended = self._moments or (timed[0], timed[0])
        self._moments = min(began, *timed), max(ended, *timed)
        self._first = self._first or payment
        self._paid += payment.value
        self._largest_ticket = max(self._largest_ticket, payment.row["ticket_ev"])

    def findings(self) -> Iterable[str]:
        yield from self._findings
        total = self._session.total
        removed = total.payments - self.payments
        if self._highest - self._lowest + 1 != self.payments and self.payments and not removed:
            yield f"the numbers of its payments are not consecutive: {self._lowest} to {self._highest}"
        if self._highest > total.payments or (self.payments and self._lowest > removed + 1):
            yield f"it has payments up to number {self._highest}, and {total.payments} in its sums"
        for outcome in Outcome:
            kept, known = self._sums[outcome], total.wei[outcome]
            if kept > known or (not removed and kept != known):
                found = f"{money.text(kept)} wei of its payments are {outcome}"
                yield f"{found}, and its sums say {money.text(known)}"
        yield from self._paid_too_much()

    def _paid_too_much(self) -> Iterable[str]:
        """Payments above what was due: the preload at first, later the time that passed."""
        if self._first is None or self._moments is None:
            return
        price, first = self._session.row["price"], self._first
        rules = rules_for(self._session.row["payment_type"])
        preload = first_payment(first.row["price"], first.row["ticket_ev"], rules.opening)
        if first.row["number"] == 1 and first.value > preload:
            yield f"its first payment is above the {money.whole_wei(preload)} wei of a preload"
        began, ended = self._moments
        seconds = signer_seconds(Fraction(ended - began, NANOSECONDS))
        if rules.whole_seconds:
            seconds += self.payments  # each may be rounded up
        most = max_total(first.value, seconds, price, self._largest_ticket)
        if self._paid > most:
            yield (
                f"{money.whole_wei(self._paid)} wei were signed in total, where at most "
                f"{money.whole_wei(most)} were due for the time"
            )


def _payment_findings(session: Row, payment: LedgerPayment) -> Iterable[str]:
    row = payment.row
    former = Step.INTENDED
    for taken in payment.steps[1:]:
        step = Step(taken["step"])
        if step not in FOLLOWING[former]:
            yield f"has step {step} after {former}"
        former = step
    if former.value != row["state"]:
        yield f"is {row['state']}, and its last step was {former}"
    if row["state"] == Step.WITHHELD:
        return  # it failed these checks, and was not sent
    if row["last_nonce"] - row["first_nonce"] < row["tickets"] - 1:
        yield "has fewer nonces than tickets"
    if row["price"] > session["price"]:
        yield "was made at a price above the session's first"
    if session["ceiling"] is not None and row["price"] > session["ceiling"]:
        yield "was made at a price above the operator's ceiling"
