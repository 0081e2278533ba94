"""Which node takes a new publisher: the one with the least to do. Plain logic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gateway.cluster.presence import NodeState


class Placement:
    """Counts what was sent to each node since it last said how many streams it has."""

    def __init__(self) -> None:
        self._sent: Counter[str] = Counter()
        self._said: dict[str, NodeState] = {}

    def order(self, nodes: Iterable[NodeState], own: str) -> list[str]:
        """The names of the nodes that take publishers, the best first; `own` first among equals."""
        nodes = [node for node in nodes if node.open and not node.draining]
        for node in nodes:
            name = node.identity.node
            if self._said.get(name) is not node:  # it has counted them by now
                self._said[name] = node
                self._sent[name] = 0
        nodes.sort(key=lambda node: self._key(node, own))
        return [node.identity.node for node in nodes]

    def sent(self, node: str) -> None:
        """A publisher was sent there."""
        self._sent[node] += 1

    def _key(self, node: NodeState, own: str) -> tuple[int, float, bool, str]:
        name = node.identity.node
        return (node.streams + self._sent[name], round(node.lag, 1), name != own, name)
