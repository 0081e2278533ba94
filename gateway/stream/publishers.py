"""A stream's publishers, one after the other, and its paid job that waits while nobody publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup, spawn
from gateway.media.frames import Frame
from gateway.reason import Ended, EndReason
from gateway.stream.held_job import RESUMABLE, HeldJob
from gateway.stream.publisher_session import PublisherSession
from gateway.stream.quotas import Reservation
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.publisher import Publisher

HELD_POLL = 0.1
"""Seconds between two checks whether a held job may wait on."""


class PublishedStream(Protocol):
    """What the publishers use of their stream."""

    @property
    def ending(self) -> bool:
        """Whether its end has been asked for, or has come."""

    def longest_hold(self) -> float:
        """Seconds that its job can be without pictures, by its credit; 0 where none may wait."""

    def on_frame(self, frame: Frame) -> None:
        """Take one frame of the publisher."""

    def on_held(self) -> None:
        """Nobody publishes: its job waits."""

    def on_resumed(self) -> None:
        """A publisher sends its first key frame to the job that waited."""


class Publishers:
    """Serves one publisher after the other. In between, the paid job waits for the same one to come back.

    `serve` and `check_held` are steps of the stream's life; `close` follows in every case. A stream of a
    former run of the gateway begins with `wait_for_first`.
    """

    def __init__(
        self,
        stream: PublishedStream,
        name: str,
        *,
        ingest_timeout: float,
        resume_timeout: Callable[[], float],
        reservation: Reservation,
        log: FilteringBoundLogger,
    ) -> None:
        self.reservation = reservation
        """The quotas of who publishes."""
        self.held_job: HeldJob | None = None
        """While the paid job waits."""
        self.resumed = 0
        """How often a publisher came back to the paid job."""
        self._stream = stream
        self._name = name
        self._ingest_timeout = ingest_timeout
        self._resume_timeout = resume_timeout
        self._log = log
        self._holds = asyncio.Event()
        self._came = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self.session = self._new_session()
        """The publisher's session, the last one while nobody publishes."""

    @property
    def peer(self) -> Publisher | None:
        """The publisher's peer; None while nobody publishes."""
        return None if self.session.left else self.session.peer

    async def answer_next(self, offer: str, config: WebRtcConfig) -> PublisherSession:
        """Answer the SDP of a publisher that is to `resume`. Raises OfferRefused, with nothing left open."""
        session = self._new_session()
        await session.answer(offer, config)
        return session

    def may_hold(self) -> bool:
        """Whether the paid job waits, or would if the publisher left."""
        return self.held_job is not None or (self._resume_timeout() > 0 and self._stream.longest_hold() > 0)

    def wait_for_first(self, seconds: float) -> None:
        """Hold the job of a former run: nobody publishes yet."""
        left = Ended(EndReason.PUBLISHER_LEFT, "the gateway was started again")
        self.session.leave(left)
        self.held_job = HeldJob(left, timeout=seconds, credit=seconds)
        self._holds.set()
        self._log.info("job of a former run waits for its publisher", seconds=round(seconds, 1))

    def resume(self, session: PublisherSession, reservation: Reservation) -> None:
        """Have another session of the same publisher go on with the paid job."""
        if self.held_job is None:
            self._hold(Ended(EndReason.PUBLISHER_LEFT, "the publisher began a new session"))
        assert self.held_job is not None
        self.reservation.release()
        self.reservation = reservation
        former, self.session = self.session, session
        former.leave(self.held_job.left)
        spawn(former.close(), name=f"publisher-close {self._name}")
        self.held_job.publisher_came()
        self._came.set()

    def leave(self, reason: EndReason, detail: str) -> None:
        """The publisher ended its session: the paid job is held where it may be."""
        self.session.leave(Ended(reason, detail))

    def on_frame(self, frame: Frame) -> None:
        """Take one frame of the publisher."""
        if self.held_job is not None:
            self._go_on()
        self._stream.on_frame(frame)

    async def serve(self, group: TaskGroup) -> NoReturn:
        """Serve one publisher after the other. Raises Ended where none comes back to the paid job."""
        while True:
            session = self.session
            if session.peer is None:  # of a former run: the next one is the first
                await self._next_came()
                continue
            # a TaskGroup that fails as it is cancelled hides that: this task waits for it without being it
            running = group.create_task(session.run(), name=f"publisher {self._name}")
            await asyncio.wait([running])
            if session is self.session:
                self._hold(running.result())
            # in a task of its own: aioice's close takes the cancellation of who awaits it for its own
            self._closing = spawn(session.close(), name=f"publisher-close {self._name}")
            await asyncio.wait([self._closing])
            await self._next_came()

    async def check_held(self) -> NoReturn:
        """Raises Ended once the paid job may wait no longer."""
        while True:
            await self._holds.wait()
            if self.held_job is not None:
                self.held_job.check()
            await asyncio.sleep(HELD_POLL)

    async def close(self) -> None:
        """Close the session; its last figures are kept."""
        await self.session.close()
        if self._closing is not None:
            await asyncio.wait([self._closing])
        del self._stream  # which holds these publishers

    async def _next_came(self) -> None:
        await self._came.wait()
        self._came.clear()

    def _new_session(self) -> PublisherSession:
        return PublisherSession(ingest_timeout=self._ingest_timeout, sink=self.on_frame, log=self._log)

    def _hold(self, left: Ended) -> None:
        """Have the paid job wait for its publisher. Raises `left` where it may not."""
        if self._stream.ending or left.reason not in RESUMABLE or not self.may_hold():
            raise left
        self.reservation.release()
        if self.held_job is not None:
            self.held_job.publisher_left()
            return
        credit, timeout = self._stream.longest_hold(), self._resume_timeout()
        self.held_job = HeldJob(left, timeout=timeout, credit=credit)
        self._stream.on_held()
        self._log.info(
            "job waits for its publisher", detail=left.detail, seconds=round(min(timeout, credit), 1)
        )
        self._holds.set()

    def _go_on(self) -> None:
        self.held_job = None
        self._holds.clear()
        self.resumed += 1
        self._stream.on_resumed()
        self._log.info("publisher is back", resumed=self.resumed)
