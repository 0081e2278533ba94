"""What each node has under one limit, as a key holds it. Plain logic without I/O or clock."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.cluster.presence import Identity, Life

FORMAT = 1
MAX_VALUE = 512 * 1024
"""Bytes of a key's value: some thousand nodes."""

Judge = Callable[[Identity], Life]


class BadTally(ValueError):
    """A value that cannot be read: one of a later release, or not ours."""


@dataclass(frozen=True)
class Tally:
    """How many each run of a node has; all numbers are above 0."""

    limit: str
    """The limit's name, for people who look at the bucket."""
    counts: Mapping[Identity, int] = field(default_factory=dict)

    @classmethod
    def read(cls, value: bytes) -> Tally:
        """What `value` wrote. Raises BadTally."""
        if len(value) > MAX_VALUE:
            raise BadTally(f"a key of {len(value)} bytes")
        try:
            members = json.loads(value)
            counts = {Identity(node, run): count for node, run, count in members["counts"]}
            limit = members["limit"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadTally(f"a key that cannot be read: {error}") from error
        known = members.get("v") == FORMAT and isinstance(limit, str)
        for identity, count in counts.items():
            known &= isinstance(identity.node, str) and isinstance(identity.incarnation, str)
            known &= type(count) is int and count > 0
        if not known:
            raise BadTally("a key of another release")
        return cls(limit, counts)

    def value(self) -> bytes:
        counts = [[one.node, one.incarnation, count] for one, count in self.counts.items()]
        return json.dumps({"v": FORMAT, "limit": self.limit, "counts": counts}).encode()

    def of(self, node: Identity) -> int:
        return self.counts.get(node, 0)

    def others(self, own: Identity) -> int:
        """What all nodes have but one."""
        return sum(count for identity, count in self.counts.items() if identity != own)

    def living(self, judge: Judge) -> Tally:
        """Without those that are dead for sure."""
        living = {one: count for one, count in self.counts.items() if judge(one) is not Life.DEAD}
        return Tally(self.limit, living)

    def is_unsure(self, judge: Judge) -> bool:
        """Whether one of them may be dead."""
        return any(judge(one) is Life.UNSURE for one in self.counts)

    def having(self, node: Identity, count: int) -> Tally:
        """With another number for one of them."""
        rest = {one: number for one, number in self.counts.items() if one != node}
        return Tally(self.limit, {**rest, node: count} if count else rest)


def granted(tally: Tally, own: Identity, *, needed: int, wanted: int, maximum: int) -> int | None:
    """How many this node may have: up to `wanted`; None where not even `needed` fit into the maximum."""
    fit = min(wanted, maximum - tally.others(own))
    return fit if fit >= needed else None


def tally_key(limit: str, of: str) -> str:
    """The key for a limit and what is counted separately under it, which may be long or secret."""
    return hashlib.sha256(f"{limit}\0{of}".encode()).hexdigest()[:32]
