"""Concurrency quotas for streams and viewers: how many there may be at once under each limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CounterKey = tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """One limit that a newcomer counts against."""

    limit: str
    """The limit's name, as operators know it."""
    maximum: int
    """The most at once; 0 for no limit."""
    key: str = ""
    """What is counted separately: an address, a stream, a token; empty for all together."""
    shared: bool = False
    """Whether all nodes of a cluster count together."""


class LimitReached(Exception):
    """One limit allows nobody more; the text names it."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"the limit {claim.limit} ({claim.maximum}) is reached: wait until one of them ends")
        self.claim = claim


class SharedCounts(Protocol):
    """What all nodes of a cluster have under a limit together, this one among them."""

    async def hold(self, key: CounterKey, count: int, maximum: int) -> bool:
        """Have this node counted with `count`. False where all nodes together would be above the maximum.

        Raises NotAdmitted where it cannot be known.
        """

    def lower(self, key: CounterKey, count: int) -> None:
        """This node has only `count` by now. Does not block."""


class Quotas:
    """Counts who is there. All claims of one newcomer are granted together or none."""

    def __init__(self, shared: SharedCounts | None = None) -> None:
        self._taken: Counter[CounterKey] = Counter()
        self._shared = shared

    async def reserve(self, claims: Sequence[Claim], replacing: Reservation | None = None) -> Reservation:
        """What `take` does, and shared claims are counted with those of other nodes.

        Raises NotAdmitted, too, where that cannot be done now.
        """
        reservation = self.take(claims, replacing)
        try:
            for claim in claims:
                if self._shared is None or not claim.shared or not claim.maximum:
                    continue
                key = claim.limit, claim.key
                leaving = Counter(replacing.keys if replacing is not None else ())
                count = self._taken[key] - leaving[key]
                if not await self._shared.hold(key, count, claim.maximum):
                    raise LimitReached(claim)
        except BaseException:
            reservation.release()
            raise
        return reservation

    def take(self, claims: Sequence[Claim], replacing: Reservation | None = None) -> Reservation:
        """Reserve; what `replacing` holds does not count, as it will be released.

        Raises LimitReached, with nothing taken.
        """
        leaving = Counter(replacing.keys if replacing is not None else ())
        for claim in claims:
            key = claim.limit, claim.key
            if claim.maximum and self._taken[key] - leaving[key] >= claim.maximum:
                raise LimitReached(claim)
        keys = [(claim.limit, claim.key) for claim in claims]
        self._taken.update(keys)
        return Reservation(self, keys)

    def give_back(self, keys: Sequence[CounterKey]) -> None:
        self._taken.subtract(keys)
        for key in keys:
            if self._shared is not None:
                self._shared.lower(key, self._taken[key])
            if not self._taken[key]:
                del self._taken[key]

    def __len__(self) -> int:
        return len(self._taken)


class Reservation:
    """What one stream or viewer holds."""

    def __init__(self, quotas: Quotas, keys: Sequence[CounterKey]) -> None:
        self._quotas = quotas
        self.keys = keys

    def release(self) -> None:
        """Idempotent."""
        keys, self.keys = self.keys, ()
        self._quotas.give_back(keys)
