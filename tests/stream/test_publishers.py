"""A stream's publishers, one after the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aioice
import pytest
import structlog

from gateway.aio.tasks import TaskGroup
from gateway.media.frames import Frame
from gateway.reason import EndReason
from gateway.stream.publishers import Publishers
from gateway.stream.quotas import Quotas
from gateway.webrtc.config import WebRtcConfig
from harness.waiting import within
from tests.webrtc.loopback import CodedTrack, aiortc_client, coded_pictures, offer_of, take_answer

pytestmark = pytest.mark.asyncio


class HoldingStream:
    """A stream whose job may wait for a minute."""

    ending = False

    def longest_hold(self) -> float:
        return 60.0

    def on_frame(self, frame: Frame) -> None: ...

    def on_held(self) -> None: ...

    def on_resumed(self) -> None: ...


async def test_an_end_that_comes_while_a_session_closes_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice's close takes the cancellation of who waits for it as that of its own task."""
    closing, shut = asyncio.Event(), aioice.Connection.close

    async def close(connection: aioice.Connection) -> None:
        closing.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.2)
        await shut(connection)

    monkeypatch.setattr(aioice.Connection, "close", close)
    publishers = Publishers(
        HoldingStream(),
        "cam",
        ingest_timeout=10.0,
        resume_timeout=lambda: 60.0,
        reservation=Quotas().take(()),
        log=structlog.get_logger(),
    )
    client = aiortc_client()
    client.addTrack(CodedTrack(coded_pictures(1)))
    await publishers.session.answer(await offer_of(client), WebRtcConfig())
    assert publishers.peer is not None
    await take_answer(client, publishers.peer.answer)

    async def serve() -> None:
        async with TaskGroup() as group:
            await publishers.serve(group)

    serving = asyncio.get_running_loop().create_task(serve())
    publishers.leave(EndReason.DELETED, "its publisher sent DELETE")
    await within(closing.wait(), what="the session to close")
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(serving, what="the end", deadline=5.0)
    await publishers.close()
    monkeypatch.undo()
    await client.close()
