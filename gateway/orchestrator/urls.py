"""Where an orchestrator may send the gateway, and where it may not.

Orchestrators are strangers: a URL of theirs must not lead into the network that the gateway stands in,
unless the orchestrator stands there itself.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urljoin, urlsplit

Ip = IPv4Address | IPv6Address

DEFAULT_PORT = 443
MAX_URL = 2048


def grpc_target(addr: str) -> tuple[str, int]:
    """Host and port of an orchestrator written as `host:port` or as a URL; ValueError for anything else."""
    parts = urlsplit(addr if "://" in addr else f"https://{addr}")
    if parts.scheme != "https":
        raise ValueError(f"{addr!r} is no orchestrator's address: orchestrators speak https")
    if not parts.hostname or parts.username is not None or any(c.isspace() for c in addr):
        raise ValueError(f"{addr!r} is no orchestrator's address: host:port or a URL is")
    return parts.hostname, DEFAULT_PORT if parts.port is None else parts.port


def host(url: str) -> str:
    """The host that a URL names, without brackets; empty where it names none."""
    return urlsplit(url).hostname or ""


def complete(url: str, base: str) -> str:
    """A URL that an orchestrator returned, with scheme, host and path of `base` where it has none.

    Raises ValueError where the result is not plain http(s).
    """
    if not url or len(url) > MAX_URL or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError(f"no URL: {url[:80]!r}")
    whole = urljoin(f"{base.rstrip('/')}/", url)
    given, parts = urlsplit(url), urlsplit(whole)
    if given.scheme and not given.hostname:
        raise ValueError(f"no plain http(s) URL: {url[:80]!r}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"no plain http(s) URL: {url[:80]!r}")
    _ = parts.port
    return whole


def literal(name: str) -> Ip | None:
    """The address that a host name spells out, None for a name that has to be looked up."""
    try:
        return ip_address(name)
    except ValueError:
        return None


def refuse_inside(url: str, addresses: Collection[Ip], home: Collection[Ip]) -> None:
    """Raise ValueError where one of a URL's `addresses` is no public one and not the orchestrator's own.

    `home` is where the orchestrator is; all of loopback counts as one place.
    """
    own = {_place(address) for address in home}
    for address in addresses:
        place = _place(address)
        if place is LOOPBACK or not place.is_global or place.is_multicast:
            if place in own:
                continue
            raise ValueError(f"{url} points at {address}, inside this network, where the orchestrator is not")


LOOPBACK = ip_address("127.0.0.1")


def _place(address: Ip) -> Ip:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return LOOPBACK if address.is_loopback or address.is_unspecified else address
