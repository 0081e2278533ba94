"""Trust in those who are paid: what each address has delivered, its faults, and what it may be given.

Who has not yet delivered a minute of pictures gets few starts at once, so that a thief costs little however
many streams there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from gateway.candidates.outage import Outage
from gateway.candidates.suspension import LONGEST_BACKOFF, ONE_EVENT, Suspension, SuspensionState
from gateway.candidates.trust_rows import merged_row
from gateway.money import whole_wei

PROVEN_AFTER = 60.0
"""Seconds of pictures after which any number of starts may be under way at once."""
LASTED = 10.0
"""Seconds of pictures after which one job doubles the number of starts at once."""
LONGEST_GAP = 1.0
"""Seconds: a longer pause between two pictures counts as this much."""
NOTED_EVERY = 60.0
"""Seconds of pictures of one job between two writes of what it delivered."""
MAX_REASON = 300
"""Characters of a fault's reason that are stored."""
MAX_PUBLISHERS = 100
"""Publishers whose empty starts are told apart at one address, until a picture comes."""
LONGEST_UNPROVEN_BACKOFF = 86400.0
"""Seconds: the longest back-off of who never delivered a picture."""


@dataclass(slots=True)
class Record:
    """What is known of one address that is paid (of an orchestrator's host and port where nobody is)."""

    key: str
    paid: Fraction = Fraction(0)
    """Wei that were credited to it, or may have been."""
    delivered: float = 0.0
    """Seconds of pictures."""
    starts: int = 0
    """Jobs that were begun with a payment."""
    empty_starts: int = 0
    """Those of them that took the payment and showed no picture."""
    lasted: int = 0
    """Jobs that showed pictures for a while, since the last empty start."""
    suspension: SuspensionState = field(default_factory=SuspensionState)
    under_way: int = 0
    """Starts without a picture so far."""
    jobs: int = 0
    """Jobs that are not over."""
    doubted: bool = False
    """Whether no picture has come since its last fault."""
    standing: Standing | None = None
    """How it stood before its last faults."""
    before_empty_start: dict[str, Standing] = field(default_factory=dict)
    """By publisher: how it stood before that one's first empty start since a picture came."""

    @property
    def proven(self) -> bool:
        return self.delivered >= PROVEN_AFTER

    @property
    def allowed(self) -> int | None:
        """How many starts without a picture may be under way at once; None: any number."""
        if self.doubted:
            return 1
        return None if self.proven else 2 ** min(self.lasted, 16)

    @property
    def may_start(self) -> bool:
        return self.allowed is None or self.under_way < self.allowed

    def row(self, wall_ns: int) -> dict[str, Any]:
        """As it is stored. `wall_ns` is now, in Unix nanoseconds."""
        fault = self.suspension.last_fault
        left = 0.0 if fault is None else fault.until - time.monotonic()
        return {
            "address": self.key,
            "paid": self.paid,
            "delivered_ms": round(self.delivered * 1000),
            "starts": self.starts,
            "empty_starts": self.empty_starts,
            "lasted": self.lasted,
            "faults": 0 if fault is None else fault.faults,
            "suspended_until_ns": 0 if fault is None else wall_ns + round(left * 1e9),
            "forgivable": fault is None or fault.forgivable,
            "reason": "" if fault is None else fault.reason.replace("\0", "")[:MAX_REASON],
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], wall_ns: int) -> Record:
        """The record that was stored so."""
        fault = None
        if row["faults"]:
            until = time.monotonic() + (row["suspended_until_ns"] - wall_ns) / 1e9
            fault = Suspension(until, row["reason"], row["faults"], row["forgivable"])
        return cls(
            key=row["address"],
            paid=row["paid"],
            delivered=row["delivered_ms"] / 1000,
            starts=row["starts"],
            empty_starts=row["empty_starts"],
            lasted=row["lasted"],
            suspension=SuspensionState(fault),
            doubted=fault is not None and not fault.forgivable,
        )

    def json(self) -> dict[str, Any]:
        """For operators."""
        return {
            "paid_wei": whole_wei(self.paid),
            "delivered_s": round(self.delivered, 1),
            "starts": self.starts,
            "empty_starts": self.empty_starts,
            "proven": self.proven,
            "starts_at_once": self.allowed,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """What a fault changes in a record, as it was at a time (monotonic seconds)."""

    at: float
    fault: Suspension | None
    empty_starts: int
    lasted: int

    @classmethod
    def of(cls, record: Record, now: float) -> Standing:
        return cls(now, record.suspension.last_fault, record.empty_starts, record.lasted)

    def forgivable(self, now: float) -> bool:
        """Whether it was not suspended then for having taken pay, or no longer would be."""
        return self.fault is None or self.fault.forgivable or self.fault.until <= now

    def restore(self, record: Record) -> None:
        """Have the record's faults since then count for nothing."""
        record.suspension.last_fault = self.fault
        record.empty_starts, record.lasted = self.empty_starts, self.lasted


class Trust:
    """All records, by the address that is paid. `clock` is monotonic seconds.

    `paid_as` is the address that each host and port was last paid under.
    """

    def __init__(
        self,
        records: Iterable[Record] = (),
        paid_as: Mapping[str, str] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = {record.key: record for record in records}
        self._paid_as = dict(paid_as)
        self._first_paid_as: dict[str, str] = {}
        """By host and port, where the address that is paid there has changed since the start."""
        self._clock = clock
        self._outage = Outage()
        self.on_fault: Callable[[str, Suspension], None] = lambda key, suspension: None
        """Called with each new suspension for a fault."""
        self._changed: dict[str, Record] = {}
        self._changed_places: dict[str, str] = {}
        self._has_changed = asyncio.Event()

    def record(self, key: str) -> Record:
        """The record of an address; an empty one where nothing is known."""
        return self._records.get(key) or Record(key)

    def count(self) -> dict[str, int]:
        """How many addresses are proven, new (not proven yet), and passed over for a fault now."""
        now, counts = self._clock(), {"proven": 0, "new": 0, "suspended": 0}
        for record in self._records.values():
            suspended = record.suspension.active(now) is not None
            counts["suspended" if suspended else "proven" if record.proven else "new"] += 1
        return counts

    def begin(self, key: str) -> TrackedJob:
        """Count a start at this address; to be told what comes of it."""
        now = self._clock()
        if self._outage.includes(key, now):
            self._outage.try_again(now)
        return TrackedJob(self, self._records.setdefault(key, Record(key)), self._clock)

    def why_wait(self, key: str) -> str:
        """Why no start may begin at this address now; empty where one may."""
        record, now = self.record(key), self._clock()
        if not record.may_start:
            return f"{record.under_way} starts there wait for their first picture, as many as it may have"
        if self._outage.includes(key, now) and (seconds := self._outage.seconds_to_try(now)):
            return f"all pictures stopped at once; one start tries it again in {seconds:.1f} s"
        return ""

    def paid_as(self, place: str) -> str | None:
        """The address that was last paid at this host and port; None where nobody was."""
        return self._paid_as.get(place)

    def payee(self, place: str, address: str) -> str:
        """What the one at this host and port is known by, who asks to be paid at this address.

        Who changes the address keeps its record: it is not new again after each start.
        """
        former = self._paid_as.get(place)
        if former is None or not address:
            return address
        return self._first_paid_as.get(place, former)

    def pays(self, place: str, address: str) -> None:
        """This address is about to be paid at this host and port."""
        former = self._paid_as.get(place)
        if former != address:
            if former is not None:
                self._first_paid_as.setdefault(place, former)
            self._paid_as[place] = self._changed_places[place] = address
            self._has_changed.set()

    def suspension(self, key: str) -> Suspension | None:
        """The fault for which it is passed over now, forgivable where an outage may be the cause."""
        record, now = self.record(key), self._clock()
        held = record.suspension.active(now)
        if held is None or held.forgivable or not self._outage.includes(key, now):
            return held
        excused = record.standing is not None and record.standing.forgivable(now)
        return replace(held, forgivable=excused)

    def fault(self, key: str, reason: str, *, took_pay: bool, publisher: str = "") -> Suspension:
        """Suspend it for a fault; `took_pay` says that it was paid and showed nothing of this publisher's.

        In an outage an empty start adds nothing to the suspension of who has just stopped, and to that of
        others who have shown pictures no more than once.
        """
        record, now = self._records.setdefault(key, Record(key)), self._clock()
        known = record.delivered > 0
        before = record.standing
        if before is None or (now - before.at > ONE_EVENT and not self._outage.includes(key, now)):
            record.standing = Standing.of(record, now)
        if not took_pay and not known:
            self._outage.left(key)
        elif not took_pay and self._outage.shows(key):
            self._outage.stopped(key, now)
        last = record.suspension.last_fault
        record.doubted = True
        if took_pay:
            if len(record.before_empty_start) < MAX_PUBLISHERS:
                record.before_empty_start.setdefault(publisher, Standing.of(record, now))
            record.empty_starts += 1
            record.lasted = 0
            if known and last is not None and now < last.until and self._outage.covers(key, last.since, now):
                self.note(record)
                return last
        longest = LONGEST_BACKOFF if record.delivered else LONGEST_UNPROVEN_BACKOFF
        suspension = record.suspension.fault(reason, now, took_pay=took_pay, longest=longest)
        self.note(record)
        if suspension is not last:
            self.on_fault(key, suspension)
        return suspension

    def shown(self, record: Record) -> None:
        """A picture came from there."""
        for key in self._outage.picture(record.key, self._clock()):
            excused = self.record(key)
            if excused.standing is not None:
                excused.standing.restore(excused)
                excused.standing, excused.doubted = None, False
                self.note(excused)
        record.doubted = False
        record.before_empty_start.clear()

    def over(self, record: Record) -> None:
        """A job there is over."""
        record.jobs -= 1
        if not record.jobs:
            self._outage.left(record.key)

    def forgive(self, key: str, publisher: str) -> None:
        """Take back its empty starts for this publisher, whom others could not show either.

        Not where another publisher's start failed there too.
        """
        record = self.record(key)
        if set(record.before_empty_start) == {publisher}:
            record.before_empty_start[publisher].restore(record)
            self.note(record)

    def failed_for(self, key: str, publisher: str) -> bool:
        """Whether the last start there for this publisher was empty, and no picture has come since."""
        return publisher in self.record(key).before_empty_start

    def learn(self, known: Mapping[str, Any], row: Mapping[str, Any], wall_ns: int) -> None:
        """Other nodes have made of a stored record, as it was `known` here, this `row`. `wall_ns` is now."""
        record = self._records.setdefault(row["address"], Record(row["address"]))
        merged = merged_row(known, record.row(wall_ns), row)
        if merged["faults"] != record.row(wall_ns)["faults"]:
            stored = Record.from_row(merged, wall_ns)
            record.suspension, record.doubted = stored.suspension, stored.doubted
        record.paid = merged["paid"]
        record.delivered += (row["delivered_ms"] - known["delivered_ms"]) / 1000
        record.starts, record.empty_starts = merged["starts"], merged["empty_starts"]
        record.lasted = merged["lasted"]

    def note(self, record: Record) -> None:
        """The record has changed: it is to be written down."""
        self._changed[record.key] = record
        self._has_changed.set()

    def not_written(self, records: Iterable[Record], places: Mapping[str, str]) -> None:
        """These could not be written down: they count as changed again."""
        self._changed = {record.key: record for record in records} | self._changed
        self._changed_places = {**places, **self._changed_places}
        self._has_changed.set()

    async def wait_changed(self) -> None:
        """Wait until there are records to write down."""
        await self._has_changed.wait()

    def take_changed(self) -> tuple[list[Record], dict[str, str]]:
        """What has changed since this was last called: records, and addresses by host and port."""
        changed = list(self._changed.values()), dict(self._changed_places)
        self._changed.clear()
        self._changed_places.clear()
        self._has_changed.clear()
        return changed


class TrackedJob:
    """One job's start and its pictures."""

    def __init__(self, trust: Trust, record: Record, clock: Callable[[], float]) -> None:
        self._trust = trust
        self._record = record
        self._clock = clock
        self._last_picture: float | None = None
        self._delivered = 0.0
        self._waits = True
        record.under_way += 1
        record.jobs += 1

    def goes_on(self) -> None:
        """It is no start: the job has run since a former run of the gateway."""
        self._began()

    def paid(self) -> None:
        """A first payment goes out for it."""
        self._record.starts += 1
        self._trust.note(self._record)

    def picture(self) -> None:
        """A picture came back."""
        now = self._clock()
        gap = 0.0 if self._last_picture is None else min(now - self._last_picture, LONGEST_GAP)
        self._last_picture = now
        self._began()
        self._trust.shown(self._record)
        lasts = self._delivered < LASTED <= self._delivered + gap
        self._record.lasted += lasts
        if lasts or (self._delivered + gap) // NOTED_EVERY > self._delivered // NOTED_EVERY:
            self._trust.note(self._record)
        self._delivered += gap
        self._record.delivered += gap

    def end(self, paid: Fraction) -> None:
        """The job is over, and was paid so many wei in all; to be called once."""
        self._began()
        self._trust.over(self._record)
        if paid or self._delivered:
            self._record.paid += paid
            self._trust.note(self._record)

    def _began(self) -> None:
        if self._waits:
            self._waits = False
            self._record.under_way -= 1
