"""aioice, aiortc's ICE, for clients that share one process with a test: its settings, and a cable to pull."""

from __future__ import annotations

from typing import Any

import aioice.ice
from aiortc import RTCPeerConnection

from harness.insides import ice_of, sockets_of

CONSENT_FAILURES = 10_000
"""Consent checks in a row without an answer after which a client closes its connection."""


def prepare_clients() -> None:
    """Have clients of this process use loopback, and keep their connections however busy the process is.

    aioice leaves loopback out by itself. It takes an answer to a consent check only within half a second,
    and closes after six in a row without one: in a busy process answers wait longer behind the pictures.
    """
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    aioice.ice.CONSENT_FAILURES = CONSENT_FAILURES


class Cable:
    """Cuts a client's network: nothing goes out or comes in, and no socket closes."""

    def __init__(self, client: RTCPeerConnection) -> None:
        self._sockets: list[Any] = sockets_of(ice_of(client))

    def pull(self) -> None:
        for protocol in self._sockets:
            protocol.datagram_received = lambda data, addr: None
            protocol.transport.sendto = lambda data, addr=None: None

    def plug(self) -> None:
        for protocol in self._sockets:
            del protocol.datagram_received
            del protocol.transport.sendto
