"""Which addresses lead into networks that strangers cannot reach themselves, and who may name them.

A URL from another party must not lead the gateway to a place that this party could not reach: services on
this machine, in its network, or a cloud's metadata (server-side request forgery).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from typing_extensions import override

Ip = IPv4Address | IPv6Address

LOOPBACK = ip_address("127.0.0.1")
_CARRIES_IPV4 = (
    # network, bits below the IPv4 address
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped, RFC 4291 2.5.5.2
    (IPv6Network("::/96"), 0),  # compatible, RFC 4291 2.5.5.1
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated, RFC 2765
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
_INSIDE = (
    IPv6Network("fec0::/10"),  # site-local, RFC 3879
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own network, RFC 8215
)


class LeadsInside(OSError):
    """An address is in a private network, and who named it is not there. The message is a sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EACCES, sentence)

    @override
    def __str__(self) -> str:
        return str(self.strerror)


def literal(name: str) -> Ip | None:
    """The IP address that a host name is, in any form that the system takes; None for a name to resolve."""
    try:
        return ip_address(name.strip("[]"))
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(name))  # 127.1, 0x7f000001, 2130706433
    except (OSError, UnicodeError):
        return None


def normalised(address: Ip) -> Ip:
    """The address that is reached in the end; all of loopback is one."""
    if isinstance(address, IPv6Address) and address not in (IPv6Address("::"), IPv6Address("::1")):
        for network, below in _CARRIES_IPV4:
            if address in network:
                return normalised(IPv4Address(int(address) >> below & 0xFFFFFFFF))
    return LOOPBACK if address.is_loopback or address.is_unspecified else address


def is_inside(address: Ip) -> bool:
    """Whether it is not a public unicast address."""
    reached = normalised(address)
    if isinstance(reached, IPv6Address) and any(reached in network for network in _INSIDE):
        return True
    return not reached.is_global or reached.is_multicast


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the URLs of one party may lead: to all public addresses, and inside where it is itself.

    `host` is the name by which the party was reached inside: it may lead to any address. `address` is the one
    at which it was reached there.
    """

    host: str = ""
    address: Ip | None = None

    @classmethod
    def of(cls, host: str, address: Ip | None) -> Reach:
        """That of who was reached at `address`, one of those of `host`."""
        if address is None or not is_inside(address):
            return PUBLIC
        return cls(host.lower(), normalised(address))

    def allows(self, host: str, address: Ip) -> bool:
        """Whether a URL with this host may lead to this address, one of the host's."""
        if not is_inside(address) or (self.host and host.lower() == self.host):
            return True
        return normalised(address) == self.address

    def check(self, host: str, addresses: Iterable[Ip]) -> None:
        """Raise LeadsInside where one of a host's addresses is not allowed."""
        for address in addresses:
            if not self.allows(host, address):
                raise leads_inside(host, address)


PUBLIC = Reach()
"""To public addresses only."""


def leads_inside(host: str, address: Ip) -> LeadsInside:
    return LeadsInside(f"{host} points to {address} in a private network, where who named it is not")
