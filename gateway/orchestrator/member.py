"""One orchestrator of the pool: its last answer, its suspension, and when it is asked again."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

from gateway.candidates.suspension import SuspensionState
from gateway.candidates.verdict import Verdict
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.errors import NoCapacity, OrchestratorError, Unreachable
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import OrchestratorCandidate, judge, verdict_of

RETRY_FIRST = 1.0
RETRY_WHILE_NOBODY = 4.0
"""Seconds to the next call after a failure: doubled each time, or at most this where none is usable."""
CAPACITY_RETRY = 15.0
TOKEN_RESERVE = 180.0
"""Seconds: a signer asks for a new auth token in the last 3 minutes of a token's life."""
SHORTEST_REFRESH = 2.0


class Member:
    """All that the pool holds for one orchestrator. Times are monotonic seconds; `wall` is unix time."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.suspension = SuspensionState()
        self.ask_now = asyncio.Event()
        """Set to have it asked before its pause is over."""
        self.keeper: asyncio.Task[None] | None = None
        """The task that asks it; the pool starts and cancels it."""
        self.info: OrchestratorInfo | None = None
        self.error: OrchestratorError | None = None
        """What the newest call failed with; None after an answer."""
        self.failures = 0
        self.fetched_at: float | None = None
        self.rtt: float | None = None
        self._unused = False
        self._valid_for = 0.0

    def answered(self, info: OrchestratorInfo, *, asked_at: float, now: float, wall: float) -> None:
        """Take over an answer. The first round trip includes the handshakes."""
        self.info, self.error, self.failures = info, None, 0
        self.fetched_at, self.rtt = now, now - asked_at
        self._unused = True
        expires_at = info.token_expires_at
        left = float("inf") if expires_at is None else expires_at - wall - TOKEN_RESERVE
        # A new token that looks expired means that clocks differ: then its age is ignored.
        self._valid_for = left if left > 0 else float("inf")

    def failed(self, error: OrchestratorError) -> None:
        """Note a failure: the former info still tells the price, but is given to no job."""
        self.error, self._unused = error, False
        self.failures += 1

    def require_answer(self, why: str) -> None:
        """Make it unusable until it answers again, because of a fault outside of these calls."""
        if self.error is None:
            self.error, self._unused = Unreachable(f"asked again, after: {why}"), False

    @property
    def full(self) -> bool:
        """Whether its last answer was that it has no capacity."""
        return isinstance(self.error, NoCapacity)

    def room_again(self) -> None:
        """Forget that it had no capacity, as a job there is over; it is asked before the next job."""
        self.suspension.room_again()
        if self.full:
            self.error, self.failures = None, 0
            self.ask_now.set()

    def use(self, now: float, max_age: float) -> OrchestratorInfo | None:
        """The fetched info, given out once, for one job; None where there is none or it is too old."""
        if self.info is None or self.fetched_at is None or not self._unused:
            return None
        if now - self.fetched_at >= min(max_age, self._valid_for):
            return None
        self._unused = False
        return self.info

    def give_back(self, info: OrchestratorInfo) -> None:
        """No job has used it after all: the next one may, where no newer answer came meanwhile."""
        self._unused = self._unused or (info is self.info and self.error is None)

    def pause(self, interval: float, anybody_usable: bool) -> float:
        """Seconds until the next call; `interval` where nothing is wrong."""
        if self.error is not None:
            longest = CAPACITY_RETRY if self.full else interval
            longest = longest if anybody_usable else RETRY_WHILE_NOBODY
            return min(RETRY_FIRST * 2.0 ** min(self.failures - 1, 16), longest, interval)
        # An unused info must not get so old that the signer would ask for a refresh.
        return max(SHORTEST_REFRESH, min(interval, self._valid_for / 2))

    def candidate(self, model: str, ceiling: Fraction | None) -> OrchestratorCandidate:
        """This orchestrator as a candidate for a stream with `model`."""
        addr, info = self.listing.addr, self.info
        candidate = OrchestratorCandidate(addr, addr if "://" in addr else f"https://{addr}", rtt=self.rtt)
        if info is not None:
            candidate.url, candidate.address = info.url, info.address
            candidate.price, candidate.ticket_ev = info.price, info.ticket_ev
            candidate.warm = info.warm(model)
        if self.error is not None:
            candidate.verdict, candidate.detail = verdict_of(self.error), self.error.detail
        elif info is None:
            candidate.verdict, candidate.detail = Verdict.UNREACHABLE, "it has not answered yet"
        else:
            candidate.verdict, candidate.detail = judge(info, model, ceiling)
        return candidate

    def json(self, candidate: OrchestratorCandidate, now: float) -> dict[str, Any]:
        """Its entry in `GET /orchestrators`."""
        suspension = self.suspension.active(now)
        return {
            **candidate.json(),
            "addr": self.listing.addr,
            "address": candidate.address,
            "warm": candidate.warm,
            "rtt_ms": None if self.rtt is None else round(self.rtt * 1000, 1),
            "age_s": None if self.fetched_at is None else round(now - self.fetched_at, 1),
            "set_aside": None if suspension is None else suspension.json(now),
        }
