"""Changes the ledger's rows within a transaction: a payment, and the sums that it counts in.

Methods take what a line says; one that cannot be right raises LedgerError before anything is changed. What
else has to be written in the transaction of a line goes through `execute`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Executable, delete, insert, select

from gateway.payments.errors import LedgerError
from gateway.payments.schema import (
    draws,
    minutes,
    payments,
    saved_details,
    saved_jobs,
    session_days,
    sessions,
    signings,
)
from gateway.payments.steps import FOLLOWING, OUTCOMES, SETTLED, CourseStep, Step, append, clean
from gateway.payments.table_cache import Row, TableCache
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.timebase import Moment
from gateway.reason import EndReason

MINUTE = 60 * 10**9


class Books:
    """`begin`, then the lines of one transaction, then `flush`; `forget` after one that failed."""

    def __init__(self) -> None:
        self._sessions = TableCache(sessions, "id")
        self._payments = TableCache(payments, "session", "number")
        self._days = TableCache(session_days, "session", "day")
        self._draws = TableCache(draws, "day", "recipient", "chance")
        self._minutes = TableCache(minutes, "minute", "publisher")
        self._jobs = TableCache(saved_jobs, "session")
        self._details = TableCache(saved_details, "session")
        self._tables = (
            self._sessions,
            self._payments,
            self._days,
            self._draws,
            self._minutes,
            self._jobs,
            self._details,
        )

    def begin(self, connection: Connection) -> None:
        self._connection = connection
        for table in self._tables:
            table.begin(connection)

    def flush(self) -> None:
        for table in self._tables:
            table.flush()

    def forget(self) -> None:
        for table in self._tables:
            table.forget()

    def execute(self, *statements: Executable) -> None:
        """Run statements on other tables."""
        for statement in statements:
            self._connection.execute(statement)

    # lines

    def open_session(self, row: Row) -> None:
        """Add a session; `row` has all that is known of it but its number."""
        returning = insert(sessions).values(row).returning(sessions.c.number)
        number = self._connection.execute(returning).scalar_one()
        unknown = dict.fromkeys(column.name for column in sessions.columns)
        self._sessions.keep({**unknown, **row, "number": number})

    def move(self, session_id: str, values: Row) -> None:
        """A session whose job has not started serves another stream, and counts for that one's publisher.

        `values` are the columns that say so. The minute that its payment counts in stays that of the signing.
        """
        session = self._session(session_id)
        if (session["asked_number"] or 0) > 1:
            raise LedgerError(f"session {session_id} has paid for a job: it cannot serve another")
        former = session["publisher"]
        self._sessions.change(session_id, **values)
        payment = self._payments.find(session["number"], 1)
        if payment is None or payment["state"] == Step.WITHHELD:
            return
        minute, value = signed_wall_ns(payment) // MINUTE, value_of(payment)
        if self._minutes.find(minute, former) is not None:
            self._minutes.increase(minute, former, value=-value)
            self._minutes.increase(minute, session["publisher"], value=value)

    def ask(self, session_id: str, number: int, at: Moment) -> None:
        """The signer is about to be called for a payment."""
        self._session(session_id)
        self._sessions.change(
            session_id, asked_number=number, asked_wall_ns=at.wall_ns, asked_monotonic_ns=at.monotonic_ns
        )

    def sign(self, session_id: str, number: int, row: Row, *, manifest_id: str, at: Moment) -> None:
        """The signer made a payment, `row`: its tickets and its price."""
        session = self._session(session_id)
        if session["asked_number"] != number:
            raise LedgerError(f"payment {number} of session {session_id} was signed and not asked for")
        if self._payments.find(session["number"], number) is not None:
            raise LedgerError(f"payment {number} of session {session_id} was signed before")
        if manifest_id and manifest_id != session["manifest_id"]:
            self._sessions.change(session_id, manifest_id=clean(manifest_id))
        asked = Moment(session["asked_wall_ns"], session["asked_monotonic_ns"])
        payment = {
            **row,
            "session": session["number"],
            "number": number,
            "state": Step.SIGNED.value,
            "price": None if row["price"] == session["price"] else row["price"],
            "wall_ns": asked.wall_ns,
            "monotonic_ns": asked.monotonic_ns,
            "course": append("", CourseStep(Step.SIGNED, _after_ms(asked, at))),
        }
        self._payments.add(payment)
        value, signed_ns = value_of(payment), signed_wall_ns(payment)
        self._days.increase(
            session["number"], day_of(signed_ns), payments=1, tickets=payment["tickets"], unspent=value
        )
        self._minutes.increase(signed_ns // MINUTE, session["publisher"], value=value)

    def step(self, session_id: str, number: int, step: Step, detail: str, at: Moment) -> None:
        """Something happens to a payment that was signed."""
        session = self._session(session_id)
        payment = self._payments.find(session["number"], number)
        if payment is None:
            raise LedgerError(f"payment {number} of session {session_id} cannot be {step}: it is unknown")
        former = Step(payment["state"])
        if step not in FOLLOWING[former]:
            raise LedgerError(f"payment {number} of session {session_id} cannot be {step} after {former}")
        if step is former is Step.CREDITED:
            return
        asked = Moment(payment["wall_ns"], payment["monotonic_ns"])
        course = append(payment["course"], CourseStep(step, _after_ms(asked, at), detail))
        self._payments.change(session["number"], number, state=step.value, course=course)
        self._count(session, payment, former, step)

    def _count(self, session: Row, payment: Row, former: Step, step: Step) -> None:
        """Move a payment to the sums of its new outcome."""
        value, signed_ns = value_of(payment), signed_wall_ns(payment)
        before, after = OUTCOMES[former].value, OUTCOMES[step].value
        if before != after:
            self._days.increase(session["number"], day_of(signed_ns), **{before: -value, after: value})
        if step is Step.WITHHELD:
            minute = signed_ns // MINUTE, session["publisher"]
            if self._minutes.find(*minute) is not None:
                self._minutes.increase(*minute, value=-value)
        if former is Step.SIGNED and step is Step.DELIVERED:
            self._draws.increase(
                day_of(signed_ns),
                session["orchestrator_address"],
                _chance(payment["win_prob"]),
                tickets=payment["tickets"],
                win_probs=payment["tickets"] * payment["win_prob"],
                value=value,
                variance=value * payment["face_value"] * (MAX_WIN_PROB - payment["win_prob"]),
            )

    def lose(self, session_id: str, number: int, most: Fraction | None, detail: str, at: Moment) -> None:
        """A call to the signer gave no payment and may be billed, at `most` wei."""
        row = {"number": number, "wall_ns": at.wall_ns, "most": most, "detail": clean(detail)}
        self.execute(insert(signings).values(session=self._session(session_id)["number"], **row))

    def unasked(self, session_id: str) -> None:
        """What the signer was asked for last counts as lost: it is written down, and asked for again."""
        self._session(session_id)
        self._sessions.change(session_id, asked_number=None)

    def save_job(self, session_id: str, details: str, progress: str, at: Moment) -> None:
        """Keep what a session's job needs to go on."""
        session = self._session(session_id)["number"]
        row = {"progress": progress, "wall_ns": at.wall_ns, "monotonic_ns": at.monotonic_ns}
        if self._jobs.find(session) is None:
            self._jobs.add({"session": session, **row})
            self._details.add({"session": session, "details": details})
        else:
            self._jobs.change(session, **row)
            self.save_details(session_id, details)

    def save_details(self, session_id: str, details: str) -> None:
        """Replace the details of a job that is kept, where they have changed."""
        session = self._session(session_id)["number"]
        former = self._details.find(session)
        if former is not None and former["details"] != details:
            self._details.change(session, details=details)

    def close(
        self, session_id: str, reason: EndReason, detail: str, owed: Fraction | None, at: Moment
    ) -> None:
        """A session is over."""
        session = self._session(session_id)
        if session["closed_wall_ns"] is not None:
            raise LedgerError(f"session {session_id} was closed before")
        self._sessions.change(
            session_id, closed_wall_ns=at.wall_ns, reason=reason.value, detail=clean(detail), owed=owed
        )
        for cache, table in ((self._jobs, saved_jobs), (self._details, saved_details)):
            if cache.find(session["number"]) is not None:
                cache.flush()
                self.execute(delete(table).where(table.c.session == session["number"]))
                cache.drop(session["number"])

    def remove(self, before_ns: int, after_id: int, limit: int) -> tuple[int, int | None]:
        """Remove old payments of the first `limit` with an id above `after_id`; the sums stay.

        Returns how many were removed and the last id that was old, None where no old one is left. Old are
        those that were asked for before `before_ns` of the wall clock; what is not settled stays while its
        session is open.
        """
        query = (
            select(payments.c.id, payments.c.session, payments.c.number, payments.c.wall_ns, payments.c.state)
            .add_columns(sessions.c.closed_wall_ns)
            .join(sessions, sessions.c.number == payments.c.session)
            .where(payments.c.id > after_id)
            .order_by(payments.c.id)
            .limit(limit)
        )
        self._payments.flush()
        old = [row for row in self._connection.execute(query) if row.wall_ns < before_ns]
        gone = [row for row in old if row.closed_wall_ns is not None or row.state in SETTLED]
        if gone:
            self._connection.execute(delete(payments).where(payments.c.id.in_([row.id for row in gone])))
        for row in gone:
            self._payments.drop(row.session, row.number)
        return len(gone), old[-1].id if old else None

    def _session(self, session_id: str) -> Row:
        row = self._sessions.find(session_id)
        if row is None:
            raise LedgerError(f"session {session_id} is not in the ledger")
        return row


def value_of(payment: Mapping[str, Any]) -> int:
    """The expected value of a payment's tickets, in 1/(2^256 - 1) wei."""
    return int(payment["tickets"] * payment["face_value"] * payment["win_prob"])


def signed_wall_ns(payment: Mapping[str, Any]) -> int:
    """When a payment was signed, in nanoseconds of the wall clock."""
    first = payment["course"].partition("\n")[0].partition(" ")[0]
    return int(payment["wall_ns"]) + int(first[1:]) * 10**6


def day_of(wall_ns: int) -> str:
    """The UTC day of a time, such as 2026-01-31."""
    return f"{datetime.fromtimestamp(wall_ns // 10**9, UTC):%Y-%m-%d}"


def _chance(win_prob: int) -> str:
    """A win probability to two digits: `12e-4` is 0.0012."""
    if not win_prob:
        return "0"
    digits = 0
    while win_prob * 10**digits < 10 * MAX_WIN_PROB:
        digits += 1
    return f"{win_prob * 10**digits // MAX_WIN_PROB}e-{digits}"


def _after_ms(asked: Moment, at: Moment) -> int:
    return max(0, at.monotonic_ns - asked.monotonic_ns) // 10**6
