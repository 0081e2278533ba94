"""How many may be in at once: places that streams and viewers hold, counted against every limit on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One limit that a newcomer falls under."""

    limit: str
    """The limit's name, as operators know it."""
    maximum: int
    """Quotas that there are; 0 lifts the limit."""
    key: str = ""
    """What the limit is counted by: an address, a stream, a token; empty for all together."""


class LimitReached(Exception):
    """Every place under one limit is taken; the text names the limit."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"the limit {claim.limit} ({claim.maximum}) is reached: wait until a place is free")
        self.claim = claim


class Quotas:
    """Takes and gives back places; all the claims of one newcomer are granted together or not at all."""

    def __init__(self) -> None:
        self._taken: Counter[tuple[str, str]] = Counter()

    def take(self, claims: Sequence[Claim]) -> Lease:
        """Raises LimitReached, with nothing taken."""
        for claim in claims:
            if claim.maximum and self._taken[claim.limit, claim.key] >= claim.maximum:
                raise LimitReached(claim)
        keys = [(claim.limit, claim.key) for claim in claims]
        self._taken.update(keys)
        return Lease(self, keys)

    def give_back(self, keys: Sequence[tuple[str, str]]) -> None:
        self._taken.subtract(keys)
        for key in keys:
            if not self._taken[key]:
                del self._taken[key]

    def __len__(self) -> int:
        return len(self._taken)


class Lease:
    """The places of one stream or viewer."""

    def __init__(self, places: Quotas, keys: Sequence[tuple[str, str]]) -> None:
        self._places = places
        self._keys = keys

    def release(self) -> None:
        """Idempotent."""
        keys, self._keys = self._keys, ()
        self._places.give_back(keys)
