"""Key frames for viewers that join, and a publisher's bitrate that the way to the server can carry."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn, Protocol

from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from gateway.stream.seam import PublisherControl
from gateway.webrtc.congestion import LossBasedEstimate
from gateway.webrtc.viewer import ViewerStats


class ServerConnection(Protocol):
    """The part of a connection to a server that is needed here."""

    def sent(self) -> ViewerStats | None: ...

    def request_key_frame(self) -> None: ...


async def keep_feeding_back(
    connection: ServerConnection,
    publisher: PublisherControl,
    highest: int,
    timing: ServerTiming = DEFAULT_TIMING,
) -> NoReturn:
    """Run until cancelled. `highest` is the most that the publisher may send, in bits per second.

    The bitrate follows the loss that the server reports, not the estimate (REMB) that it sends: aiortc's
    falls by itself on a way that loses nothing.
    """
    estimate = LossBasedEstimate(highest, highest)
    asked, sent_before = time.monotonic(), 0
    while True:
        await asyncio.sleep(timing.report_interval)
        sent = connection.sent()
        if sent is not None:
            bits = (sent.bytes - sent_before) * 8 / timing.report_interval
            sent_before = sent.bytes
            publisher.limit_bitrate(estimate.update(sent.fraction_lost, int(bits)))
        now = time.monotonic()
        if now - asked >= timing.key_frame_interval:
            asked = now
            connection.request_key_frame()
