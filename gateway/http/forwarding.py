"""The gateway's URL as clients see it: behind a proxy, below a path prefix, under another name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

OF_OTHER_NODES = web.AppKey("of_other_nodes", bool)
"""Set of the application that serves what other nodes of a cluster send on, which only they reach."""

_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\])(:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.~-]+)*/?")


class Forwarding:
    """Reads the X-Forwarded headers of trusted proxies. `external_url` goes before them.

    Those of other senders are ignored: they could name any address.
    """

    def __init__(self, external_url: str | None = None, trusted: Sequence[IpNetwork] = ()) -> None:
        self._external_url = external_url
        self._trusted = trusted

    def client(self, request: web.Request) -> str:
        """The client's address: the last hop that is not a trusted proxy."""
        address = request.remote or ""
        if not self.by_proxy(request):
            return address
        # several lines of a header are one list (RFC 9110, 5.3): some proxies add a line of their own
        hops = [hop.strip() for hop in ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")]
        for hop in reversed(hops):
            if not _is_address(hop):
                break
            address = hop
            if not self.is_trusted(hop):
                break
        return address

    def by_proxy(self, request: web.Request) -> bool:
        """Whether a trusted proxy, or another node, sent the request."""
        return request.app.get(OF_OTHER_NODES) is True or self.is_trusted(request.remote or "")

    def link(self, request: web.Request, path: str) -> str:
        """`path` for the client: an absolute path below the proxy's prefix; a URL with -externalUrl."""
        if self._external_url is not None:
            return self._external_url + path
        return self.prefix(request) + path

    def url(self, request: web.Request, path: str) -> str:
        """`path` as a whole URL, for somebody other than the client. Raises Problem 400, as `base` does."""
        if self._external_url is not None:
            return self._external_url + path
        scheme, host = self.base(request)
        return f"{scheme}://{host}{self.prefix(request)}{path}"

    def base(self, request: web.Request) -> tuple[str, str]:
        """Scheme and host of the URL that the client asked for.

        Raises Problem 400 for a Host that no URL has.
        """
        scheme, host = request.scheme, request.host
        if self.by_proxy(request):
            forwarded = _newest(request, "X-Forwarded-Proto")
            scheme = forwarded if forwarded in ("http", "https") else scheme
            forwarded = _newest(request, "X-Forwarded-Host")
            host = forwarded if _is_host(forwarded) else host
        if not _is_host(host):
            raise Problem(400, ProblemCode.BAD_HTTP, f"Host is neither a name nor an address: {host[:100]!r}")
        return scheme, host

    def prefix(self, request: web.Request) -> str:
        """What a trusted proxy took off the path of the client's URL."""
        if not self.by_proxy(request):
            return ""
        prefix = _newest(request, "X-Forwarded-Prefix")
        return prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else ""

    def is_trusted(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        if not self._trusted or not _is_address(address):
            return False
        return any(ipaddress.ip_address(address) in network for network in self._trusted)


def parse_networks(text: str) -> tuple[IpNetwork, ...]:
    """Addresses and networks, comma-separated. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _newest(request: web.Request, name: str) -> str:
    """The last line of a header, which the proxy added; earlier ones may be the client's."""
    return request.headers.getall(name, [""])[-1]


def _is_host(text: str) -> bool:
    """Whether this is a name or an address with or without a port, as it stands in a URL."""
    match = _HOST.fullmatch(text)
    return match is not None and (
        match["ipv6"] is None or (":" in match["ipv6"] and _is_address(match["ipv6"]))
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
