"""Which nodes there are and which are dead, judged from their beats: plain logic without I/O or clock.

Each node writes its key in a bucket every BEAT seconds, and hears all nodes' writes, its own among them.
Silence is measured by what it hears of itself: a node that was halted or cut off has heard nothing of itself
either, and judges nobody until it does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

BEAT = 0.5
"""Seconds between two beats of a node."""
UNSURE_AFTER = 1.0
"""Seconds of silence after which a node may be dead: it is, where nobody answers for it either."""
DEAD_AFTER = 3.0
"""Seconds of silence after which a node is dead whatever else."""
NOBODY_WITHIN = 0.5
"""Two requests within so many seconds that nobody answered: NATS has no connection of the node."""


class Life(Enum):
    ALIVE = "alive"
    UNSURE = "unsure"
    DEAD = "dead"


@dataclass(frozen=True)
class Identity:
    """One run of a node."""

    node: str
    incarnation: str
    """Another one after each start."""


@dataclass(frozen=True)
class Condition:
    """How this node is, for the others."""

    streams: int
    viewers: int
    lag: float
    """Seconds."""
    open: bool
    """Whether it takes publishers."""
    draining: bool


@dataclass(frozen=True)
class NodeState:
    """What a node says of itself with each beat."""

    identity: Identity
    version: str
    """Of the program."""
    url: str
    """Where it listens, for operators."""
    streams: int
    viewers: int
    lag: float
    """How late its event loop is, in seconds."""
    open: bool
    """Whether it takes publishers: it does not while it drains or is not ready."""
    draining: bool
    leaves: bool = False
    """Whether this is its last beat."""


@dataclass
class _Heard:
    state: NodeState
    at: float


class NodeView:
    """The nodes as one of them, `own`, sees them. Times are seconds of one clock that never goes back."""

    def __init__(self, own: Identity) -> None:
        self._own = own
        self._connected_at: float | None = None
        self._heard_self: float | None = None
        self._nodes: dict[str, _Heard] = {}
        """By name: what was heard last, also of nodes that are dead or have left."""
        self._unanswered: dict[Identity, deque[float]] = {}
        self._past: set[Identity] = set()
        """Runs of nodes that are over for sure."""

    def connected(self, now: float) -> None:
        """NATS is there: what was not heard meanwhile is no sign of anything."""
        self._connected_at = now
        self._heard_self = None
        self._unanswered.clear()

    def disconnected(self) -> None:
        self._connected_at = None

    def heard(self, state: NodeState, now: float) -> None:
        """A beat came in."""
        identity = state.identity
        if identity in self._past:
            return  # a late one
        if identity == self._own:
            self._heard_self = now
        known = self._nodes.get(identity.node)
        if known is not None and known.state.identity != identity:
            self._past.add(known.state.identity)
        if state.leaves:
            self._past.add(identity)
        self._nodes[identity.node] = _Heard(state, now)
        self._unanswered.pop(identity, None)

    def nobody_answered(self, identity: Identity, now: float) -> None:
        """NATS said that nobody subscribes to what this node would subscribe to."""
        self._unanswered.setdefault(identity, deque(maxlen=2)).append(now)

    def judge(self, identity: Identity) -> Life:
        """Whether this run of a node goes on."""
        if identity == self._own:
            return Life.ALIVE
        if identity in self._past:
            return Life.DEAD
        known = self._nodes.get(identity.node)
        if known is not None and known.state.identity != identity:
            return Life.DEAD  # one that was never heard, before the one that was
        if self._connected_at is None or self._heard_self is None:
            return Life.UNSURE
        since = self._connected_at if known is None else max(known.at, self._connected_at)
        if self._heard_self - since >= DEAD_AFTER:
            return Life.DEAD
        last = float("-inf") if known is None else known.at
        if known is not None and self._heard_self - last < UNSURE_AFTER:
            return Life.ALIVE
        # after NATS was away, nobody is dead until it had the time to connect, or did
        has_connected = last > self._connected_at or self._heard_self - self._connected_at >= DEAD_AFTER
        return Life.DEAD if has_connected and self._is_unanswered(identity) else Life.UNSURE

    def _is_unanswered(self, identity: Identity) -> bool:
        times = self._unanswered.get(identity)
        return times is not None and len(times) == 2 and 0 < times[1] - times[0] <= NOBODY_WITHIN

    def alive(self) -> list[NodeState]:
        """What each node said last that is not known to be dead, this one among them, by name."""
        return [
            heard.state
            for _, heard in sorted(self._nodes.items())
            if not heard.state.leaves and self.judge(heard.state.identity) is not Life.DEAD
        ]

    def state_of(self, node: str) -> NodeState | None:
        """What the node of this name said last."""
        heard = self._nodes.get(node)
        return None if heard is None else heard.state
