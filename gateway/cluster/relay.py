"""Media between nodes: viewers are served by the node that was asked, whichever publishes the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from gateway.aio.tasks import spawn
from gateway.cluster.bus import Bus
from gateway.cluster.errors import ClusterError, NoAnswerInTime
from gateway.cluster.relayed_output import RelayedOutput
from gateway.cluster.shared_output import SharedOutput
from gateway.cluster.wire import Ask, encode_ask
from gateway.media.fanout import Fanout
from gateway.telemetry.metrics import RelayCounts

ANSWER_WITHIN = 0.5
"""Seconds that a viewer's answer waits for the owner: the viewer's codec is to suit the stream's profile."""


class MediaRelay:
    """The audience's `RemoteOutputs` over NATS.

    `is_live` says whether a name is published on this node, `request_key_frame` asks its publisher for a key
    frame, `epoch_of` gives a number for this node's right to the name, higher than each former owner's, 0 for
    none.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        *,
        is_live: Callable[[str], bool],
        request_key_frame: Callable[[str], None],
        epoch_of: Callable[[str], int],
    ) -> None:
        self._bus = bus
        self._node = node
        self._is_live = is_live
        self._request_key_frame = request_key_frame
        self._epoch_of = epoch_of
        self._shared: dict[str, SharedOutput] = {}
        self._relayed: dict[str, RelayedOutput] = {}
        self._gaps_before = 0
        self._dropped_before = 0

    def counts(self) -> RelayCounts:
        """What was lost so far."""
        return RelayCounts(
            self._gaps_before + sum(one.reception.gaps for one in self._relayed.values()),
            self._dropped_before + sum(one.dropped for one in self._shared.values()),
        )

    def began(self, name: str, output: Fanout) -> None:
        shared = self._shared.get(name)
        if shared is not None and shared.shares(output):
            return
        self.ended(name)
        self._shared[name] = SharedOutput(
            name,
            output,
            self._bus,
            epoch_of=lambda: self._epoch_of(name),
            request_key_frame=self._request_key_frame,
        )
        self._check(name)

    def ended(self, name: str) -> None:
        shared = self._shared.pop(name, None)
        if shared is not None:
            shared.close()
            self._dropped_before += shared.dropped
        self._check(name)

    async def is_elsewhere(self, name: str) -> bool:
        """Whether another node publishes this name, also where that one is silent now."""
        if name in self._relayed and self._relayed[name].reception.joined:
            return True
        subject = self._bus.subjects.ask_for_frames(name)
        try:
            await self._bus.ask(subject, encode_ask(Ask(self._node, 0)), timeout=ANSWER_WITHIN)
        except NoAnswerInTime:
            return True
        except ClusterError:
            return False
        return True

    async def watch(self, name: str, output: Fanout) -> None:
        relayed = self._relayed.get(name)
        if relayed is None:
            relayed = self._relayed[name] = RelayedOutput(
                name,
                output,
                self._bus,
                node=self._node,
                is_live=lambda: self._is_live(name),
                is_wanted=lambda: name in self._relayed,
            )
        relayed.viewers += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN):
                await relayed.asked.wait()

    def unwatch(self, name: str) -> None:
        relayed = self._relayed.get(name)
        if relayed is None:
            return  # it is closed
        relayed.viewers -= 1
        if relayed.viewers == 0:
            del self._relayed[name]
            self._gaps_before += relayed.reception.gaps
            spawn(relayed.close(), name=f"relay-close {name}")

    def watches(self, name: str) -> bool:
        return name in self._relayed

    def viewers_of(self, name: str) -> int:
        shared = self._shared.get(name)
        return 0 if shared is None else shared.leases.viewers

    def request_key_frame(self, name: str) -> None:
        if name in self._relayed:
            self._relayed[name].request_key_frame()

    async def close(self) -> None:
        """Share nothing more, and ask for nothing more."""
        for name in list(self._shared):
            self.ended(name)
        relayed = list(self._relayed.values())
        self._relayed.clear()
        await asyncio.gather(*(one.close() for one in relayed))

    def _check(self, name: str) -> None:
        if name in self._relayed:
            self._relayed[name].check()
