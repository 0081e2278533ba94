"""Which other nodes want a stream's output, and for how many viewers."""

from __future__ import annotations

import time
from collections.abc import Callable

LEASE = 3.0
"""Seconds for which a node gets a stream after it has asked; it asks each second."""


class Leases:
    """One lease for each node, by its name. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._nodes: dict[str, tuple[float, int]] = {}
        self._until = float("-inf")

    def renew(self, node: str, viewers: int) -> None:
        """A node asks for the stream, or says how many viewers it has for it by now."""
        now = self._clock()
        self._nodes = {other: lease for other, lease in self._nodes.items() if lease[0] > now}
        self._until = now + LEASE
        self._nodes[node] = (self._until, viewers)

    def release(self, node: str) -> None:
        """A node has no viewers any more; no error where it had no lease."""
        self._nodes.pop(node, None)
        self._until = max((until for until, _ in self._nodes.values()), default=float("-inf"))

    def __bool__(self) -> bool:
        """Whether any node wants the stream now."""
        return self._until > self._clock()

    @property
    def viewers(self) -> int:
        """Viewers on other nodes."""
        now = self._clock()
        return sum(viewers for until, viewers in self._nodes.values() if until > now)
