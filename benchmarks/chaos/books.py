"""Compares the ledger's payments with what each orchestrator process was credited in its lifetime."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Container, Iterable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from gateway.payments.steps import Step, read_course
from gateway.payments.ticket import MAX_WIN_PROB

BACKOFF = 30.0
"""Seconds for which an orchestrator is left after its first fault, twice as long after each further one."""
PAYMENTS = """
SELECT lower(s.orchestrator_address), p.tickets, p.face_value, p.win_prob, p.state, p.wall_ns,
  p.course, s.closed_wall_ns
FROM payments p JOIN sessions s ON s.number = p.session
"""
"""What `entry_of` takes."""
CLEAN = ("rejected", "duplicate_nonces", "stale_params")


@dataclass(frozen=True)
class Entry:
    """One payment. Times are the wall clock's nanoseconds, None for what never was."""

    address: str
    """The orchestrator's, in lower case."""
    value: Fraction
    """Wei."""
    delivered: int | None
    """When it was handed to the orchestrator first."""
    credited: int | None
    refused: bool
    unknown: bool
    """Whether the ledger says that it may have been credited, whatever another process said to it later."""
    closed: bool
    """Whether its session was closed."""

    @property
    def explained(self) -> bool:
        """Credited, refused or handed out; or of a session that ended before it could be."""
        return self.closed or self.refused or self.unknown or self.delivered is not None


@dataclass(frozen=True)
class Life:
    """A process's audit: what it was credited since it `began`, asked for and answered at these times."""

    address: str
    began: int
    asked: int
    answered: int
    audit: dict[str, Any]


def read(ledger: Path) -> list[Entry]:
    """Every payment of a ledger."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        return [entry_of(*row) for row in connection.execute(PAYMENTS)]


def entry_of(
    address: str,
    tickets: int,
    face: bytes,
    chance: bytes,
    state: str,
    asked: int,
    course: str,
    closed: int | None,
) -> Entry:
    at = {one.step: asked + one.after_ms * 10**6 for one in reversed(read_course(course))}
    value = Fraction(tickets * int.from_bytes(face) * int.from_bytes(chance), MAX_WIN_PROB)
    return Entry(
        address,
        value,
        delivered=at.get(Step.DELIVERED),
        credited=at.get(Step.CREDITED),
        refused=state in (Step.REFUSED, Step.HANDED_OUT, Step.WITHHELD),
        unknown=Step.UNKNOWN in at,
        closed=closed is not None,
    )


def unexplained(entries: Iterable[Entry], lives: Iterable[Life]) -> int:
    """Wei that the ledger and the audits do not agree on."""
    entries = list(entries)
    return int(_sum(entries, lambda entry: not entry.explained)) + sum(
        _unexplained_in(life, [entry for entry in entries if entry.address == life.address.lower()])
        for life in lives
    )


def _unexplained_in(life: Life, entries: list[Entry]) -> int:
    """What only one of the two has: credited by the ledger, or by the process."""
    has = int(life.audit["credited_wei"])

    def certain(entry: Entry) -> bool:
        delivered, credited = entry.delivered or 0, entry.credited
        return credited is not None and life.began <= delivered and credited <= life.asked

    def possible(entry: Entry) -> bool:
        there = entry.delivered is not None and life.began <= entry.delivered <= life.answered
        return there and (entry.credited is not None or entry.unknown or not entry.refused)

    at_least, at_most = int(_sum(entries, certain)), int(_sum(entries, possible))
    return max(0, at_least - has) + max(0, has - at_most)


def who_showed_pictures(ledger: Path) -> set[str]:
    """The addresses from which a picture came, in lower case."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT lower(address) FROM orchestrators WHERE delivered_ms > 0")
        return {address for (address,) in rows}


def stolen(entries: Iterable[Entry], honest: Container[str]) -> Fraction:
    """Wei that were handed to all others than these addresses."""
    return _sum(entries, lambda entry: entry.address not in honest and entry.delivered is not None)


def most_stolen(thieves: int, seconds: float, *, start: float) -> float:
    """Seconds of stream that so many cheats from which no picture comes get at most in a run.

    Each has one start at a time, of `start` seconds of stream, then as many more as back-offs fit into the
    run: 30 s, 60 s, 120 s ..
    """
    return thieves * (1 + math.floor(math.log2(1 + seconds / BACKOFF))) * start


def _sum(entries: Iterable[Entry], of: Callable[[Entry], bool]) -> Fraction:
    return sum((entry.value for entry in entries if of(entry)), Fraction(0))


def handed_out_again(entries: Iterable[Entry], address: str) -> int:
    """First payments without an answer that the next process there was handed again, and refused."""
    return sum(entry.refused and entry.unknown and entry.address == address.lower() for entry in entries)


def faults_in(audit: dict[str, Any], handed_out_again: int = 0, *, debt: int = 0) -> dict[str, int]:
    """What is wrong in an orchestrator's audit, but that it refused what a former process was handed.

    `debt` is the wei that a session may owe when it ends for want of credit.
    """
    wrong = {name: audit[name] for name in CLEAN if audit[name]}
    if wrong.get("rejected", 0) <= handed_out_again:
        wrong.pop("rejected", None)
    if int(audit["min_balance_wei"]) < -debt:
        wrong["min_balance_wei"] = int(audit["min_balance_wei"])
    return wrong
