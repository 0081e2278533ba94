"""Changes the ledger's rows within a transaction: a payment, and the sums that it counts in.

Methods take what a line says; one that cannot be right raises LedgerError before anything is changed. What
else has to be written in the transaction of a line goes through `execute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Executable, delete, func, insert, select, update

from gateway.payments.errors import LedgerError, SessionTakenOver
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
from gateway.payments.session_key import FIRST_EPOCH, epoch_of
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.spending import SpendLimitReached, SpendLimits
from gateway.payments.steps import FOLLOWING, OUTCOMES, SETTLED, CourseStep, Step, append, clean
from gateway.payments.table_cache import Row, TableCache
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.timebase import Moment
from gateway.reason import EndReason

if TYPE_CHECKING:
    from gateway.payments.holds import Holds
    from gateway.payments.shared_sums import SharedSums

MINUTE = 60 * 10**9

T = TypeVar("T")


class Books:
    """`begin`, then the lines of one transaction, then `flush`; `forget` after one that failed.

    With `node`, the nodes of a cluster write to the database, and this one is called so.
    """

    def __init__(self, node: str | None = None) -> None:
        self._node = node or ""
        self._sessions = TableCache(sessions, "id")
        self._payments = TableCache(payments, "session", "number")
        self._days = TableCache(session_days, "session", "day")
        self._jobs = TableCache(saved_jobs, "session")
        self._details = TableCache(saved_details, "session")
        self._of_sessions = self._payments, self._days, self._jobs, self._details
        self._minutes: TableCache | SharedSums
        self._draws: TableCache | SharedSums
        self._holds: Holds | None = None
        if node is None:
            self._minutes = TableCache(minutes, "minute", "publisher")
            self._draws = TableCache(draws, "day", "recipient", "chance")
        else:
            self._holds, self._minutes, self._draws = _shared()
        self._tables = self._sessions, *self._of_sessions, self._minutes, self._draws
        self._last: list[Callable[[Connection], Any]] = []
        self._locked: set[str] = set()

    def begin(self, connection: Connection, session_ids: Iterable[str] = ()) -> None:
        """The transaction's lines are of these sessions: nobody else changes them until its end."""
        self._connection = connection
        for table in self._tables:
            table.begin(connection)
        self._locked = set()
        if self._holds is not None:
            self._holds.begin(connection)
            self._lock(session_ids)

    def flush(self) -> None:
        for table in self._tables:
            table.flush()
        last, self._last = self._last, []
        for work in last:
            work(self._connection)

    def forget(self) -> None:
        self._last = []
        for table in self._tables:
            table.forget()

    def execute(self, *statements: Executable) -> None:
        """Run statements on other tables."""
        for statement in statements:
            self._connection.execute(statement)

    def execute_last(self, *statements: Executable) -> None:
        """Run statements on other tables after all lines: rows are locked in one order at all nodes."""
        self.do_last(lambda connection: [connection.execute(statement) for statement in statements])

    def do_last(self, work: Callable[[Connection], Any]) -> None:
        """Have `work` read and write other tables after all lines."""
        self._last.append(work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads, with all that the lines so far have changed."""
        self.flush()
        return work(self._connection)

    def alone(self, key: int) -> bool:
        """Whether this transaction may do what one node does at a time, by the key of an advisory lock."""
        if self._holds is None:
            return True
        return bool(self._connection.execute(select(func.pg_try_advisory_xact_lock(key))).scalar())

    def _lock(self, session_ids: Iterable[str]) -> None:
        """Lock sessions in one order at all nodes, and forget what is known of those that others wrote to."""
        ids = sorted({*session_ids} - self._locked)
        if not ids:
            return
        self._locked.update(ids)
        query = select(sessions.c.id, sessions.c.number, sessions.c.epoch).where(sessions.c.id.in_(ids))
        locked = query.order_by(sessions.c.id).with_for_update(key_share=True)
        for session_id, number, epoch in self._connection.execute(locked):
            kept = self._sessions.kept(session_id)
            if kept is not None and kept["epoch"] != epoch:
                self._sessions.drop(session_id)
                for table in self._of_sessions:
                    table.drop_of(number)

    # lines

    def open_session(self, row: Row) -> None:
        """Add a session; `row` has all that is known of it but its number."""
        row = {**row, "node": self._node, "epoch": FIRST_EPOCH}
        returning = insert(sessions).values(row).returning(sessions.c.number)
        number = self._connection.execute(returning).scalar_one()
        unknown = dict.fromkeys(column.name for column in sessions.columns)
        self._sessions.keep({**unknown, **row, "number": number})
        self._locked.add(row["id"])

    def take_all(self) -> None:
        """This run goes on with the sessions that are open: no former run may write to them any more.

        A node takes its own, and those of a gateway that had no name.
        """
        own = update(sessions).where(sessions.c.closed_wall_ns.is_(None))
        if self._holds is not None:
            own = own.where(sessions.c.node.in_([self._node, ""]))
        self.execute(own.values(epoch=sessions.c.epoch + 1, node=self._node))

    def take_over(self, session_id: str) -> int:
        """This node goes on with a session whose job is kept, and nobody else may write to it any more.

        Gives the session's number.
        """
        session = self._session(session_id)
        if session["closed_wall_ns"] is not None or self._jobs.find(session["number"]) is None:
            raise LedgerError(f"session {session_id} cannot be gone on with")
        self._sessions.change(session_id, node=self._node, epoch=session["epoch"] + 1)
        return int(session["number"])

    def move(
        self, session_id: str, values: Row, request: HoldRequest | None = None, at: Moment | None = None
    ) -> SpendLimitReached | None:
        """A session whose job has not started serves another stream, and counts for that one's publisher.

        `values` are the columns that say so. The minute that its payment counts in stays that of the signing.
        `request` is what the payment has to fit into there; gives the refusal, where there is one.
        """
        session = self._session(session_id)
        if (session["asked_number"] or 0) > 1:
            raise LedgerError(f"session {session_id} has paid for a job: it cannot serve another")
        former = session["publisher"]
        payment = self._payments.find(session["number"], 1)
        value = 0 if payment is None or payment["state"] == Step.WITHHELD else value_of(payment)
        if self._holds is not None and request is not None and at is not None:
            same = values["publisher"] == former
            budget = replace(request.budget, hour=None, day=None) if same else request.budget
            own = replace(request, limits=SpendLimits(), budget=budget)  # the sums over all stay as they are
            self._lock_sums()
            refused = self._holds.move(session["number"], own, value, at.wall_ns)
            if refused is not None:
                return refused
        self._sessions.change(session_id, **values)
        if payment is None or not value:
            return None
        minute = signed_wall_ns(payment) // MINUTE
        if self._minutes.has(minute, former):
            self._minutes.increase(minute, former, value=-value)
            self._minutes.increase(minute, session["publisher"], value=value)
        return None

    def ask(
        self, session_id: str, number: int, at: Moment, request: HoldRequest | None = None
    ) -> SpendLimitReached | None:
        """The signer is about to be called for a payment, which has to fit into what is requested.

        Gives the refusal, where there is one: then nothing is written, and the signer is not to be called.
        """
        session = self._session(session_id)
        if self._holds is not None and request is not None:
            self._lock_sums()
            refused = self._holds.request(session["number"], number, request, at.wall_ns)
            if refused is not None:
                return refused
        self._sessions.change(
            session_id, asked_number=number, asked_wall_ns=at.wall_ns, asked_monotonic_ns=at.monotonic_ns
        )
        return None

    def release(self, session_id: str, number: int) -> None:
        """The call to the signer gave no payment: nothing is held for it any more."""
        session = self._session(session_id)
        if self._holds is not None:
            self._holds.release(session["number"], unpaid=number == 1)

    def sign(
        self,
        session_id: str,
        number: int,
        row: Row,
        *,
        manifest_id: str,
        at: Moment,
        request: HoldRequest | None = None,
    ) -> SpendLimitReached | None:
        """The signer made a payment, `row`: its tickets and its price.

        Gives the refusal where it is worth more than was held, and does not fit into what was requested: then
        it is withheld.
        """
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
        value, signed_ns = value_of(payment), signed_wall_ns(payment)
        refused = None
        if self._holds is not None:
            self._holds.forget()
        if self._holds is not None and request is not None:
            if value > self._holds.held(session["number"], at.wall_ns):
                self._lock_sums()
                refused = self._holds.excess(session["number"], request, value, at.wall_ns)
            self._holds.release(session["number"])
        self._payments.add(payment)
        self._days.increase(
            session["number"], day_of(signed_ns), payments=1, tickets=payment["tickets"], unspent=value
        )
        self._minutes.increase(signed_ns // MINUTE, session["publisher"], value=value)
        if refused is not None:
            self.step(session_id, number, Step.WITHHELD, str(refused), at)
        return refused

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
            if self._minutes.has(*minute):
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

    def forget_job(self, session_id: str) -> None:
        """Nobody is to go on with a session's job, from now on."""
        session = self._session(session_id)["number"]
        for cache, table in ((self._jobs, saved_jobs), (self._details, saved_details)):
            if cache.find(session) is not None:
                cache.flush()
                self.execute(delete(table).where(table.c.session == session))
                cache.drop(session)

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
        if self._holds is not None:
            self._holds.release(session["number"])
        self.forget_job(session_id)

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
        if self._holds is not None:
            self._lock([session_id])
        row = self._sessions.find(session_id)
        if row is None:
            raise LedgerError(f"session {session_id} is not in the ledger")
        if row["epoch"] != epoch_of(session_id):
            raise SessionTakenOver(f"another run or node of the gateway goes on with session {session_id}")
        return row

    def _lock_sums(self) -> None:
        """What all nodes have signed and held may be counted: nobody else counts until the end."""
        assert self._holds is not None
        self._holds.lock()
        self._minutes.flush()


def _shared() -> tuple[Holds, SharedSums, SharedSums]:
    """Imported where it is used: what it needs of SQLAlchemy takes a tenth of a second."""
    from gateway.payments.holds import Holds
    from gateway.payments.shared_sums import SharedSums

    by_minute = SharedSums(minutes, "minute", "publisher")
    return Holds(), by_minute, SharedSums(draws, "day", "recipient", "chance")


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
