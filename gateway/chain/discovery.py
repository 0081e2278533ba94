"""Discovers orchestrators from the chain's active pool, cached on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from gateway.chain.errors import ChainError
from gateway.chain.facts import Rounds
from gateway.orchestrator.discovery import DiscoveryFailed, Listing, usable

log = structlog.get_logger("chain")

INTERVAL = 60.0
"""Seconds between two reads of the round."""
MAX_AGE = 3600.0
"""Seconds after which the list is read again in the same round: service URIs may change at any time."""


class PoolReader(Protocol):
    """The part of the chain's reader that is used here."""

    async def rounds(self) -> Rounds: ...

    async def active_orchestrators(self) -> list[tuple[str, str]]: ...

    def forget_contracts(self) -> None: ...


@dataclass(frozen=True, slots=True)
class KnownPool:
    """The active pool as it was read, with the time (Unix seconds) and the round; address and URI of each.

    `inside` says whether it was read from RPC endpoints in a private network.
    """

    orchestrators: list[tuple[str, str]]
    round_number: int
    read_at: float
    inside: bool = False

    def json(self) -> dict[str, Any]:
        return {
            "round": self.round_number,
            "read_at": self.read_at,
            "inside": self.inside,
            "orchestrators": [{"address": address, "uri": uri} for address, uri in self.orchestrators],
        }

    @classmethod
    def read(cls, text: str) -> KnownPool:
        """Parse a cache file. ValueError where it is not one."""
        try:
            body = json.loads(text)
            return cls(
                [(str(one["address"]), str(one["uri"])) for one in body["orchestrators"]],
                int(body["round"]),
                float(body["read_at"]),
                body.get("inside") is True,
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("not a list of orchestrators") from error


class ChainSource:
    """The orchestrators of the active pool.

    The first call gives the list in the file `cache`, of any age, so that no start waits for an RPC endpoint;
    the next call follows at once and reads the chain. Later the list is read once per round and per hour.
    Each Controller needs its own file. Those listed may be in a private network where `reached_inside` says
    that the chain is read there.
    """

    name = "chain"

    def __init__(
        self,
        reader: PoolReader,
        cache: Path,
        *,
        reached_inside: Callable[[], bool] = lambda: False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._reached_inside = reached_inside
        self._cache = cache
        self._wall = wall
        self._known: KnownPool | None = None
        self._from_disk = False

    @property
    def interval(self) -> float | None:
        """Seconds until the next call: 0 before the chain was read."""
        return 0.0 if self._known is None else INTERVAL

    async def listings(self) -> list[Listing]:
        """The pool's service URIs. Raises DiscoveryFailed where neither disk nor chain gives a list."""
        if self._known is None:
            self._known = self._read_cache()
            if self._known is not None:
                self._from_disk = True
                return _listings(self._known)
        try:
            await self._read_chain()
        except ChainError as error:
            raise DiscoveryFailed(str(error)) from error
        assert self._known is not None
        return _listings(self._known)

    def json(self) -> dict[str, Any] | None:
        """Number, age and origin of the list, for operators."""
        if self._known is None:
            return None
        return {
            "listed": len(self._known.orchestrators),
            "age_s": round(self._wall() - self._known.read_at, 1),
            "round": self._known.round_number,
            "from": "disk" if self._from_disk else "chain",
        }

    async def _read_chain(self) -> None:
        number = (await self._reader.rounds()).round_number
        known, now = self._known, self._wall()
        if known is not None and not self._from_disk:
            if known.round_number == number and 0 <= now - known.read_at < MAX_AGE:
                return
            if known.round_number != number:
                log.info("new round", round=number)
                self._reader.forget_contracts()
        found = await self._reader.active_orchestrators()
        if not found:
            raise DiscoveryFailed("the active pool is empty")
        self._known, self._from_disk = KnownPool(found, number, now, self._reached_inside()), False
        self._write_cache(self._known)

    def _read_cache(self) -> KnownPool | None:
        try:
            return KnownPool.read(self._cache.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("cannot read the cached orchestrators", path=str(self._cache), error=str(error))
            return None

    def _write_cache(self, known: KnownPool) -> None:
        """Replace the file in one step: after a crash it is the old one or the new one."""
        beside = self._cache.with_suffix(".new")
        try:
            beside.write_text(json.dumps(known.json()), encoding="utf-8")
            beside.replace(self._cache)
        except OSError as error:
            log.warning("cannot cache the orchestrators", path=str(self._cache), error=str(error))


def _listings(known: KnownPool) -> list[Listing]:
    by_uri: dict[str, tuple[str, ...]] = {}
    for address, uri in known.orchestrators:
        by_uri[uri] = (*by_uri.get(uri, ()), address)
    return usable(Listing(uri, addresses, may_be_inside=known.inside) for uri, addresses in by_uri.items())
