"""The streams that are watched by HLS: which begin, and when they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.media.fanout import Fanout
from gateway.outputs.hls_streams import HlsStreams, NoHls
from gateway.stream.admission import Admission
from gateway.stream.audience import Audience
from gateway.stream.quotas import Quotas
from gateway.webrtc.config import WebRtcConfig
from harness.waiting import eventually


class OtherNode:
    """Another node that publishes every name."""

    def __init__(self) -> None:
        self.viewers: Counter[str] = Counter()

    def began(self, name: str, output: Fanout) -> None:
        pass

    def ended(self, name: str) -> None:
        pass

    async def watch(self, name: str, output: Fanout) -> None:
        self.viewers[name] += 1

    def unwatch(self, name: str) -> None:
        self.viewers[name] -= 1

    def watches(self, name: str) -> bool:
        return self.viewers[name] > 0

    def viewers_of(self, name: str) -> int:
        return 0

    def request_key_frame(self, name: str) -> None:
        pass


class Watched:
    """HLS of names that another node publishes."""

    def __init__(self) -> None:
        self.overloaded = False
        self.live = True
        self.other = OtherNode()
        audience = Audience(
            WebRtcConfig(),
            Quotas(),
            Admission(lambda: self.overloaded),
            is_live=lambda name: False,
            request_key_frame=lambda name: None,
        )
        audience.remote = self.other
        self.streams = HlsStreams(audience, "true", self._is_live, first=0.01, look=0.01)

    async def _is_live(self, name: str) -> bool:
        return self.live

    async def refused(self) -> NoHls:
        with pytest.raises(NoHls) as refused:
            await self.streams.playlist("cam")
        return refused.value


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    one = Watched()
    try:
        yield one
    finally:
        await one.streams.close()


@pytest.mark.asyncio
async def test_who_is_refused_takes_no_viewer_of_another_nodes_away() -> None:
    async with watched() as one:
        one.other.viewers["cam"] = 1
        one.overloaded = True
        refused = await one.refused()
        assert refused.busy
        assert "watch on another one" in str(refused)
        assert len(one.streams) == 0
        assert one.other.viewers["cam"] == 1
        one.overloaded = False
        await one.refused()
        await eventually(lambda: one.other.viewers["cam"] == 2, what="the stream by HLS")
    assert one.other.viewers["cam"] == 1


@pytest.mark.asyncio
async def test_a_stream_that_ended_is_not_held_by_those_who_go_on_asking() -> None:
    async with watched() as one:
        await one.refused()
        for _ in range(5):
            assert (await one.refused()).busy
        assert len(one.streams) == 1
        one.live = False

        async def asked_in_vain() -> bool:
            return not (await one.refused()).busy

        await eventually(asked_in_vain, what="its end")
        assert len(one.streams) == 0
        assert one.other.viewers["cam"] == 0
