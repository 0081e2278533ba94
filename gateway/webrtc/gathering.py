"""Gathering of the gateway's own ICE candidates (RFC 8445, 5.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aioice import Candidate
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, relayed_candidate, server_reflexive_candidate
from aioice.stun import TransactionError

from gateway.aio import tasks
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.ice_servers import IceServer
from gateway.webrtc.udp import (
    LOOPBACK,
    DatagramConnection,
    MediaProtocol,
    NoFreePort,
    address,
    bind,
    is_loopback,
    local_addresses,
    log,
)

COMPONENT = 1
"""RTP and RTCP share one (RFC 8834, 4.5)."""

Gathered = tuple[list[StunProtocol], list[Candidate]]


async def gather(
    connection: DatagramConnection, config: WebRtcConfig, *, username: str, near: bool
) -> Gathered:
    """Open a connection's sockets, or join the shared ones, and return its candidates.

    `near` puts loopback first, for a peer on this machine. Raises OfferRefused (`no_udp_port`) where
    nothing could be bound.
    """
    if config.mux is not None:
        bound = await config.mux.join(connection, username)
    else:
        bound = await _bind(connection, config)
    bound.sort(key=lambda one: is_loopback(one[1][0]) != near)
    hosts: list[Candidate] = []
    for preference, (protocol, (host, port)) in zip(range(65535, 0, -2), bound, strict=False):
        protocol.local_candidate = host_candidate(host, port, preference)
        hosts.append(protocol.local_candidate)
    protocols: list[StunProtocol] = [protocol for protocol, _ in bound]
    if config.ice.public_ips:
        return protocols, advertised(hosts, config.public_ips)
    relays, found = await _ask_servers(connection, config, [protocol for protocol, _ in bound])
    return protocols + relays, hosts + found


def host_candidate(host: str, port: int, preference: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=COMPONENT,
        transport="udp",
        priority=candidate_priority(COMPONENT, "host", preference),
        host=host,
        port=port,
        type="host",
    )


def advertised(hosts: Sequence[Candidate], public_ips: Sequence[str]) -> list[Candidate]:
    """Candidates with public addresses in place of private ones, on the same ports.

    Each address and port comes once. This machine's own addresses follow, for peers in the same network.
    """
    found: dict[tuple[str, int], Candidate] = {}
    for public in public_ips:
        for own in hosts:
            if not is_loopback(own.host) and (":" in own.host) == (":" in public):
                candidate = host_candidate(public, own.port, 1)
                candidate.priority = own.priority + (1 << 8)
                found.setdefault((public, own.port), candidate)
    for own in hosts:
        found.setdefault((own.host, own.port), own)
    return list(found.values())


async def _bind(
    connection: DatagramConnection, config: WebRtcConfig
) -> list[tuple[MediaProtocol, tuple[str, int]]]:
    bound = []
    failure: OSError | None = None
    for host in local_addresses(config.ice.interfaces, loopback=config.loopback):
        try:
            bound.append(await bind(lambda: MediaProtocol(connection), host, config.ice.udp_ports))
        except NoFreePort as error:
            failure = error
        except OSError as error:
            log.debug("address not usable", address=host, error=str(error))
            failure = failure or error
    if failure is not None and not bound:
        raise OfferRefused(
            "no_udp_port", f"no UDP port is free ({failure}): try again, or widen -iceUdpPortRange"
        )
    return bound


async def _ask_servers(
    connection: DatagramConnection, config: WebRtcConfig, protocols: Sequence[MediaProtocol]
) -> Gathered:
    """The reflexive and relayed candidates of all servers that answer in time."""
    asking: list[asyncio.Task[tuple[Candidate, StunProtocol | None] | None]] = []
    for server in config.ice.servers:
        if server.scheme == "stun":
            asking += [
                tasks.spawn(_reflexive(protocol, server), name="ice stun")
                for protocol in protocols
                if ":" not in protocol.local_candidate.host and protocol.local_candidate.host != LOOPBACK
            ]
        elif server.scheme in ("turn", "turns"):
            asking.append(tasks.spawn(_relayed(connection, server), name="ice turn"))
    if not asking:
        return [], []
    try:
        done, late = await asyncio.wait(asking, timeout=config.gather_timeout)
    except asyncio.CancelledError:
        await tasks.cancel(*asking)
        raise
    await tasks.cancel(*late)
    if late:
        log.info("STUN or TURN servers did not answer in time", seconds=config.gather_timeout)
    answers = [answer for task in done if (answer := task.result()) is not None]
    relays = [relay for _, relay in answers if relay is not None]
    found = {(candidate.host, candidate.port): candidate for candidate, _ in answers}
    return relays, list(found.values())


async def _reflexive(
    protocol: MediaProtocol, server: IceServer
) -> tuple[Candidate, StunProtocol | None] | None:
    try:
        return await server_reflexive_candidate(protocol, (server.host, server.port))
    except (OSError, TransactionError) as error:
        _no_answer(server, error)
        return None


async def _relayed(
    connection: DatagramConnection, server: IceServer
) -> tuple[Candidate, StunProtocol | None] | None:
    over_tls = server.scheme == "turns"
    username, credential = server.credentials(time.time()) or (None, None)
    try:
        return await relayed_candidate(
            component=COMPONENT,
            hide_related_address=False,
            protocol_factory=lambda: MediaProtocol(connection),
            turn_server=(server.host, server.port),
            turn_username=username,
            turn_password=credential,
            turn_ssl=over_tls,
            turn_transport=server.transport or ("tcp" if over_tls else "udp"),
        )
    except (OSError, TransactionError) as error:
        _no_answer(server, error)
        return None


def _no_answer(server: IceServer, error: Exception) -> None:
    where = address(server.host, server.port)
    log.info("a STUN or TURN server gave no candidate", server=where, error=str(error))
