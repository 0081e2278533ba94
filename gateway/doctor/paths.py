"""Findings on the way that media takes: this machine's address as STUN and TURN servers see it."""

from __future__ import annotations

from gateway.doctor.finding import Finding, Level
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.ice import IceConnection
from gateway.webrtc.ice_servers import IceServer

PART = "media"


async def media_paths(config: WebRtcConfig, *, reached_from_outside: bool) -> list[Finding]:
    """What peers would be offered, gathered as for a publisher."""
    connection = IceConnection(config, None, on_datagram=lambda _: None, on_closed=lambda _: None)
    try:
        await connection.gather_candidates()
        found = list(connection.local_candidates)
    except OfferRefused as error:
        return [Finding(PART, Level.FAULT, str(error), "see docs/network.md")]
    finally:
        await connection.close()
    offered = ", ".join(f"{one.host}:{one.port} ({one.type})" for one in found)
    findings = [Finding(PART, Level.OK, f"peers are offered {offered}", name="offered")]
    kinds = {one.type for one in found}
    if not config.ice.public_ips:
        findings += [_answer(server, kinds) for server in _asked(config.ice.servers)]
        if reached_from_outside and not config.ice.servers:
            findings.append(
                Finding(
                    PART,
                    Level.WARNING,
                    "peers from outside are offered this machine's own addresses only",
                    "behind NAT name the public one with -icePublicIP, or a STUN server with -iceServers",
                    name="from outside",
                )
            )
    kept = [one for one in found if one.type == "srflx" and one.related_port != one.port]
    if kept:
        findings.append(
            Finding(
                PART,
                Level.WARNING,
                "the NAT before this machine changes ports: some peers will not get through",
                "forward a port and name it with -iceUdpMuxPort and -icePublicIP, or use a TURN server",
                name="NAT",
            )
        )
    return findings


def _asked(servers: tuple[IceServer, ...]) -> list[IceServer]:
    """Those that the gateway itself asks."""
    return [server for server in servers if server.is_turn or server.scheme == "stun"]


def _answer(server: IceServer, kinds: set[str]) -> Finding:
    """Whether a candidate came that such a server gives."""
    what, kind = ("relay", "relay") if server.is_turn else ("public address", "srflx")
    if kind in kinds:
        return Finding(PART, Level.OK, f"gives a {what}", name=server.url)
    detail, advice = f"gave no {what}", "check its address and credentials, and that UDP to it is let through"
    return Finding(PART, Level.WARNING, detail, advice, name=server.url)
