"""Consent (RFC 7675): a peer that answers late is there, one that does not answer is gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aioice.stun import TransactionTimeout

from gateway.webrtc import ice
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.sdp import IceCredentials
from harness.waiting import DEADLINE


class Peer:
    """Answers `answers` consent checks, and none after them."""

    def __init__(self, answers: int) -> None:
        self.left = answers
        self.repeats: set[int] = set()

    async def request(self, *_: Any, retransmissions: int, **__: Any) -> None:
        self.repeats.add(retransmissions)
        await asyncio.sleep(0)
        if not self.left:
            raise TransactionTimeout
        self.left -= 1


@pytest.mark.asyncio
async def test_a_peer_is_gone_when_it_has_answered_nothing_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ice, "CONSENT_INTERVAL", 0.01)
    monkeypatch.setattr(ice, "CONSENT_LIFE", 0.2)
    gone: list[str] = []
    remote = IceCredentials("user", "password" * 3, False)
    connection = ice.IceConnection(WebRtcConfig(), remote, on_datagram=lambda _: None, on_closed=gone.append)
    peer = Peer(answers=40)
    connection._nominated[1] = SimpleNamespace(protocol=peer, remote_addr=("127.0.0.1", 9))
    connection.build_request = lambda *_, **__: None
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(DEADLINE):
        await connection.query_consent()
    assert peer.left == 0, "it was there for as long as it answered"
    assert asyncio.get_running_loop().time() - began > 40 * 0.008 + 0.19
    assert gone == ["the peer stopped answering (ICE consent expired)"]
    assert min(peer.repeats) >= 2, "half a second is not all that an answer may take"
