"""One publisher of a stream, from its offer until it leaves, with the time limits of its media."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.media.frames import AccessUnit, Frame
from gateway.reason import Ended, EndReason
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.ingest import IngestStats
from gateway.webrtc.publisher import Publisher

KEY_FRAME_TIMEOUT = 10.0
"""Seconds of media without a key frame after which a publisher is sent away."""
WITH_MEDIA = 0.5
"""Seconds after the last media in which another datagram counts as sent together with it."""
MEDIA_POLL = 0.25


class PublisherSession:
    """One WHIP session of a stream, and its `PublisherControl`. Its frames go to `sink` until it has left.

    Call `answer`, then `run`; `close` follows in every case. `ingest_timeout` is in seconds.
    """

    def __init__(
        self, *, ingest_timeout: float, sink: Callable[[Frame], None], log: FilteringBoundLogger
    ) -> None:
        self.id = secrets.token_hex(16)
        """Names the session in its Location."""
        self.grace = ingest_timeout
        """Seconds for which a connection that broke off may come back."""
        self.connected = asyncio.Event()
        self.key_frame = asyncio.Event()
        """Set by its first key frame."""
        self.peer: Publisher | None = None
        """None before `answer` and after the end."""
        self._ingest_timeout = ingest_timeout
        self._sink: Callable[[Frame], None] | None = sink
        self._log = log
        self._began = time.monotonic()
        self._left: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._last_stats: IngestStats | None = None

    async def answer(self, offer: str, config: WebRtcConfig) -> None:
        """Answer the publisher's SDP. Raises OfferRefused, with nothing left open."""
        if config.ice.grace is not None:
            self.grace = config.ice.grace
        self.peer = await Publisher.answer_offer(offer, config=config, sink=self._on_frame, log=self._log)

    def leave(self, why: Ended) -> None:
        """Send the publisher away. The first reason counts; further calls change nothing."""
        if not self._left.done():
            self._left.set_result(why)

    @property
    def left(self) -> bool:
        return self._left.done()

    @property
    def stats(self) -> IngestStats | None:
        """Its figures, the last ones after the end; None before `answer`."""
        return self._last_stats if self.peer is None else self.peer.stats()

    @property
    def silent_for(self) -> float:
        """Seconds since the last media; since the request where none came."""
        stats = self.stats
        last = None if stats is None else stats.last_media_at
        return time.monotonic() - (self._began if last is None else last)

    @property
    def interrupted(self) -> bool:
        """Whether its connection seems broken: nothing at all came since its last media."""
        if self.peer is None or not self.connected.is_set():
            return False
        return self.peer.last_received < time.monotonic() - self.silent_for + WITH_MEDIA

    async def run(self) -> Ended:
        """Serve the publisher. Returns why it left."""
        try:
            async with TaskGroup() as group:
                for step in (self._until_told, self._while_connected, self._while_media_flows):
                    group.create_task(step(), name=f"publisher {step.__name__}")
        except Ended as why:
            self.leave(why.without_frames())
        return self._left.result()

    async def close(self) -> None:
        """Close the peer; its last figures are kept. Idempotent."""
        self._left.cancel()
        self._sink = None  # which holds the stream
        if self.peer is not None:
            self._last_stats = self.peer.stats()
            peer, self.peer = self.peer, None
            await peer.close()

    # for its jobs

    @property
    def audio_agreed(self) -> bool:
        return self.peer is not None and self.peer.audio_agreed

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.peer is None else self.peer.size

    def request_key_frame(self) -> None:
        if self.peer is not None:
            self.peer.request_key_frame()

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        if self.peer is not None:
            self.peer.limit_bitrate(bits_per_second)

    # the steps

    def _on_frame(self, frame: Frame) -> None:
        if self.left or self._sink is None:
            return
        if isinstance(frame, AccessUnit) and frame.key:
            self.key_frame.set()
        self._sink(frame)

    async def _until_told(self) -> None:
        raise await asyncio.shield(self._left)

    async def _while_connected(self) -> None:
        assert self.peer is not None
        try:
            await self.peer.connect()
        except ConnectFailed as error:
            raise Ended(EndReason.INGEST_TIMEOUT, str(error)) from error
        self._log.info("publisher connected", seconds=round(time.monotonic() - self._began, 3))
        self.connected.set()
        why = await self.peer.wait_closed()
        raise Ended(EndReason.PUBLISHER_LEFT, why)

    async def _while_media_flows(self) -> None:
        await self.connected.wait()
        connected_at = time.monotonic()
        silence = 0.0
        while True:
            # while media comes, no limit can be reached sooner than this
            spare = min(self._ingest_timeout, self.grace) - silence if self.key_frame.is_set() else 0.0
            await asyncio.sleep(max(MEDIA_POLL, spare))
            now = time.monotonic()
            silence = min(self.silent_for, now - connected_at)
            if silence > (self.grace if self.interrupted else self._ingest_timeout):
                raise Ended(EndReason.INGEST_TIMEOUT, f"no media came for {silence:.1f} s")
            if not self.key_frame.is_set() and now - connected_at > KEY_FRAME_TIMEOUT:
                raise Ended(
                    EndReason.NO_KEY_FRAME,
                    f"media came for {KEY_FRAME_TIMEOUT:.0f} s without a key frame: set the encoder's "
                    "key frame interval to 2 s or less, and turn intra refresh off",
                )
