"""Consent (RFC 7675) on real connections: a peer that answers late is there, a silent one is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aioice
import pytest
from aioice import stun
from typing_extensions import override

from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice import ConsentTiming, IceConnection
from gateway.webrtc.sdp import IceCredentials
from harness.ice import prepare_clients
from harness.waiting import eventually, within

FIRST_TIMEOUT = 0.05
"""Seconds that a check waits before it is sent again; 7 times that in all."""
CONSENT = ConsentTiming(interval=0.02, life=1.0)

prepare_clients()


class Peer(aioice.Connection):
    """A client that answers checks through `answer`."""

    def __init__(self) -> None:
        super().__init__(ice_controlling=True)
        self.answers = 0
        self.answer: Callable[..., None] = super().request_received

    @override
    def request_received(self, *request: Any) -> None:
        self.answers += 1
        self.answer(*request)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Peer, IceConnection, list[str]]]:
    """A client, the gateway's side, and why that says that it ended."""
    peer, ended = Peer(), list[str]()
    own = IceConnection(
        WebRtcConfig(),
        IceCredentials(peer.local_username, peer.local_password, False),
        on_datagram=lambda data: None,
        on_closed=ended.append,
        consent=CONSENT,
    )
    peer.remote_username, peer.remote_password = own.local_username, own.local_password
    for one, other in ((peer, own), (own, peer)):
        await one.gather_candidates()
        for candidate in one.local_candidates:
            await other.add_remote_candidate(candidate)
    await within(asyncio.gather(peer.connect(), own.connect()))
    try:
        yield peer, own, ended
    finally:
        await within(own.shut())
        await within(peer.close())


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stun, "RETRY_RTO", FIRST_TIMEOUT)


@pytest.mark.asyncio
async def test_a_peer_that_falls_silent_is_gone() -> None:
    async with connected() as (peer, _, ended):
        checks = peer.answers
        await eventually(lambda: peer.answers > checks + 5)
        assert not ended
        peer.answer = lambda *request: None
        silent = time.monotonic()
        await eventually(lambda: ended)
        assert ended == ["the peer stopped answering (ICE consent expired)"]
        assert time.monotonic() - silent > CONSENT.life - 2 * CONSENT.interval


@pytest.mark.asyncio
async def test_a_peer_that_answers_late_is_there() -> None:
    async with connected() as (peer, own, ended):
        loop, answer = asyncio.get_running_loop(), peer.answer
        peer.answer = partial(loop.call_later, 2 * FIRST_TIMEOUT, answer)  # type: ignore[assignment]
        began, checks = time.monotonic(), peer.answers
        await eventually(lambda: peer.answers > checks + 10 and time.monotonic() - began > 2 * CONSENT.life)
        assert not ended
        assert own.selected is not None
