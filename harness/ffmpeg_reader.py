"""FFmpeg as a reader of the segments that a gateway relays."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import av

from harness.gateway import GatewayProcess
from harness.waiting import eventually

TLS = {"tls_verify": "0"}


async def channels(gateway: GatewayProcess, stream: str) -> tuple[str, str]:
    """The URLs of what goes to the worker, and of what comes back, once the stream has its job."""

    async def running() -> dict[str, Any] | None:
        orchestrator = (await gateway.status(stream))["orchestrator"]
        return orchestrator if orchestrator and orchestrator["manifest_id"] else None

    orchestrator = await eventually(running, what=f"a job of {stream}")
    channel = f"{orchestrator['url'].rstrip('/')}/ai/trickle/{orchestrator['manifest_id']}"
    return channel, channel + "-out"


class Read:
    """What FFmpeg made of a segment: times in seconds of its own clock, and when each picture came out."""

    def __init__(self) -> None:
        self.pictures: list[float] = []
        self.came: list[float] = []
        self.sound: list[float] = []
        self.keys = 0
        self.corrupt = 0
        self.sizes: set[tuple[int, int]] = set()

    def take(self, container: Any) -> Read:
        for frame in container.decode(*container.streams.video, *container.streams.audio):
            if isinstance(frame, av.VideoFrame):
                self.pictures.append(frame.time)
                self.came.append(time.monotonic())
                self.keys += frame.key_frame
                self.corrupt += frame.is_corrupt
                self.sizes.add((frame.width, frame.height))
            else:
                self.sound.append(frame.time)
        return self


def read_segment(source: str | bytes) -> Read:
    """One segment, by its URL through FFmpeg's own HTTP client or as it was kept. Any error is raised."""
    options = {"err_detect": "explode", "xerror": "1", **(TLS if isinstance(source, str) else {})}
    file = source if isinstance(source, str) else BytesIO(source)
    with av.open(file, format="mpegts", options=options, timeout=20) as container:
        for stream in container.streams:
            stream.codec_context.options = {"err_detect": "explode"}
            stream.codec_context.thread_count = 1
        return Read().take(container)
