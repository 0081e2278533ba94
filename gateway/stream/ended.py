"""The last status of streams that ended within the last minute; the streams themselves are freed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.stream.seam import Json, PublishRequest
from gateway.stream.status import stream_status
from gateway.stream.stream import Stream

KEEP_ENDED = 60.0
"""Seconds for which a stream's status is kept after its end."""
MAX_ENDED = 1000
"""The most that are kept: the newest."""


@dataclass(frozen=True, slots=True)
class EndedStream:
    """What is kept of a stream."""

    request: PublishRequest
    """Without its parameters, which may be large."""
    at: float
    _status: str

    @classmethod
    def of(cls, stream: Stream, at: float) -> EndedStream:
        status = json.dumps(stream_status(stream, viewers=0, whep_url=""))
        return cls(replace(stream.request, params={}), at, status)

    def status(self, *, viewers: int, whep_url: str) -> Json:
        """The stream's status at its end, with the viewers that its name has now."""
        status: Json = json.loads(self._status)
        gateway_status = status["gateway_status"]
        gateway_status["whep_url"] = whep_url
        gateway_status["output"]["viewers"] = viewers
        return status


class EndedStreams:
    """Keeps the newest stream of each id for a minute after its end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_id: dict[str, EndedStream] = {}
        """The one that ended last comes last."""

    def add(self, stream: Stream) -> None:
        self._by_id.pop(stream.request.stream_id, None)
        self._by_id[stream.request.stream_id] = EndedStream.of(stream, self._clock())
        self._drop_old()

    def find(self, name_or_id: str) -> EndedStream | None:
        """The newest of this name or id."""
        self._drop_old()
        for ended in reversed(self._by_id.values()):
            if name_or_id in (ended.request.stream_id, ended.request.name):
                return ended
        return None

    def forget(self, name: str) -> None:
        """Drop those of this name: another node knows a newer one."""
        for stream_id, ended in list(self._by_id.items()):
            if name in (stream_id, ended.request.name):
                del self._by_id[stream_id]

    def _drop_old(self) -> None:
        oldest = self._clock() - KEEP_ENDED
        for stream_id, ended in list(self._by_id.items()):
            if ended.at > oldest and len(self._by_id) <= MAX_ENDED:
                break
            del self._by_id[stream_id]
