"""How the gateway is reached from outside: behind a proxy, below a path prefix, under another name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.~-]+)*/?")


class Forwarding:
    """What a proxy's headers say, where the proxy is trusted; `external_url` beats them.

    Headers of anybody else are ignored: whoever wrote them could pretend to be another address.
    """

    def __init__(self, external_url: str | None = None, trusted: Sequence[Network] = ()) -> None:
        self._external_url = external_url
        self._trusted = trusted

    def client(self, request: web.Request) -> str:
        """The address that a request comes from: the last one that no trusted proxy has."""
        address = request.remote or ""
        if not self._is_trusted(address):
            return address
        # Several lines of a header are one list (RFC 9110, 5.3): some proxies add a line of their own.
        hops = [hop.strip() for hop in ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")]
        for hop in reversed(hops):
            if not _is_address(hop):
                break
            address = hop
            if not self._is_trusted(hop):
                break
        return address

    def link(self, request: web.Request, path: str) -> str:
        """`path` as the client reaches it: absolute, below the proxy's prefix, whole under -externalUrl."""
        if self._external_url is not None:
            return self._external_url + path
        return self._prefix(request) + path

    def url(self, request: web.Request, path: str) -> str:
        """`path` as a whole URL, for those who are not the client."""
        if self._external_url is not None:
            return self._external_url + path
        scheme, host = request.scheme, request.host
        if self._is_trusted(request.remote or ""):
            forwarded = _newest(request, "X-Forwarded-Proto")
            scheme = forwarded if forwarded in ("http", "https") else scheme
            forwarded = _newest(request, "X-Forwarded-Host")
            host = forwarded if _HOST.fullmatch(forwarded) else host
        return f"{scheme}://{host}{self._prefix(request)}{path}"

    def _prefix(self, request: web.Request) -> str:
        if not self._is_trusted(request.remote or ""):
            return ""
        prefix = _newest(request, "X-Forwarded-Prefix")
        return prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else ""

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted or not _is_address(address):
            return False
        return any(ipaddress.ip_address(address) in network for network in self._trusted)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, comma-separated. Raises ValueError for what is neither."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _newest(request: web.Request, name: str) -> str:
    """The line of a header that the proxy added last; what stands before it may be the client's own."""
    return request.headers.getall(name, [""])[-1]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
