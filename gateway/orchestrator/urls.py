"""Checks of orchestrators' addresses and of the URLs that they return.

Orchestrators are not trusted: a URL from one must not point into the gateway's own network, unless the
orchestrator is there itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urljoin, urlsplit

Ip = IPv4Address | IPv6Address

DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_URL = 2048


@dataclass(frozen=True, slots=True)
class GrpcTarget:
    """Where an orchestrator's gRPC is; without `tls` it is HTTP/2 in plain text (h2c)."""

    host: str
    port: int
    tls: bool


def grpc_target(addr: str) -> GrpcTarget:
    """Where to ask an orchestrator given as `host:port` (TLS) or URL. Raises ValueError."""
    parts = urlsplit(addr if "://" in addr else f"https://{addr}")
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError(f"{addr!r} is not an orchestrator's address: orchestrators use https or http")
    if not parts.hostname or parts.username is not None or any(c.isspace() for c in addr):
        raise ValueError(f"{addr!r} is not an orchestrator's address: give host:port or a URL")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return GrpcTarget(parts.hostname, port, tls=parts.scheme == "https")


def place(addr: str) -> str:
    """Host and port of an orchestrator's address or URL, to compare them by. Raises ValueError."""
    target = grpc_target(addr)
    return f"{target.host.lower()}:{target.port}"


def host(url: str) -> str:
    """The host in a URL, without brackets; empty where it has none."""
    return urlsplit(url).hostname or ""


def complete(url: str, base: str) -> str:
    """Complete a URL that an orchestrator returned with scheme, host and path of `base`.

    Raises ValueError where the result is not a plain http(s) URL.
    """
    if not url or len(url) > MAX_URL or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError(f"not a URL: {url[:80]!r}")
    whole = urljoin(f"{base.rstrip('/')}/", url)
    given, parts = urlsplit(url), urlsplit(whole)
    if given.scheme and not given.hostname:
        raise ValueError(f"not a plain http(s) URL: {url[:80]!r}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"not a plain http(s) URL: {url[:80]!r}")
    _ = parts.port
    return whole


def literal(name: str) -> Ip | None:
    """The IP address that a host name is; None for a name that has to be resolved."""
    try:
        return ip_address(name)
    except ValueError:
        return None


def refuse_private(url: str, addresses: Collection[Ip], home: Collection[Ip]) -> None:
    """Raise ValueError where one of a URL's `addresses` is not public and not the orchestrator's own.

    `home` are the orchestrator's addresses; all of loopback counts as one address.
    """
    own = {_normalised(address) for address in home}
    for address in addresses:
        target = _normalised(address)
        if target is LOOPBACK or not target.is_global or target.is_multicast:
            if target in own:
                continue
            raise ValueError(f"{url} points to {address} in a private network, where the orchestrator is not")


LOOPBACK = ip_address("127.0.0.1")


def _normalised(address: Ip) -> Ip:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return LOOPBACK if address.is_loopback or address.is_unspecified else address
