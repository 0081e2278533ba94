"""Sound of an app that comes over a channel of its own: Opus in MPEG-TS."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.media.frames import Frame, OpusPacket
from gateway.media.timeline import MAX_SKEW
from gateway.media.ts_demuxer import TsDemuxer
from gateway.trickle.errors import ChannelError
from gateway.trickle.subscriber import TrickleSubscriber
from gateway.trickle.wire import NEXT


class SoundPlacer:
    """Gives sound times on the pictures' clock, as an app may count those of its sound from zero.

    Times that are near the newest picture's are kept as they are.
    """

    def __init__(self) -> None:
        self._offset = 0

    def place(self, packet: OpusPacket, newest: int | None) -> OpusPacket:
        """The packet; `newest` is the decoding time of the newest picture, None before the first."""
        if newest is not None and abs(packet.pts + self._offset - newest) > MAX_SKEW:
            near = abs(packet.pts - newest) <= MAX_SKEW
            self._offset = 0 if near else newest - packet.pts
        return OpusPacket(packet.data, packet.pts + self._offset) if self._offset else packet


class SoundChannel:
    """One app's. The URL is a secret: `name` stands for it in logs. With `resume` it is read from now on."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        log: FilteringBoundLogger,
        *,
        name: str,
        resume: bool,
    ) -> None:
        self._channel = TrickleSubscriber(http, url, name=name, start=NEXT if resume else 0, log=log)
        self._placer = SoundPlacer()
        self._log = log

    async def read(self, show: Callable[[Frame], None], newest: Callable[[], int | None]) -> None:
        """Hand on what comes until the channel ends: the pictures go on without it."""
        demuxer = TsDemuxer()
        try:
            async for segment in self._channel.segments():
                async for chunk in segment.chunks():
                    self._hand_on(demuxer.feed(chunk), show, newest())
                if segment.truncated:
                    demuxer.discard()
                self._hand_on(demuxer.flush(), show, newest())
        except ChannelError as error:
            self._log.info("no more sound of the app", error=type(error).__name__)
        finally:
            await self._channel.close()

    def _hand_on(self, frames: list[Frame], show: Callable[[Frame], None], newest: int | None) -> None:
        for frame in frames:
            if isinstance(frame, OpusPacket):
                show(self._placer.place(frame, newest))
