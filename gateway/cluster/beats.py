"""Says again and again that this node lives, and hears what the others say: presence over NATS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import structlog

from gateway.aio.tasks import spawn
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterError
from gateway.cluster.presence import BEAT, DEAD_AFTER, Identity, NodeState, NodeView
from gateway.cluster.subjects import encode

log = structlog.get_logger("cluster")

FORMAT = 1
KEEP_KEY = 30.0
"""Seconds after which NATS removes the key of a node that is gone."""
LONG_PAUSE = DEAD_AFTER - 2 * BEAT
"""Seconds between two beats after which the others may soon take a node for dead."""
BEAT_AGAIN = 0.05
"""Seconds for which one beat between two others is enough, however many ask for one."""
MAX_BEAT = 4096
LAST_BEAT_TIMEOUT = 1.0


class Beats:
    """Writes this node's key every BEAT seconds, and tells `view` what all nodes write.

    `state` gives what this node says of itself. `stood_still` is called after a pause between two beats in
    which the others may have taken this node for dead: it was halted, or NATS took no beat.
    """

    def __init__(
        self,
        bus: Bus,
        bucket: Bucket,
        view: NodeView,
        state: Callable[[], NodeState],
        *,
        stood_still: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._bucket = bucket
        self._view = view
        self._state = state
        self._stood_still = stood_still
        self._clock = clock
        self._beaten_at = clock()
        self._between_at = clock() - BEAT_AGAIN
        self._failure: str | None = "it is not connected yet"

    @property
    def failure(self) -> str | None:
        """Why nothing is known of the other nodes; None where all is well."""
        return self._failure if self._bus.connected else "it cannot be reached"

    async def run(self) -> None:
        """Beat until cancelled."""
        self._bus.watch(self._changed)
        await self._bus.subscribe(f"{self._bucket.subject}*", self._hear)
        while True:
            await self._beat(self._state())
            now, former = self._clock(), self._beaten_at
            self._beaten_at = now
            if now - former >= LONG_PAUSE:
                self._stood_still()
            await asyncio.sleep(BEAT)

    def beat_now(self) -> None:
        """Beat once more, between two others."""
        now = self._clock()
        if now - self._between_at >= BEAT_AGAIN:
            self._between_at = now
            spawn(self._beat(self._state()), name="cluster beat")

    async def leave(self) -> None:
        """Tell the others that this run of the node is over."""
        try:
            async with asyncio.timeout(LAST_BEAT_TIMEOUT):
                await self._beat(replace(self._state(), leaves=True))
        except TimeoutError:
            pass

    async def _beat(self, state: NodeState) -> None:
        try:
            await self._bucket.put(encode(state.identity.node), to_json(state))
        except ClusterError as error:
            self._failure = str(error)
        else:
            self._failure = None

    def _changed(self, connected: bool) -> None:
        if connected:
            self._view.connected(self._clock())
        else:
            self._view.disconnected()

    def _hear(self, message: BusMessage) -> None:
        state = from_json(message.data)
        if state is not None:
            self._view.heard(state, self._clock())


def to_json(state: NodeState) -> bytes:
    return json.dumps({"v": FORMAT, **asdict(state)}).encode()


def from_json(data: bytes) -> NodeState | None:
    """What a node says; None for what cannot be read. Members of later releases are ignored."""
    if len(data) > MAX_BEAT:
        return None
    try:
        read = json.loads(data)
        return NodeState(
            Identity(str(read["identity"]["node"]), str(read["identity"]["incarnation"])),
            version=str(read["version"]),
            url=str(read["url"]),
            streams=int(read["streams"]),
            viewers=int(read["viewers"]),
            lag=float(read["lag"]),
            open=bool(read["open"]),
            draining=bool(read["draining"]),
            leaves=bool(read["leaves"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
