"""The known orchestrators, each with a recent answer, so that a stream's start need not ask any."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import structlog

from gateway.candidates.trust import TrackedJob, Trust
from gateway.candidates.verdict import Verdict, reasons_of
from gateway.eth_rate import PriceNow, wei_now
from gateway.money import text
from gateway.orchestrator.client import INFO_TIMEOUT
from gateway.orchestrator.discovery import Listing, Source
from gateway.orchestrator.errors import OfferChanged, PriceRaised, Unreachable
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.judge import Judge
from gateway.orchestrator.members import InfoClient, Members, check_listing
from gateway.orchestrator.selection import Check, OrchestratorCandidate, Refusal
from gateway.orchestrator.urls import place

log = structlog.get_logger("orchestrators")

REFRESH_INTERVAL = 60.0
ROOM_AGE = 2.0
"""Seconds after which an answer does not tell any more whether there is room for a job."""
ROOM_TIMEOUT = 0.5
"""Seconds to wait for a newer answer where another orchestrator could take the job."""


class OrchestratorPool:
    """The orchestrators for one model.

    `sources` lists them (plain addresses are sources too); `ceiling` is in wei per second, None where
    nothing is paid; `checks` are made of each answer after those of model and price. `run` calls each of
    them at least every `refresh_interval` seconds, until cancelled. Everything else answers at once from
    what is known, except `take`, which may call an orchestrator.
    `clock` is monotonic; `wall` is unix time, which auth tokens' expiry is compared with.
    """

    def __init__(
        self,
        client: InfoClient,
        sources: Sequence[Source | str],
        *,
        model: str,
        ceiling: PriceNow,
        refresh_interval: float = REFRESH_INTERVAL,
        checks: Sequence[Check] = (),
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.model = model
        self._price = ceiling
        self.trust = Trust(clock=clock) if trust is None else trust
        self._judge = Judge(model=model, ceiling=ceiling, checks=checks, trust=self.trust, clock=clock)
        self._members = Members(
            client,
            sources,
            judge=self.judge,
            ready=self.ready,
            refresh_interval=refresh_interval,
            clock=clock,
            wall=wall,
        )
        self._clock = clock

    @property
    def ceiling(self) -> Fraction | None:
        """In wei per second, now; None where nothing is paid."""
        return wei_now(self._price)

    # what is known

    def candidates(self, model: str | None = None, *, only: str | None = None) -> list[OrchestratorCandidate]:
        """All orchestrators with their verdicts, the usable ones first and best first. Without I/O.

        `only` leaves the one that it names (address, URL or Ethereum address). Where nobody else is known,
        suspensions for a fault are ignored, except of who was paid and showed nothing.
        """
        return self._judge.candidates(self._members, model, only=only)

    def judge(self, listing: Listing, info: OrchestratorInfo) -> Refusal:
        """The verdict on an answer: available, or why not."""
        return self._judge.answer(listing, info)

    def names(self, model: str) -> bool:
        """Whether any orchestrator's answer names this model."""
        return any(member.info is not None and member.info.names(model) for member in self._members)

    def models(self) -> set[str]:
        """Some of the models that orchestrators' answers name."""
        infos = [member.info for member in self._members if member.info is not None]
        return {model for info in infos for model in info.some_models()}

    def reasons_not_ready(self) -> list[str]:
        """Why no stream could start now, a sentence each; empty where one could."""
        candidates = self.candidates()
        if any(candidate.admissible for candidate in candidates):
            return []
        reasons = reasons_of((candidate.url, candidate) for candidate in candidates)
        return reasons or ["no orchestrator is known", *self._members.directory.errors()]

    def ready(self) -> bool:
        """Whether a stream could start now."""
        return any(candidate.admissible for candidate in self.candidates())

    async def wait_changed(self) -> None:
        """Wait until an answer or a list has changed."""
        await self._members.wait_changed()

    async def wait_ready(self) -> None:
        """Wait until a stream could start."""
        while not self.ready():
            await self.wait_changed()

    def state(self) -> dict[str, Any]:
        """Body of `GET /orchestrators`: each with verdict, age, round trip and suspension; the sources.

        The verdict of the one that the next stream would start on is `chosen`.
        """
        now, candidates = self._clock(), self.candidates()
        if candidates and candidates[0].usable:
            candidates[0].verdict = Verdict.CHOSEN
        return {
            "model": self.model,
            "max_price_wei_per_second": None if self.ceiling is None else text(self.ceiling),
            "orchestrators": [self._state(candidate, now) for candidate in candidates],
            "sources": self._members.directory.json(now),
        }

    def _state(self, candidate: OrchestratorCandidate, now: float) -> dict[str, Any]:
        member = self._members[candidate.addr]
        trust = None if self.ceiling is None else self.trust.record(self._judge.key(member)).json()
        return {**member.json(candidate, self._judge.suspension(member, now), now), "trust": trust}

    async def run(self) -> None:
        """Read the lists and call the orchestrators, until cancelled."""
        await self._members.run()

    # for streams

    async def take(self, addr: str, price: Fraction | None) -> OrchestratorInfo:
        """An info for one job; each is given out once, because a job needs an auth token of its own.

        A fetched one that is new is returned at once and the next fetched in the background. Else the
        orchestrator is called now, only for a moment where there are others, and raises OrchestratorError
        where that fails. `price` (wei per second) is what the orchestrator was chosen for: raises
        OfferChanged where its price is higher now or it would not be chosen: the next job gets its info.
        """
        member = self._members.get(addr)
        if member is None:
            raise OfferChanged("it is no longer listed")
        if member.age(self._clock()) > ROOM_AGE:
            others = any(one.usable and one.addr != addr for one in self.candidates())
            await self._members.ask(member, ROOM_TIMEOUT if others else INFO_TIMEOUT)
            if member.error is not None:
                member.ask_now.set()
            if others and isinstance(member.error, Unreachable):
                raise OfferChanged(f"{member.error}: another orchestrator is tried")
        info = await self._members.use(member)
        check_listing(member.listing, info)
        try:
            self._check_offer(member.listing, info, price)
        except OfferChanged:
            member.give_back(info)
            raise
        return info

    def _check_offer(self, listing: Listing, info: OrchestratorInfo, price: Fraction | None) -> None:
        verdict, detail = self.judge(listing, info)
        if verdict is Verdict.PRICE_ABOVE_MAX:
            raise PriceRaised(detail)
        if verdict is not Verdict.AVAILABLE:
            raise OfferChanged(detail)
        if info.price and (price is None or info.price > price):
            chosen_for = text(price or 0)
            raise PriceRaised(f"{text(info.price)} wei per second, and it was chosen for {chosen_for}")

    def payee(self, addr: str, recipient: str) -> str:
        """What an orchestrator's faults and deliveries are counted by: who is paid there, else `addr`."""
        return self._judge.payee(addr, recipient)

    def pays(self, addr: str, info: OrchestratorInfo) -> None:
        """A first payment goes to this info's recipient: another one there will be noticed."""
        self.trust.pays(place(addr), info.recipient)

    def suspend(
        self, addr: str, why: str, *, address: str = "", took_pay: bool = False, publisher: str = ""
    ) -> None:
        """Pass over who is paid at `address` for a fault of a job at `addr`, for a back-off that doubles.

        `took_pay` says that it was paid and showed nothing of this publisher's. The orchestrator must answer
        again before it gets another job, even where nobody else is left.
        """
        suspension = self.trust.fault(address or addr, why, took_pay=took_pay, publisher=publisher)
        seconds = round(suspension.seconds_left(self._clock()), 1)
        log.warning("orchestrator suspended", addr=addr, address=address, reason=why, seconds=seconds)
        member = self._members.get(addr)
        if member is not None:
            member.require_answer(why)
            member.ask_now.set()
        self._members.note_change()

    def forgive(self, addr: str, publisher: str, *, address: str = "") -> None:
        """Take back the empty starts for this publisher, unless another's failed there too."""
        self.trust.forgive(address or addr, publisher)
        self._members.note_change()

    def no_room(self, addr: str, why: str) -> None:
        """Pass an orchestrator over for 15 s for want of room."""
        member = self._members.get(addr)
        if member is not None:
            member.skip.no_capacity(why, self._clock())
            log.info("orchestrator has no room", addr=addr, reason=why)
            self._members.note_change()

    def ask_again(self, addr: str) -> None:
        """Ask in the background whether it still has room, where its answer is not of this moment."""
        member = self._members.get(addr)
        if member is not None and member.age(self._clock()) > ROOM_AGE:
            member.ask_now.set()

    def job_opened(self, addr: str, address: str, job: object) -> TrackedJob:
        """A job is about to start there, and is paid at `address`; to be told what comes of it."""
        member = self._members.get(addr)
        if member is not None:
            member.job_opened(job)
        return self.trust.begin(address or addr)

    def job_began(self, addr: str, job: object) -> None:
        """The job runs there: ask whether it has capacity for another."""
        member = self._members.get(addr)
        if member is not None:
            member.job_began(job, self._clock())

    def job_over(self, addr: str, job: object, *, ran: bool) -> None:
        """The job is over. Where it `ran`, the orchestrator no longer counts as full, and is asked."""
        member = self._members.get(addr)
        if member is not None:
            member.job_over(job)
            if ran:
                member.room_again()
                self._members.note_change()

    # calls in the background
