"""What goes back along a connection: key frames for who joins, and a publisher that stays within its rate."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn, Protocol

from gateway.stream.seam import PublisherControl
from gateway.webrtc.congestion import LossBasedEstimate
from gateway.webrtc.viewer import ViewerStats

KEY_FRAME_EVERY = 2.0
"""Seconds between two key frames: ComfyStream's encoder makes one only when it is asked."""
REPORT_EVERY = 1.0


class Connection(Protocol):
    """The part of a connection to a server that is looked at."""

    def sent(self) -> ViewerStats | None: ...

    def request_key_frame(self) -> None: ...


async def keep_feeding_back(connection: Connection, publisher: PublisherControl, highest: int) -> NoReturn:
    """Until cancelled. `highest` is the most that the publisher may send, in bits a second.

    The way to the server is judged by the loss that it reports, not by the estimate that it sends: aiortc's
    falls by itself on a way that loses nothing.
    """
    estimate = LossBasedEstimate(highest, highest)
    asked, sent_before = time.monotonic(), 0
    while True:
        await asyncio.sleep(REPORT_EVERY)
        sent = connection.sent()
        if sent is not None:
            bits = (sent.bytes - sent_before) * 8 / REPORT_EVERY
            sent_before = sent.bytes
            publisher.limit_bitrate(estimate.update(sent.fraction_lost, int(bits)))
        now = time.monotonic()
        if now - asked >= KEY_FRAME_EVERY:
            asked = now
            connection.request_key_frame()
