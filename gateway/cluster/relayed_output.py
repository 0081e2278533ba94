"""The output of a stream that is watched here and published on another node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.bus import Bus, BusMessage, BusSubscription
from gateway.cluster.errors import ClusterError
from gateway.cluster.leases import LEASE
from gateway.cluster.reception import FrameReception
from gateway.cluster.wire import Ask, BadMediaMessage, decode_held, encode_ask
from gateway.media.fanout import Fanout
from gateway.media.gop import MAX_GOP_ENTRIES

RENEW_EVERY = 1.0
"""Seconds between two requests to the owner, and to find one where there is none."""
RENEW_TIMEOUT = 0.5
JOIN_TIMEOUT = 3.0
"""Time limits for an answer, in seconds; that to who joins may hold megabytes."""
KEY_FRAME_EVERY = 0.5
"""Seconds between two requests for a key frame, at least."""


class RelayedOutput:
    """Has the frames of a name come to `output` while another node publishes it.

    It asks the owner, whoever that is by now; while `is_live` says that the name is published on this node,
    it asks for nothing. `close` follows in every case.
    """

    def __init__(
        self,
        name: str,
        output: Fanout,
        bus: Bus,
        *,
        node: str,
        is_live: Callable[[], bool],
        is_wanted: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.viewers = 0
        """How many watch it here."""
        self.asked = asyncio.Event()
        """Set once an owner has answered, or is known not to."""
        self.reception = FrameReception()
        self._output = output
        self._bus = bus
        self._node = node
        self._is_live = is_live
        self._is_wanted = is_wanted
        self._clock = clock
        self._heard_at = clock()
        self._key_asked_at = float("-inf")
        self._key_needed = False
        self._wake = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._subscription: BusSubscription | None = None
        self._log: FilteringBoundLogger = structlog.get_logger("relay").bind(stream=name)
        self._frames_subject = bus.subjects.frames(name)
        self._ask_subject = bus.subjects.ask_for_frames(name)
        self._task: asyncio.Task[None] | None = spawn(self._run(), name=f"relay-watch {name}")

    def check(self) -> None:
        """Whether this node publishes the name has changed."""
        self._wake.set()

    def request_key_frame(self) -> None:
        """Ask the owner for a key frame, unless that was done just now."""
        if self.reception.joined and self._clock() - self._key_asked_at >= KEY_FRAME_EVERY:
            self._key_needed = True
            self._wake.set()

    async def close(self) -> None:
        """Tell the owner that nobody watches here."""
        task, self._task = self._task, None  # which refers to it, as its end does
        await cancel(task)
        await self._stop_listening()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._is_live():
                await self._stop_listening()
                self.asked.set()
                await self._wake.wait()
                continue
            if self._subscription is None:
                self._heard_at = self._clock()
                self._subscription = await self._bus.subscribe(self._frames_subject, self._on_message)
            await self._ask()
            self.asked.set()
            if not self.reception.news:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_EVERY):
                        await self._wake.wait()

    async def _ask(self) -> None:
        """Ask the owner for the stream, or to go on with it."""
        reception = self.reception
        joins = reception.news or not reception.joined
        reception.news = False
        key_needed, self._key_needed = self._key_needed, False
        if key_needed:
            self._key_asked_at = self._clock()
        ask = Ask(self._node, self.viewers, reception.epoch, joins, key_needed)
        seconds = JOIN_TIMEOUT if joins else RENEW_TIMEOUT
        try:
            async with asyncio.timeout(seconds) as self._patience:
                data = await self._bus.ask(self._ask_subject, encode_ask(ask), timeout=2 * seconds)
            held = decode_held(data, MAX_GOP_ENTRIES)
        except (ClusterError, BadMediaMessage, TimeoutError) as error:
            self._check_silence(error)
            return
        finally:
            self._patience = None
        if self._is_live():
            return
        self._heard_at = self._clock()
        if not joins:
            reception.news |= held.epoch > reception.epoch or not reception.joined
            return
        frames = reception.join(held)
        if frames is not None:
            self._output.new_source(frames)
            self._log.info("output comes from another node", frames=len(frames), viewers=self.viewers)

    def _on_message(self, message: BusMessage) -> None:
        if self._is_live() or self._subscription is None:
            return
        reception = self.reception
        was_joined, began = reception.joined, reception.began
        frame = reception.take(message.data)
        if frame is not None:
            self._heard_at = self._clock()
            self._output.push(frame)
        elif was_joined and not reception.joined:
            self._output.clear()
        if reception.began > began:
            self._stop_waiting()
        if reception.news:
            self._wake.set()
        elif reception.joined and reception.waits_for_key:
            self.request_key_frame()

    def _stop_waiting(self) -> None:
        """Wait no longer for the answer of whoever was asked before: somebody else has the stream now."""
        patience = self._patience
        if patience is not None and not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time())

    def _check_silence(self, error: Exception) -> None:
        """Forget an owner of whom nothing was heard for too long: any other may take its place."""
        reception = self.reception
        if reception.epoch == 0 or self._clock() - self._heard_at <= LEASE:
            return
        if reception.joined:
            self._log.info("the node that has the stream is silent", detail=str(error))
            self._output.clear()
        reception.forget()

    async def _stop_listening(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        self.reception.forget()
        await subscription.close()
        if not self._is_wanted() or self._is_live():
            with suppress(ClusterError):  # the lease ends by itself, too
                await self._bus.publish(self._ask_subject, encode_ask(Ask(self._node, 0)))
