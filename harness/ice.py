"""Settings of aioice, aiortc's ICE, for clients that share one process with a test."""

from __future__ import annotations

import aioice.ice

CONSENT_FAILURES = 10_000
"""Consent checks in a row without an answer after which a client closes its connection."""


def prepare_clients() -> None:
    """Have clients of this process use loopback, and keep their connections however busy the process is.

    aioice leaves loopback out by itself. It takes an answer to a consent check only within half a second,
    and closes after six in a row without one: in a busy process answers wait longer behind the pictures.
    """
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    aioice.ice.CONSENT_FAILURES = CONSENT_FAILURES
