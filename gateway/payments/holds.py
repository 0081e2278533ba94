"""What the nodes of a cluster hold of the limits that they share, in the ledger's database (PostgreSQL).

Who asks for a payment waits for everybody's turn, counts what was signed and what others hold, and holds the
most that the payment may cost: in the transaction that writes the question down. The signing replaces it by
the payment's value. What is held and never signed is free after its time.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, Select, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from gateway.payments.schema import holds, minutes
from gateway.payments.shared_limits import Counted, HoldRequest, refusal
from gateway.payments.spending import DAY, HOUR, NOBODY, PublisherBudget, SpendLimitReached, SpendLimits
from gateway.payments.timebase import NANOSECONDS

LOCK = 0x6C697665_686F6C64
"""Key of the advisory lock for counting: "livehold" in ASCII."""
HELD_NS = 120 * NANOSECONDS
"""For so long a hold counts whose payment was not signed: more than a signer's answer may take."""
WINDOW_NS = 60 * NANOSECONDS
"""In which paid starts are counted."""
MINUTE = 60 * NANOSECONDS
SKEW = 1
"""Minutes that are counted beyond a window, for the nodes' clocks may differ by less."""


class Holds:
    """`begin`, then the rest within the transaction. Times are nanoseconds of the wall clock."""

    def __init__(self) -> None:
        self._locked = False
        self._known: dict[tuple[SpendLimits, PublisherBudget], Counted] = {}
        """What counts at most, by what it counts for: nobody else adds to it before the transaction ends."""

    def begin(self, connection: Connection) -> None:
        self._connection = connection
        self._locked = False
        self.forget()

    def lock(self) -> None:
        """Wait for the others' transactions that count, and have later ones wait for this one's end."""
        if not self._locked:
            self._connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
            self._locked = True

    def forget(self) -> None:
        """Something is about to count that was not asked for with `request`."""
        self._known.clear()

    def request(
        self, session: int, number: int, request: HoldRequest, now_ns: int
    ) -> SpendLimitReached | None:
        """Hold the most that payment `number` of a session may cost; gives the refusal, where there is one.

        After `lock`.
        """
        refused = self._refusal(session, request, request.units, now_ns, starts=number == 1)
        if refused is None:
            row = {
                "session": session,
                "publisher": request.budget.publisher,
                "request_id": request.request_id,
                "value": request.units,
                "until_ns": now_ns + HELD_NS,
                "started_ns": now_ns if number == 1 else None,
            }
            self._write(row)
            self._add(request, starts=number == 1)
        return refused

    def held(self, session: int, now_ns: int) -> int:
        """What is held for a session and not free yet, in 1/(2^256 - 1) wei."""
        query = select(holds.c.value).where(holds.c.session == session, holds.c.until_ns > now_ns)
        return self._connection.execute(query).scalar() or 0

    def excess(self, session: int, request: HoldRequest, units: int, now_ns: int) -> SpendLimitReached | None:
        """A payment was signed that is worth more than is held: gives the refusal, where there is one.

        After `lock`, and before `minutes` counts it.
        """
        self.forget()
        refused = self._refusal(session, request, units, now_ns, starts=False)
        self.forget()
        return refused

    def release(self, session: int, *, unpaid: bool = False) -> None:
        """Nothing is held for a session any more. `unpaid`: its start counts for nothing either."""
        values: dict[str, Any] = {"value": 0}
        if unpaid:
            values["started_ns"] = None
        self._connection.execute(update(holds).where(holds.c.session == session).values(values))

    def move(self, session: int, request: HoldRequest, units: int, now_ns: int) -> SpendLimitReached | None:
        """A first payment that is worth `units` serves another publish: its start counts there.

        Gives the refusal. After `lock`, and before `minutes` counts it there.
        """
        self.forget()
        refused = self._refusal(session, request, units, now_ns, starts=True)
        self.forget()
        if refused is None:
            row = {
                "session": session,
                "publisher": request.budget.publisher,
                "request_id": request.request_id,
                "value": 0,
                "until_ns": now_ns + HELD_NS,
                "started_ns": now_ns,
            }
            self._write(row)
        return refused

    def _write(self, row: dict[str, Any]) -> None:
        added = insert(holds).values(row)
        given = {name: added.excluded[name] for name in row if name not in ("session", "started_ns")}
        started = func.coalesce(added.excluded.started_ns, holds.c.started_ns)
        self._connection.execute(
            added.on_conflict_do_update(index_elements=["session"], set_={**given, "started_ns": started})
        )

    def _refusal(
        self, session: int, request: HoldRequest, units: int, now_ns: int, *, starts: bool
    ) -> SpendLimitReached | None:
        """Counts once for all questions of a transaction, and again before one is refused."""
        asked = _limited(request, starts=starts)
        key = asked.limits, asked.budget
        known = self._known.get(key)
        if known is not None and refusal(asked, known, units, starts=starts) is None:
            return None
        row = self._connection.execute(_counted(session, asked, now_ns)).mappings().one()
        counted = Counted(**row)
        refused = refusal(asked, counted, units, starts=starts)
        if refused is None:  # else the session keeps what it held, which `counted` is without
            self._known[key] = counted
        return refused

    def _add(self, request: HoldRequest, *, starts: bool) -> None:
        """What was held now counts for the questions that follow, whichever session's it is."""
        for key, known in self._known.items():
            same = key[1].publisher == request.budget.publisher
            of_publisher = request.units if same else 0
            self._known[key] = Counted(
                hour=known.hour + request.units,
                day=known.day + request.units,
                publisher_hour=known.publisher_hour + of_publisher,
                publisher_day=known.publisher_day + of_publisher,
                starts=known.starts + (starts and same),
            )


def _limited(request: HoldRequest, *, starts: bool) -> HoldRequest:
    """The same without what does not limit it: many publishers' questions are then one."""
    budget = request.budget if starts else replace(request.budget, starts=None)
    limits = budget.hour, budget.day, budget.starts
    return replace(request, budget=NOBODY if limits == (None, None, None) else budget)


def started_within_a_minute(publisher: str, now_ns: int) -> Select[Any]:
    """When each publish of a publisher asked for its first payment: `request_id` and `started_ns`."""
    since = holds.c.started_ns > now_ns - WINDOW_NS
    started = select(holds.c.request_id, func.max(holds.c.started_ns).label("started_ns"))
    return started.where(holds.c.publisher == publisher, since).group_by(holds.c.request_id)


def _counted(session: int, request: HoldRequest, now_ns: int) -> Select[Any]:
    """One statement, so that nothing is missed which another transaction moves from `holds` to `minutes`."""
    publisher = request.budget.publisher
    of_publisher = minutes.c.publisher == publisher
    limits = {
        "hour": (request.limits.hour, HOUR, None),
        "day": (request.limits.day, DAY, None),
        "publisher_hour": (request.budget.hour, HOUR, of_publisher),
        "publisher_day": (request.budget.day, DAY, of_publisher),
    }
    live = holds.c.until_ns > now_ns, holds.c.session != session
    sums: dict[str, Any] = {one.name: literal(0) for one in fields(Counted)}
    for name, (limit, window, condition) in limits.items():
        if limit is None:
            continue
        since = now_ns // MINUTE - window - SKEW
        signed = select(func.coalesce(func.sum(minutes.c.value), 0)).where(minutes.c.minute >= since)
        held = select(func.coalesce(func.sum(holds.c.value), 0)).where(*live)
        if condition is not None:
            signed, held = signed.where(condition), held.where(holds.c.publisher == publisher)
        sums[name] = signed.scalar_subquery() + held.scalar_subquery()
    if request.budget.starts is not None:
        others = holds.c.publisher == publisher, holds.c.request_id != request.request_id
        recent = holds.c.started_ns > now_ns - WINDOW_NS
        count = select(func.count(holds.c.request_id.distinct())).where(*others, recent)
        sums["starts"] = count.scalar_subquery()
    return select(*(value.label(name) for name, value in sums.items()))
