"""Flags and settings of ICE: addresses, ports, STUN and TURN servers."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from gateway.flags import DURATION, LIST, POSITIVE_DURATION, Flag, FlagError, Kind, Parsed, within
from gateway.webrtc.ice_servers import IceServer, parse_ice_servers

CONSENT_LIFE = 30.0
"""Seconds after which nothing may be sent to a silent peer (RFC 7675, 5.1); upper limit of -iceGrace."""

PortRange = tuple[int, int]
"""The first and the last UDP port that may be used."""


def _parse_port(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or not 0 < int(value) < 65536:
        raise ValueError(value)
    return int(value)


def _parse_port_range(value: str) -> PortRange:
    first, dash, last = value.partition("-")
    ports = _parse_port(first), _parse_port(last if dash else first)
    if ports[0] > ports[1]:
        raise ValueError(value)
    return ports


def _parse_addresses(value: str) -> tuple[str, ...]:
    """IP addresses in their usual form, and DNS names, each once."""
    texts = (text.strip() for text in value.split(","))
    return tuple(dict.fromkeys(_parse_address(text) for text in texts if text))


def _parse_address(text: str) -> str:
    if len(text) < 254 and _DNS_NAME.fullmatch(text):
        return text.lower()
    return str(ipaddress.ip_address(text))


ICE_SERVERS = Kind(
    "list",
    "stun:host:port and turn:user:password@host:port?transport=udp, comma-separated",
    parse_ice_servers,
    secret=True,
)
SECRET = Kind("text", "any text", str, secret=True)
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"({_LABEL}\.)+(?![0-9]+\.?$){_LABEL}\.?")
ADDRESSES = Kind("list", "IP addresses or DNS names, comma-separated", _parse_addresses)
PORT = Kind("port", "a port from 1 to 65535", _parse_port)
PORT_RANGE = Kind("ports", "first-last, ports from 1 to 65535", _parse_port_range)
GRACE = within(DURATION, "a duration above 0, at most 30s", lambda seconds: 0 < seconds <= CONSENT_LIFE)

ICE_FLAGS: tuple[Flag, ...] = (
    Flag(
        "iceServers",
        ICE_SERVERS,
        None,
        "Tell clients these STUN and TURN servers; use them too without -icePublicIP",
    ),
    Flag(
        "turnSecret",
        SECRET,
        None,
        "Make credentials for TURN servers of -iceServers with this shared secret",
        "those before their hosts",
    ),
    Flag(
        "icePublicIP",
        ADDRESSES,
        None,
        "Offer these public addresses, or DNS names' of each minute: for use behind NAT",
    ),
    Flag("iceInterfaces", LIST, None, "Use these network interfaces for media, by name or address", "all"),
    Flag("iceUdpPortRange", PORT_RANGE, None, "Use UDP ports of this range for media, first-last", "any"),
    Flag("iceUdpMuxPort", PORT, None, "Use this one UDP port for the media of all peers", "one port a peer"),
    Flag(
        "connectTimeout",
        POSITIVE_DURATION,
        "10s",
        "Close a new peer if ICE and DTLS take longer than this",
    ),
    Flag(
        "iceGrace",
        GRACE,
        None,
        "Wait this long for a publisher whose connection broke, at most 30s",
        "-ingestTimeout",
    ),
)


@dataclass(frozen=True)
class IceSettings:
    servers: tuple[IceServer, ...] = ()
    """Announced to clients, and used for the gateway's public address (STUN) and relays (TURN)."""
    public_ips: tuple[str, ...] = ()
    """Public addresses of this machine, and DNS names of some; with them STUN and TURN are not used."""
    interfaces: tuple[str, ...] = ()
    """Names or addresses of the network interfaces to use; empty: all."""
    udp_ports: PortRange | None = None
    mux_port: int | None = None
    """The one port of all peers; None: a port each."""
    connect_timeout: float = 10.0
    """Time limit in seconds for ICE and DTLS of a new peer."""
    grace: float | None = None
    """Seconds to wait for a publisher whose connection broke; None: as long as for media."""

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> IceSettings:
        """Raises FlagError for flags that exclude each other."""
        if parsed["iceUdpMuxPort"] is not None and parsed["iceUdpPortRange"] is not None:
            raise FlagError("-iceUdpMuxPort is one port for all peers: leave out -iceUdpPortRange, or it")
        return cls(
            servers=_servers(parsed),
            public_ips=parsed["icePublicIP"] or (),
            interfaces=parsed["iceInterfaces"] or (),
            udp_ports=parsed["iceUdpPortRange"],
            mux_port=parsed["iceUdpMuxPort"],
            connect_timeout=parsed["connectTimeout"],
            grace=parsed["iceGrace"],
        )


def _servers(parsed: Parsed) -> tuple[IceServer, ...]:
    servers: tuple[IceServer, ...] = parsed["iceServers"] or ()
    secret: str | None = parsed["turnSecret"] or None
    bare = [server for server in servers if server.is_turn and server.username is None]
    if bare and secret is None:
        raise FlagError(
            f"-iceServers {bare[0].url} is refused: it takes user:password@ before its host, or -turnSecret"
        )
    if secret is not None and not bare:
        raise FlagError("-turnSecret is for turn: servers of -iceServers without user:password@: name one")
    return tuple(replace(server, secret=secret) if server in bare else server for server in servers)
