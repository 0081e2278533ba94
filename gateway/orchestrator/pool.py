"""The known orchestrators, each with a recent answer, so that a stream's start need not ask any."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Protocol

import structlog

from gateway.aio.tasks import TaskGroup
from gateway.candidates.suspension import Suspension
from gateway.candidates.trust import TrackedJob, Trust
from gateway.candidates.verdict import Verdict, reasons_of
from gateway.money import text
from gateway.orchestrator.client import INFO_TIMEOUT
from gateway.orchestrator.discovery import Directory, DiscoveryFailed, FixedSource, Listing, Source
from gateway.orchestrator.errors import BadAnswer, OfferChanged, OrchestratorError, PriceRaised, Unreachable
from gateway.orchestrator.grpc import FLOOD
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.member import Member
from gateway.orchestrator.selection import Check, OrchestratorCandidate, Refusal, judge, rank, verdict_of
from gateway.orchestrator.urls import place

log = structlog.get_logger("orchestrators")

REFRESH_INTERVAL = 60.0
SHORTEST_GAP = 1.0
"""Seconds between two calls to one orchestrator at least."""
SOURCE_RETRY = 5.0
JITTER = 0.1
ROOM_AGE = 2.0
"""Seconds after which an answer does not tell any more whether there is room for a job."""
ROOM_TIMEOUT = 0.5
"""Seconds to wait for a newer answer where another orchestrator could take the job."""


class InfoClient(Protocol):
    """The part of the orchestrators' client that the pool uses."""

    async def get_info(self, addr: str, *, timeout: float) -> OrchestratorInfo: ...

    def on_connection_lost(self, callback: Callable[[str], None]) -> None: ...

    def on_flood(self, callback: Callable[[str], None]) -> None: ...

    def operator_named(self, named: Callable[[str], bool]) -> None: ...


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
        ceiling: Fraction | None,
        refresh_interval: float = REFRESH_INTERVAL,
        checks: Sequence[Check] = (),
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.model = model
        self.ceiling = ceiling
        fixed = [source for source in sources if isinstance(source, str)]
        self._sources: list[Source] = [FixedSource(fixed)] if fixed else []
        self._sources += [source for source in sources if not isinstance(source, str)]
        self._checks = checks
        self.trust = Trust(clock=clock) if trust is None else trust
        self._directory = Directory()
        self._client = client
        self._refresh_interval = refresh_interval
        self._clock = clock
        self._wall = wall
        self._members: dict[str, Member] = {}
        self._changed = asyncio.Event()
        self._was_ready = False
        client.on_connection_lost(self._connection_lost)
        client.on_flood(self._flooded)
        client.operator_named(self._may_be_inside)

    # what is known

    def candidates(self, model: str | None = None, *, only: str | None = None) -> list[OrchestratorCandidate]:
        """All orchestrators with their verdicts, the usable ones first and best first. Without I/O.

        `only` leaves the one that it names (address, URL or Ethereum address). Where nobody else is known,
        suspensions for a fault are ignored, except of who was paid and showed nothing.
        """
        known = [self._candidate(member) for member in self._members.values()]
        forgivable = self._mark_suspended(known)
        self._mark_untrusted(known)
        if not any(candidate.usable for candidate in known):
            for candidate, reason in forgivable:
                why = f"suspension ignored, no other is usable: {reason}"
                candidate.set_verdict(Verdict.AVAILABLE, why)
            self._mark_untrusted(known)
        if only is not None:
            known = [candidate for candidate in known if candidate.named(only)]
        if model is not None and model != self.model:
            for candidate in known:
                why = f"the gateway asks orchestrators for the model {self.model} only"
                candidate.set_verdict(Verdict.MODEL_NOT_OFFERED, why)
        return rank(known)

    def names(self, model: str) -> bool:
        """Whether any orchestrator's answer names this model."""
        return any(member.info is not None and member.info.names(model) for member in self._members.values())

    def models(self) -> set[str]:
        """Some of the models that orchestrators' answers name."""
        infos = [member.info for member in self._members.values() if member.info is not None]
        return {model for info in infos for model in info.some_models()}

    def _candidate(self, member: Member) -> OrchestratorCandidate:
        candidate = member.candidate(self.model, self.ceiling)
        candidate.proven = self.trust.record(self._key(member)).proven
        if candidate.usable and member.info is not None:
            candidate.set_verdict(*self.judge(member.listing, member.info))
        if candidate.usable and member.room(self.model) == 0:
            candidate.set_verdict(Verdict.NO_CAPACITY, "our own streams are taking the room that it has left")
        return candidate

    def _mark_untrusted(self, known: list[OrchestratorCandidate]) -> None:
        if self.ceiling is None:
            return
        for candidate in known:
            why = self.trust.why_wait(self._key(self._members[candidate.addr])) if candidate.usable else ""
            if why:
                candidate.set_verdict(Verdict.UNTRUSTED, why)

    def judge(self, listing: Listing, info: OrchestratorInfo) -> Refusal:
        """The verdict on an answer: available, or why not."""
        verdict, detail = judge(info, self.model, self.ceiling)
        if verdict is Verdict.AVAILABLE:
            for check in self._checks:
                refusal = check(listing, info)
                if refusal is not None:
                    return refusal
        return verdict, detail

    def reasons_not_ready(self) -> list[str]:
        """Why no stream could start now, a sentence each; empty where one could."""
        candidates = self.candidates()
        if any(candidate.admissible for candidate in candidates):
            return []
        reasons = reasons_of((candidate.url, candidate) for candidate in candidates)
        return reasons or ["no orchestrator is known", *self._directory.errors()]

    def ready(self) -> bool:
        """Whether a stream could start now."""
        return any(candidate.admissible for candidate in self.candidates())

    async def wait_changed(self) -> None:
        """Wait until an answer or a list has changed."""
        await self._changed.wait()

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
            "sources": self._directory.json(now),
        }

    def _state(self, candidate: OrchestratorCandidate, now: float) -> dict[str, Any]:
        member = self._members[candidate.addr]
        trust = None if self.ceiling is None else self.trust.record(self._key(member)).json()
        return {**member.json(candidate, self._suspension(member, now), now), "trust": trust}

    def _key(self, member: Member) -> str:
        return self.payee(member.listing.addr, "" if member.info is None else member.info.recipient)

    # for streams

    async def take(self, addr: str, price: Fraction | None) -> OrchestratorInfo:
        """An info for one job; each is given out once, because a job needs an auth token of its own.

        A fetched one that is new is returned at once and the next fetched in the background. Else the
        orchestrator is called now, only for a moment where there are others, and raises OrchestratorError
        where that fails. `price` (wei per second) is what the orchestrator was chosen for: raises
        OfferChanged where its price is higher now or it would not be chosen at all; the next job gets its info.
        """
        member = self._members.get(addr)
        if member is None:
            raise OfferChanged("it is no longer listed")
        if member.age(self._clock()) > ROOM_AGE:
            others = any(one.usable and one.addr != addr for one in self.candidates())
            await self._ask(member, ROOM_TIMEOUT if others else INFO_TIMEOUT)
            if member.error is not None:
                member.ask_now.set()
            if others and isinstance(member.error, Unreachable):
                raise OfferChanged(f"{member.error}: another orchestrator is tried")
        info = await self._use(member)
        _check_listing(member.listing, info)
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

    async def _use(self, member: Member) -> OrchestratorInfo:
        max_age = 2 * self._refresh_interval
        info = member.use(self._clock(), max_age)
        if info is None:
            await self._ask(member)
            info = member.use(self._clock(), max_age)
        if info is None:
            raise member.error or BadAnswer("its answer was too old on arrival")
        member.ask_now.set()
        return info

    def payee(self, addr: str, recipient: str) -> str:
        """What an orchestrator's faults and deliveries are counted by: who is paid there, else `addr`."""
        return self.trust.payee(place(addr), recipient) or addr

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
        self._note_change()

    def forgive(self, addr: str, publisher: str, *, address: str = "") -> None:
        """Take back the empty starts for this publisher, unless another's failed there too."""
        self.trust.forgive(address or addr, publisher)
        self._note_change()

    def no_room(self, addr: str, why: str) -> None:
        """Pass an orchestrator over for 15 s for want of room."""
        member = self._members.get(addr)
        if member is not None:
            member.skip.no_capacity(why, self._clock())
            log.info("orchestrator has no room", addr=addr, reason=why)
            self._note_change()

    def ask_again(self, addr: str) -> None:
        """Ask in the background whether it still has room, where its answer is not of this moment."""
        member = self._members.get(addr)
        if member is not None and member.age(self._clock()) > ROOM_AGE:
            member.ask_now.set()

    def job_opened(self, addr: str, address: str, job: object) -> TrackedJob:
        """A job is about to start there, and is paid at `address`; to be told what comes of it."""
        if addr in self._members:
            self._members[addr].job_opened(job)
        return self.trust.begin(address or addr)

    def job_began(self, addr: str, job: object) -> None:
        """The job runs there: ask whether it has capacity for another."""
        if addr in self._members:
            self._members[addr].job_began(job, self._clock())

    def job_over(self, addr: str, job: object, *, ran: bool) -> None:
        """The job is over. Where it `ran`, the orchestrator no longer counts as full, and is asked."""
        member = self._members.get(addr)
        if member is not None:
            member.job_over(job)
            if ran:
                member.room_again()
                self._note_change()

    # calls in the background

    async def run(self) -> None:
        """Read the lists and call the orchestrators, until cancelled."""
        try:
            async with TaskGroup() as group:
                for source in self._sources:
                    group.create_task(self._follow(source, group), name=f"discovery {source.name}")
        finally:
            for member in self._members.values():
                member.keeper = None  # its task refers to the member

    async def _follow(self, source: Source, group: TaskGroup) -> None:
        while True:
            pause = source.interval
            try:
                found = await source.listings()
                if not found:
                    raise DiscoveryFailed("the list is empty")
            except DiscoveryFailed as error:
                news = self._directory.error(source.name) != str(error)
                kept = self._directory.failed(source.name, str(error))
                if news:
                    log.warning("discovery failed", source=source.name, detail=str(error), kept=kept)
                pause = min(SOURCE_RETRY, pause or SOURCE_RETRY)
                self._note_change()
            else:
                self._directory.succeeded(source.name, found, self._clock())
                self._admit(group)
            if pause is None:
                return
            await asyncio.sleep(_jittered(pause))

    def _admit(self, group: TaskGroup) -> None:
        """Bring the members in line with the lists."""
        listed = self._directory.listings()
        for addr in self._members.keys() - listed.keys():
            keeper = self._members.pop(addr).keeper
            if keeper is not None:
                keeper.cancel()
            log.info("orchestrator no longer listed", addr=addr)
        for addr, listing in listed.items():
            if addr in self._members:
                self._members[addr].listing = listing
            else:
                member = self._members[addr] = Member(listing)
                member.keeper = group.create_task(self._keep_fresh(member), name=f"orchestrator {addr}")
        self._note_change()

    async def _keep_fresh(self, member: Member) -> None:
        while True:
            member.ask_now.clear()
            await self._ask(member)
            pause = member.pause(self._refresh_interval, self.ready())
            await asyncio.sleep(min(SHORTEST_GAP, pause))
            try:
                async with asyncio.timeout(_jittered(pause) - SHORTEST_GAP):
                    await member.ask_now.wait()
            except TimeoutError:
                continue

    async def _ask(self, member: Member, timeout: float = INFO_TIMEOUT) -> None:
        addr, asked_at = member.listing.addr, self._clock()
        try:
            info = await self._client.get_info(addr, timeout=timeout)
            _check_listing(member.listing, info)
        except OrchestratorError as error:
            if member.error is None or member.error.detail != error.detail:
                verdict = str(verdict_of(error))
                log.warning("orchestrator failed", addr=addr, verdict=verdict, detail=error.full)
            member.failed(error)
        else:
            if member.error is not None or member.info is None:
                self._log_answer(member.listing, info)
            member.answered(info, asked_at=asked_at, now=self._clock(), wall=self._wall())
        self._note_change()

    def _log_answer(self, listing: Listing, info: OrchestratorInfo) -> None:
        verdict, detail = self.judge(listing, info)
        price = None if info.price is None else text(info.price)
        log.info(
            "orchestrator answered",
            addr=listing.addr,
            url=info.url,
            price_wei_per_second=price,
            verdict=str(verdict),
            detail=detail,
        )

    def _flooded(self, addr: str) -> None:
        member = self._members.get(addr)
        if member is not None:
            member.flooded(f"it sent {FLOOD}", self._clock())
            log.warning("orchestrator suspended", addr=addr, reason=f"it sent {FLOOD}")
            self._note_change()

    def _may_be_inside(self, addr: str) -> bool:
        member = self._members.get(addr)
        return member is not None and member.listing.may_be_inside

    def _connection_lost(self, addr: str) -> None:
        member = self._members.get(addr)
        if member is not None and member.error is None:
            member.ask_now.set()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        is_ready = self.ready()
        if self._was_ready and not is_ready:
            for member in self._members.values():
                member.ask_now.set()
        self._was_ready = is_ready

    def _suspension(self, member: Member, now: float) -> Suspension | None:
        return self.trust.suspension(self._key(member)) or member.skip.active(now)

    def _mark_suspended(self, known: list[OrchestratorCandidate]) -> list[tuple[OrchestratorCandidate, str]]:
        """Make suspended ones unusable. Returns those whose faults are forgivable, and the faults."""
        now = self._clock()
        forgivable: list[tuple[OrchestratorCandidate, str]] = []
        for candidate in known:
            suspension = self._suspension(self._members[candidate.addr], now)
            if suspension is None or not candidate.usable:
                continue
            why = f"{suspension.reason}; suspended for another {suspension.seconds_left(now):.0f} s"
            candidate.set_verdict(Verdict.SET_ASIDE if suspension.is_fault else Verdict.NO_CAPACITY, why)
            if suspension.is_fault and suspension.forgivable:
                forgivable.append((candidate, suspension.reason))
        return forgivable


def _check_listing(listing: Listing, info: OrchestratorInfo) -> None:
    if not listing.allows(info.recipient):
        listed = " or ".join(listing.addresses)
        raise BadAnswer(f"it is paid as {info.recipient}, but is listed as {listed}")


def _jittered(seconds: float) -> float:
    """Vary by up to a tenth, so that calls of many gateways do not coincide."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
