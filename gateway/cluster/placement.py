"""Which node takes a new publisher: the one with the least to do. Plain logic without a clock."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.cluster.presence import BEAT, NodeState

COUNTED_AFTER = 3 * BEAT
"""Seconds after which a node's beats count a publisher that was sent there."""


class Placement:
    """Remembers for a short while what was sent to each node. `now` is in seconds."""

    def __init__(self) -> None:
        self._sent: list[tuple[float, str]] = []

    def order(self, nodes: Iterable[NodeState], own: str, now: float) -> list[str]:
        """The names of the nodes that take publishers, the best first; `own` first among equals."""
        self._sent = [(at, node) for at, node in self._sent if now - at < COUNTED_AFTER]
        candidates = [node for node in nodes if node.open and not node.draining]
        return [node.identity.node for node in sorted(candidates, key=lambda node: self._key(node, own))]

    def sent(self, node: str, now: float) -> None:
        """A publisher was sent there."""
        self._sent.append((now, node))

    def _key(self, node: NodeState, own: str) -> tuple[int, float, bool, str]:
        name = node.identity.node
        sent = sum(to == name for _, to in self._sent)
        return (node.streams + sent, round(node.lag, 1), name != own, name)
