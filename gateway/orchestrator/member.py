"""One orchestrator of the pool: its last answer, its suspension, and when it is asked again."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

from gateway.candidates.suspension import Suspension, SuspensionState
from gateway.candidates.verdict import Verdict
from gateway.money import whole_wei
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
        self.skip = SuspensionState()
        """For what is this node's alone, whomever it says is to be paid: want of room, floods."""
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
        self._jobs: dict[object, float | None] = {}
        """Our jobs that the newest answer may not count yet: when each began, None before."""

    def answered(self, info: OrchestratorInfo, *, asked_at: float, now: float, wall: float) -> None:
        """Take over an answer. The first round trip includes the handshakes."""
        self.info, self.error, self.failures = info, None, 0
        self.fetched_at, self.rtt = now, now - asked_at
        self._unused = True
        self._jobs = {job: at for job, at in self._jobs.items() if at is None or at >= asked_at}
        expires_at = info.token_expires_at
        left = float("inf") if expires_at is None else expires_at - wall - TOKEN_RESERVE
        # A new token that looks expired means that clocks differ: then its age is ignored.
        self._valid_for = left if left > 0 else float("inf")

    def failed(self, error: OrchestratorError) -> None:
        """Note a failure: the former info still tells the price, but is given to no job."""
        self.error, self._unused = error, False
        self.failures += 1

    def flooded(self, why: str, now: float) -> None:
        """It sent more than is taken: suspend this node, whomever it says is to be paid."""
        self.skip.fault(why, now)
        self.require_answer(why)
        self.ask_now.set()

    def require_answer(self, why: str) -> None:
        """Make it unusable until it answers again, because of a fault outside of these calls."""
        if self.error is None:
            self.error, self._unused = Unreachable(f"asked again, after: {why}"), False

    def job_opened(self, job: object) -> None:
        """A job of ours is about to start there."""
        self._jobs[job] = None

    def job_began(self, job: object, now: float) -> None:
        """It has started: an answer that is asked for from now on counts it."""
        if job in self._jobs:
            self._jobs[job] = now
        self.ask_now.set()

    def job_over(self, job: object) -> None:
        """It has ended, or did not start."""
        self._jobs.pop(job, None)

    def room(self, model: str) -> int | None:
        """For how many more jobs it has room, those of ours taken off; None where it does not say."""
        room = None if self.info is None else self.info.room(model)
        return None if room is None else max(0, room - len(self._jobs))

    @property
    def full(self) -> bool:
        """Whether its last answer was that it has no capacity."""
        return isinstance(self.error, NoCapacity)

    def room_again(self) -> None:
        """Forget that it had no capacity, as a job there is over; it is asked before the next job."""
        self.skip.room_again()
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

    def age(self, now: float) -> float:
        """Seconds since its last answer."""
        return float("inf") if self.fetched_at is None else now - self.fetched_at

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
            candidate.url, candidate.address, candidate.recipient = info.url, info.address, info.recipient
            candidate.price, candidate.ticket_ev = info.price, info.ticket_ev
            candidate.warm = info.warm(model)
        if self.error is not None:
            candidate.verdict, candidate.detail = verdict_of(self.error), self.error.detail
        elif info is None:
            candidate.verdict, candidate.detail = Verdict.UNREACHABLE, "it has not answered yet"
        else:
            candidate.verdict, candidate.detail = judge(info, model, ceiling)
        return candidate

    def json(
        self, candidate: OrchestratorCandidate, suspension: Suspension | None, now: float
    ) -> dict[str, Any]:
        """Its entry in `GET /orchestrators`."""
        return {
            **candidate.json(),
            "addr": self.listing.addr,
            "address": candidate.address,
            "ticket_wei": None if candidate.ticket_ev is None else whole_wei(candidate.ticket_ev),
            "warm": candidate.warm,
            "rtt_ms": None if self.rtt is None else round(self.rtt * 1000, 1),
            "age_s": None if self.fetched_at is None else round(now - self.fetched_at, 1),
            "set_aside": None if suspension is None else suspension.json(now),
        }
