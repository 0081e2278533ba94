"""Checks of orchestrators' addresses and of the URLs that they return.

Where such a URL may lead is checked in gateway/aio/inside.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from gateway.aio.inside import literal
from gateway.flags import without_userinfo

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
        shown = without_userinfo(addr)
        raise ValueError(f"{shown!r} is not an orchestrator's address: orchestrators use https or http")
    if parts.username is not None or parts.password is not None:
        raise ValueError("orchestrators' addresses have no user and no password")
    if not parts.hostname or not is_plain(addr, parts):
        raise ValueError(f"{addr!r} is not an orchestrator's address: give host:port or a URL")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return GrpcTarget(parts.hostname, port, tls=parts.scheme == "https")


def place(addr: str) -> str:
    """Host and port of an orchestrator's address or URL, to compare them by. Raises ValueError."""
    target = grpc_target(addr)
    return f"{target.host.lower()}:{target.port}"


def is_loopback(addr: str) -> bool:
    """Whether an orchestrator's address or URL is on this machine. Raises ValueError."""
    name = grpc_target(addr).host
    ip = literal(name)
    return name == "localhost" if ip is None else ip.is_loopback


def host(url: str) -> str:
    """The host in a URL, without brackets; empty where it has none."""
    return urlsplit(url).hostname or ""


def complete(url: str, base: str) -> str:
    """Complete a URL that an orchestrator returned with scheme, host and path of `base`.

    Raises ValueError where the result is not a plain http(s) URL.
    """
    if not url or len(url) > MAX_URL:
        raise ValueError(f"not a URL: {url[:80]!r}")
    whole = urljoin(f"{base.rstrip('/')}/", url)
    given, parts = urlsplit(url), urlsplit(whole)
    if (given.scheme and not given.hostname) or parts.scheme not in DEFAULT_PORTS:
        raise ValueError(f"not a plain http(s) URL: {url[:80]!r}")
    if not is_plain(url, parts):
        raise ValueError(f"not a plain http(s) URL: {url[:80]!r}")
    _ = parts.port
    return whole


def is_plain(text: str, parts: SplitResult) -> bool:
    """Whether a URL has a host, and no user, query, fragment, white space or control characters."""
    if any(c.isspace() or not c.isprintable() for c in text) or "?" in text or "#" in text or "\\" in text:
        return False
    return bool(parts.hostname) and parts.username is None and parts.password is None
