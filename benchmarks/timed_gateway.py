"""The daemon with a clock at both ends of the path from publisher to orchestrator.

Takes the gateway's flags. SIGUSR1 begins the measuring; at the end the delays go to the file BENCH_DELAYS, a
JSON list of seconds, one a frame: from the datagram that completed it to the moment at which the connection
has taken its last byte.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

from gateway.__main__ import main
from gateway.trickle.segment_writer import SegmentWriter
from gateway.webrtc.publisher import Publisher

delays: deque[float] = deque(maxlen=1_000_000)
_packet = {"came": 0.0}
"""Arrival of the packet that is being handled, 0 at other times: control messages are no frames."""
_waiting: dict[SegmentWriter, deque[float]] = {}
_handed: dict[SegmentWriter, float] = {}


def install() -> None:
    take, write, next_chunk, end = (
        Publisher.on_rtp,
        SegmentWriter.write,
        SegmentWriter.next_chunk,
        SegmentWriter.end,
    )

    def timed_take(self: Publisher, data: bytes) -> None:
        _packet["came"] = time.monotonic()
        take(self, data)
        _packet["came"] = 0.0

    def timed_write(self: SegmentWriter, data: bytes) -> bool:
        taken = write(self, data)
        if taken and data:
            _waiting.setdefault(self, deque()).append(_packet["came"])
        return taken

    async def timed_next_chunk(self: SegmentWriter) -> bytes:
        # The connection asks for more once it has taken what it was given.
        came = _handed.pop(self, None)
        if came:
            delays.append(time.monotonic() - came)
        chunk = await next_chunk(self)
        if chunk and _waiting.get(self):
            _handed[self] = _waiting[self].popleft()
        return chunk

    def forgetting_end(self: SegmentWriter) -> None:
        _waiting.pop(self, None)
        _handed.pop(self, None)
        end(self)

    parts: Any = (
        (Publisher, "on_rtp", timed_take),
        (SegmentWriter, "write", timed_write),
        (SegmentWriter, "next_chunk", timed_next_chunk),
        (SegmentWriter, "end", forgetting_end),
    )
    for owner, name, replacement in parts:
        setattr(owner, name, replacement)


if __name__ == "__main__":
    install()
    signal.signal(signal.SIGUSR1, lambda *_: delays.clear())
    try:
        main()
    finally:
        Path(os.environ["BENCH_DELAYS"]).write_text(json.dumps(list(delays)))
