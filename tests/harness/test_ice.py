"""A client in a busy process keeps its connection although its answers come late."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aioice
import aioice.ice
import pytest
from aioice import stun

from harness import ice
from harness.insides import selected_pair, sockets_of
from harness.waiting import DEADLINE

ANSWER_TIMEOUT = 0.02
LATE = 5 * ANSWER_TIMEOUT
CHECK_EVERY = 0.01


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", CHECK_EVERY)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", aioice.ice.CONSENT_FAILURES)
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)


async def connected() -> tuple[aioice.Connection, aioice.Connection]:
    """A client, and a peer that from now on answers its checks late."""
    client, peer = aioice.Connection(ice_controlling=True), aioice.Connection(ice_controlling=False)
    for one, other in ((client, peer), (peer, client)):
        await one.gather_candidates()
        other.remote_username, other.remote_password = one.local_username, one.local_password
        for candidate in one.local_candidates:
            await other.add_remote_candidate(candidate)
    for one in (client, peer):
        await one.add_remote_candidate(None)
    await asyncio.gather(client.connect(), peer.connect())
    for protocol in sockets_of(peer):
        protocol.send_stun = partial(_send_late, protocol.send_stun)
    return client, peer


def _send_late(send: Any, *message: Any) -> None:
    asyncio.get_running_loop().call_later(LATE, send, *message)


@pytest.mark.asyncio
async def test_late_answers_end_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    ice.prepare_clients()
    async with asyncio.timeout(DEADLINE):
        client, peer = await connected()
        monkeypatch.setattr(stun, "RETRY_RTO", ANSWER_TIMEOUT)
        await asyncio.sleep(20 * (CHECK_EVERY + ANSWER_TIMEOUT))
        assert selected_pair(client), "the client closed its connection"
        await client.close()
        await peer.close()
