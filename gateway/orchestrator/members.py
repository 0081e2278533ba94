"""The listed orchestrators: the lists are read, and each is asked again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import structlog

from gateway.aio.tasks import TaskGroup
from gateway.money import text
from gateway.orchestrator.client import INFO_TIMEOUT
from gateway.orchestrator.discovery import Directory, DiscoveryFailed, FixedSource, Listing, Source
from gateway.orchestrator.errors import BadAnswer, OrchestratorError
from gateway.orchestrator.grpc import FLOOD
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.member import Member
from gateway.orchestrator.selection import Refusal, verdict_of

log = structlog.get_logger("orchestrators")

SHORTEST_GAP = 1.0
"""Seconds between two calls to one orchestrator at least."""
SOURCE_RETRY = 5.0
JITTER = 0.1


class InfoClient(Protocol):
    """The part of the orchestrators' client that the pool uses."""

    async def get_info(self, addr: str, *, timeout: float) -> OrchestratorInfo: ...

    def on_connection_lost(self, callback: Callable[[str], None]) -> None: ...

    def on_flood(self, callback: Callable[[str], None]) -> None: ...

    def operator_named(self, named: Callable[[str], bool]) -> None: ...


class Members:
    """The orchestrators that `sources` list, by address (plain addresses are sources too).

    `run` calls each at least every `refresh_interval` seconds. `judge` gives the verdict on an answer;
    `ready` says whether a stream could start now. `clock` is monotonic, `wall` unix time.
    """

    def __init__(
        self,
        client: InfoClient,
        sources: Sequence[Source | str],
        *,
        judge: Callable[[Listing, OrchestratorInfo], Refusal],
        ready: Callable[[], bool],
        refresh_interval: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        fixed = [source for source in sources if isinstance(source, str)]
        self._sources: list[Source] = [FixedSource(fixed)] if fixed else []
        self._sources += [source for source in sources if not isinstance(source, str)]
        self.directory = Directory(source.name for source in self._sources)
        """The lists as they were read last."""
        self._client = client
        self._judge = judge
        self._ready = ready
        self._refresh_interval = refresh_interval
        self._clock = clock
        self._wall = wall
        self._members: dict[str, Member] = {}
        self._changed = asyncio.Event()
        self._was_ready = False
        client.on_connection_lost(self._connection_lost)
        client.on_flood(self._flooded)
        client.operator_named(self._may_be_inside)

    def get(self, addr: str) -> Member | None:
        """The one at this address; None where it is not listed."""
        return self._members.get(addr)

    def __getitem__(self, addr: str) -> Member:
        return self._members[addr]

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    async def wait_changed(self) -> None:
        """Wait until an answer or a list has changed."""
        await self._changed.wait()

    async def use(self, member: Member) -> OrchestratorInfo:
        """Its info for one job, fetched where there is none to give out. Raises OrchestratorError."""
        max_age = 2 * self._refresh_interval
        info = member.use(self._clock(), max_age)
        if info is None:
            await self.ask(member)
            info = member.use(self._clock(), max_age)
        if info is None:
            raise member.error or BadAnswer("its answer was too old on arrival")
        member.ask_now.set()
        return info

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
                news = self.directory.error(source.name) != str(error)
                kept = self.directory.failed(source.name, str(error))
                if news:
                    log.warning("discovery failed", source=source.name, detail=str(error), kept=kept)
                pause = min(SOURCE_RETRY, pause or SOURCE_RETRY)
                self.note_change()
            else:
                self.directory.succeeded(source.name, found, self._clock())
                self._admit(group)
            if pause is None:
                return
            await asyncio.sleep(_jittered(pause))

    def _admit(self, group: TaskGroup) -> None:
        """Bring the members in line with the lists."""
        listed = self.directory.listings()
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
        self.note_change()

    async def _keep_fresh(self, member: Member) -> None:
        while True:
            member.ask_now.clear()
            await self.ask(member)
            pause = member.pause(self._refresh_interval, self._ready())
            await asyncio.sleep(min(SHORTEST_GAP, pause))
            try:
                async with asyncio.timeout(_jittered(pause) - SHORTEST_GAP):
                    await member.ask_now.wait()
            except TimeoutError:
                continue

    async def ask(self, member: Member, timeout: float = INFO_TIMEOUT) -> None:
        """Ask it now; it keeps the answer, or why there is none. `timeout` is in seconds."""
        addr, asked_at = member.listing.addr, self._clock()
        try:
            info = await self._client.get_info(addr, timeout=timeout)
            check_listing(member.listing, info)
        except OrchestratorError as error:
            if member.error is None or member.error.detail != error.detail:
                verdict = str(verdict_of(error))
                log.warning("orchestrator failed", addr=addr, verdict=verdict, detail=error.full)
            member.failed(error)
        else:
            if member.error is not None or member.info is None:
                self._log_answer(member.listing, info)
            member.answered(info, asked_at=asked_at, now=self._clock(), wall=self._wall())
        self.note_change()

    def _log_answer(self, listing: Listing, info: OrchestratorInfo) -> None:
        verdict, detail = self._judge(listing, info)
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
            self.note_change()

    def _may_be_inside(self, addr: str) -> bool:
        member = self._members.get(addr)
        return member is not None and member.listing.may_be_inside

    def _connection_lost(self, addr: str) -> None:
        member = self._members.get(addr)
        if member is not None and member.error is None:
            member.ask_now.set()

    def note_change(self) -> None:
        """Wake those that wait for a change, and ask everybody where no stream could start any more."""
        self._changed.set()
        self._changed = asyncio.Event()
        is_ready = self._ready()
        if self._was_ready and not is_ready:
            for member in self._members.values():
                member.ask_now.set()
        self._was_ready = is_ready


def check_listing(listing: Listing, info: OrchestratorInfo) -> None:
    """Raise BadAnswer where another is paid than the list says."""
    if not listing.allows(info.recipient):
        listed = " or ".join(listing.addresses)
        raise BadAnswer(f"it is paid as {info.recipient}, but is listed as {listed}")


def _jittered(seconds: float) -> float:
    """Vary by up to a tenth, so that calls of many gateways do not coincide."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
