"""The known live runners: lists that are read again and again, what each asks, and who is passed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Protocol

import structlog

from gateway import money
from gateway.aio.tasks import TaskGroup
from gateway.candidates.suspension import Suspension, SuspensionState
from gateway.candidates.trust import TrackedJob, Trust
from gateway.candidates.verdict import Verdict, reasons_of
from gateway.eth_rate import PriceNow, wei_now
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.errors import OfferChanged, OrchestratorError
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import Check, Refusal
from gateway.orchestrator.urls import place
from gateway.runner.offer import RunnerOffer
from gateway.runner.selection import RunnerCandidate, judge, rank
from gateway.runner.unanswered import UnansweredReserves

log = structlog.get_logger("runners")

REFRESH_INTERVAL = 15.0
RETRY_WHILE_NOBODY = 2.0
"""Seconds between two reads of a list, or at most this while no runner is usable."""
FRESH = 2.0
"""Seconds for which a list is good enough for a reserve."""
CHALLENGED_FOR = 120.0
"""Seconds for which a challenge tells who is paid and how large tickets are."""
MAX_CHALLENGES = 16
"""Runners of one list that are asked at once."""
UNASKED = "it has not said yet who is paid there"
Challenger = Callable[[RunnerOffer], Awaitable[OrchestratorInfo | None]]
"""Asks a runner what is to be paid; None where nothing is. Raises OrchestratorError."""


class RunnerList(Protocol):
    """Somebody who lists live runners."""

    name: str
    lists_itself: bool
    """Whether it is the runners' own orchestrator: where it does not answer, they do not either."""

    quick: bool
    """Whether it answers soon enough to be read again while a stream waits for its reserve."""

    async def offers(self, apps: frozenset[str]) -> list[RunnerOffer]:
        """The runners for these apps that are listed now. Raises OrchestratorError."""


class _List:
    """One list's newest answer."""

    def __init__(self, source: RunnerList) -> None:
        self.source = source
        self.offers: list[RunnerOffer] = []
        self.read_at: float | None = None
        self.error: str | None = None
        self.read_now = asyncio.Event()
        self.lock = asyncio.Lock()

    def names(self, url: str) -> bool:
        return any(offer.url == url for offer in self.offers)


class _Asked:
    """What a runner answered when it was asked what is to be paid."""

    def __init__(self, at: float, info: OrchestratorInfo | None, error: str = "") -> None:
        self.at = at
        self.info = info
        self.error = error


class RunnerPool:
    """The live runners for `apps`. `run` reads the lists until cancelled; a list that fails keeps its last.

    `challenge` asks a runner what is to be paid, which costs nothing. `ceiling` is wei per second, None where
    nothing is paid. `checks` are made of what the runners answered. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        lists: Sequence[RunnerList],
        apps: frozenset[str],
        *,
        challenge: Challenger,
        ceiling: PriceNow,
        checks: Sequence[Check] = (),
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.apps = apps
        self._price = ceiling
        self.trust = Trust(clock=clock) if trust is None else trust
        self._lists = [_List(one) for one in lists]
        self._challenge = challenge
        self._checks = checks
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._unanswered = UnansweredReserves(clock)
        self._skips: dict[str, SuspensionState] = {}

    @property
    def ceiling(self) -> Fraction | None:
        """In wei per second, now; None where nothing is paid."""
        return wei_now(self._price)

    # what is known

    def candidates(self, app: str | None = None, *, only: str | None = None) -> list[RunnerCandidate]:
        """All runners of the apps, or of one, with verdicts, the usable ones first and best first.

        Where nobody else is known, suspensions for a fault are ignored, except of who was paid and showed
        nothing. `only` leaves those that it names.
        """
        offers = [one for one in self._offers().values() if app is None or one.app == app]
        known = [self._judged(offer, forgiving=False) for offer in offers]
        if not any(one.usable for one in known):
            known = [self._judged(offer, forgiving=True) for offer in offers]
        return rank(one for one in known if only is None or one.named(only))

    def reasons_not_ready(self) -> list[str]:
        """Why no session could be reserved now, a sentence each; empty where one could."""
        candidates = self.candidates()
        if any(one.usable for one in candidates):
            return []
        reasons = reasons_of((one.offer.url, one) for one in candidates)
        errors = [f"{one.source.name}: {one.error}" for one in self._lists if one.error]
        return reasons or ["no live runner is known", *errors]

    def state(self) -> dict[str, Any]:
        """Their part of `GET /orchestrators`."""
        now = self._clock()
        return {
            "runners": [self._json(one, now) for one in self.candidates()],
            "runner_sources": [
                {
                    "name": one.source.name,
                    "listed": len(one.offers),
                    "age_s": None if one.read_at is None else round(now - one.read_at, 1),
                    "error": one.error,
                }
                for one in self._lists
            ],
        }

    def payee(self, offer: RunnerOffer) -> str:
        """What its faults and deliveries are counted by: who is paid there, else its URL."""
        asked = self._asked.get(offer.url)
        recipient = "" if asked is None or asked.info is None else asked.info.recipient
        return self.trust.payee(place(offer.url), recipient) or offer.url

    # for streams

    async def take(self, url: str) -> RunnerOffer:
        """The offer at this URL, read anew unless that was just done or its list is slow.

        Raises OfferChanged where it is no longer listed or usable, or OrchestratorError.
        """
        for one in self._lists:
            if one.source.quick and one.names(url):
                await self._read(one)
        offer = self._offers().get(url)
        if offer is None:
            raise OfferChanged("it is no longer listed")
        refusal = self._unreachable(offer) or judge(offer, self.ceiling)
        if refusal is not None:
            raise OfferChanged(refusal[1])
        self._unanswered.taken(url)
        return offer

    def refusal(self, offer: RunnerOffer, info: OrchestratorInfo) -> Refusal | None:
        """Why a session of a former run is not paid on, None where it may be: its room is its own."""
        refusals = (check(Listing(offer.url), info) for check in self._checks)
        return judge(replace(offer, room=None), self.ceiling) or next(filter(None, refusals), None)

    def may_hold_ours(self, offer: RunnerOffer, info: OrchestratorInfo, seconds: float) -> None:
        """It may have a session of a former run for so long, paid on this info: the next start takes it."""
        self._unanswered.add(offer, seconds)
        self._asked[offer.url] = _Asked(self._clock(), info)

    def challenged(self, offer: RunnerOffer, info: OrchestratorInfo) -> Refusal | None:
        """A challenge came for a session: why it is not paid, None where it may be."""
        self._asked[offer.url] = _Asked(self._clock(), info)
        return self._check(offer)

    def pays(self, offer: RunnerOffer, info: OrchestratorInfo) -> None:
        """A first payment goes to this info's recipient: another one there will be noticed."""
        self.trust.pays(place(offer.url), info.recipient)

    def job_opened(self, address: str) -> TrackedJob:
        """A job is about to start, and is paid at `address`; to be told what comes of it."""
        return self.trust.begin(address)

    def suspend(self, url: str, why: str, *, address: str, took_pay: bool, publisher: str) -> None:
        """Pass over who is paid at `address` for a fault of a job at `url`, for a back-off that doubles."""
        suspension = self.trust.fault(address, why, took_pay=took_pay, publisher=publisher)
        seconds = round(suspension.seconds_left(self._clock()), 1)
        log.warning("runner suspended", url=url, address=address, reason=why, seconds=seconds)
        self.room_changed(url)

    def no_room(self, url: str, why: str) -> None:
        """Pass a runner over for 15 s for want of room."""
        self._skips.setdefault(url, SuspensionState()).no_capacity(why, self._clock())
        log.info("runner has no room", url=url, reason=why)

    def room_changed(self, url: str, *, freed: bool = False) -> None:
        """A session began or ended there: ask how much room there is."""
        if freed and url in self._skips:
            self._skips[url].room_again()
        for one in self._lists:
            if one.names(url):
                one.read_now.set()

    # in the background

    async def run(self) -> None:
        """Read the lists, until cancelled."""
        async with TaskGroup() as group:
            for one in self._lists:
                group.create_task(self._follow(one), name=f"runners {one.source.name}")

    async def _follow(self, one: _List) -> None:
        while True:
            one.read_now.clear()
            await self._read(one)
            await self._ask_all(one)
            usable = any(candidate.usable for candidate in self.candidates())
            pause = REFRESH_INTERVAL if usable else RETRY_WHILE_NOBODY
            try:
                async with asyncio.timeout(pause):
                    await one.read_now.wait()
            except TimeoutError:
                continue

    async def _read(self, one: _List) -> None:
        async with one.lock:
            if one.read_at is not None and one.error is None and self._clock() - one.read_at < FRESH:
                return
            try:
                found = await one.source.offers(self.apps)
            except OrchestratorError as error:
                if one.error != error.detail:
                    log.warning("discovery of runners failed", source=one.source.name, detail=error.full)
                one.error = error.detail
                return
            one.offers = [offer for offer in found if offer.app in self.apps]
            one.read_at, one.error = self._clock(), None
            listed = self._offers()
            self._asked = {url: asked for url, asked in self._asked.items() if url in listed}
            self._skips = {url: skip for url, skip in self._skips.items() if url in listed}

    async def _ask_all(self, one: _List) -> None:
        """Have those of a list say who is paid, where that is not known yet."""
        now = self._clock()
        due = [
            offer
            for offer in one.offers
            if self.ceiling is not None
            and judge(offer, self.ceiling) is None
            and (offer.url not in self._asked or now - self._asked[offer.url].at > CHALLENGED_FOR)
        ]
        await asyncio.gather(*(self._ask(offer) for offer in due[:MAX_CHALLENGES]))

    async def _ask(self, offer: RunnerOffer) -> None:
        try:
            asked = _Asked(self._clock(), await self._challenge(offer))
        except OrchestratorError as error:
            log.warning("runner does not say what it costs", url=offer.url, detail=error.full)
            asked = _Asked(self._clock(), None, error.detail)
        self._asked[offer.url] = asked

    # how it is judged

    def _offers(self) -> dict[str, RunnerOffer]:
        return self._unanswered.among({offer.url: offer for one in self._lists for offer in one.offers})

    def _judged(self, offer: RunnerOffer, *, forgiving: bool) -> RunnerCandidate:
        asked = self._asked.get(offer.url)
        info = None if asked is None else asked.info
        if info is not None and info.price and offer.price and info.price > offer.price:
            offer = replace(offer, price=info.price)  # a list may be old: a signer keeps its own for 25 min
        candidate = RunnerCandidate(offer=offer, info=info)
        candidate.proven = not offer.price or self.trust.record(self.payee(offer)).proven
        refusal = (
            self._unreachable(offer)
            or judge(offer, self.ceiling)
            or self._check(offer)
            or self._suspended(offer, forgiving=forgiving)
            or self._must_wait(offer)
        )
        if refusal is not None:
            candidate.set_verdict(*refusal)
        return candidate

    def _unreachable(self, offer: RunnerOffer) -> Refusal | None:
        """Its orchestrator does not answer, and nobody else lists it."""
        listing = [one for one in self._lists if one.names(offer.url)]
        if listing and all(one.source.lists_itself and one.error is not None for one in listing):
            return Verdict.UNREACHABLE, listing[0].error or ""
        return None

    def _check(self, offer: RunnerOffer) -> Refusal | None:
        asked = self._asked.get(offer.url)
        if asked is None:
            # faults are counted by who is paid
            return (Verdict.UNREACHABLE, UNASKED) if offer.paid and self.ceiling is not None else None
        if asked.error:
            return Verdict.BAD_ANSWER, asked.error
        if asked.info is None:
            return None
        return next(filter(None, (check(Listing(offer.url), asked.info) for check in self._checks)), None)

    def _suspended(self, offer: RunnerOffer, *, forgiving: bool) -> Refusal | None:
        now = self._clock()
        suspension = self._suspension(offer, now)
        if suspension is None or (forgiving and suspension.is_fault and suspension.forgivable):
            return None
        why = f"{suspension.reason}; suspended for another {suspension.seconds_left(now):.0f} s"
        return (Verdict.SET_ASIDE if suspension.is_fault else Verdict.NO_CAPACITY), why

    def _suspension(self, offer: RunnerOffer, now: float) -> Suspension | None:
        skip = self._skips.get(offer.url)
        return self.trust.suspension(self.payee(offer)) or (None if skip is None else skip.active(now))

    def _must_wait(self, offer: RunnerOffer) -> Refusal | None:
        why = "" if self.ceiling is None else self.trust.why_wait(self.payee(offer))
        return (Verdict.UNTRUSTED, why) if why else None

    def _json(self, one: RunnerCandidate, now: float) -> dict[str, Any]:
        suspension = self._suspension(one.offer, now)
        return {
            "url": one.offer.url,
            "app": one.offer.app,
            "version": one.offer.version,
            "gpu": one.offer.gpu,
            "room": one.offer.room,
            "price_wei_per_second": None if one.offer.price is None else money.text(one.offer.price),
            "verdict": str(one.verdict),
            "detail": one.detail,
            "address": "" if one.info is None else one.info.address,
            "ticket_wei": _ticket_wei(one.info),
            "set_aside": None if suspension is None else suspension.json(now),
            "trust": None if self.ceiling is None else self.trust.record(self.payee(one.offer)).json(),
        }


def _ticket_wei(info: OrchestratorInfo | None) -> str | None:
    return None if info is None or info.ticket_ev is None else money.whole_wei(info.ticket_ev)
