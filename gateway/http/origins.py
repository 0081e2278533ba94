"""Which pages and which names the gateway answers to, against pages of others in the same network.

A browser sends Origin with what a page asks for, and the name in its address bar as Host. Other clients send
neither a page's Origin nor Sec-Fetch-Site, and are not touched.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http.cors import EXPOSED
from gateway.http.forwarding import Forwarding
from gateway.http.problem import Problem, ProblemCode

ANY = "*"
READS = frozenset({"GET", "HEAD", "OPTIONS"})
FREE_PATHS = frozenset({"/healthz", "/readyz"})
"""Asked by names that nobody knows beforehand, and of no use to a page."""


class Origins:
    """Pages of `allowed` origins (ANY for all) and the gateway's own may change things and read answers.

    No other page may read the paths of `operator` (as routes have them), or change anything there. A Host
    that is a name has to be one of `hosts`; None takes every name.
    """

    def __init__(
        self,
        allowed: Collection[str],
        forwarding: Forwarding,
        *,
        operator: Collection[str] = (),
        hosts: Collection[str] | None = None,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._forwarding = forwarding
        self._operator = frozenset(operator)
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say which pages may read the answer, before it begins."""
        origin = request.headers.get("Origin", "")
        if self._is_operators(request):
            return
        if ANY in self._allowed or origin in self._allowed:
            response.headers["Access-Control-Allow-Origin"] = ANY if ANY in self._allowed else origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        if ANY not in self._allowed:
            response.headers["Vary"] = "Origin"

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises Problem 421 for a name that is not the gateway's, 403 for a page that may change nothing."""
        self._check_host(request)
        if request.method not in READS and not self._may_change(request):
            detail = "a page of another origin may change nothing here: name its origin in -corsOrigins"
            raise Problem(403, ProblemCode.CROSS_ORIGIN, detail)
        return await handler(request)

    def _is_operators(self, request: web.Request) -> bool:
        resource = request.match_info.route.resource
        return resource is not None and resource.canonical in self._operator

    def _may_change(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        if not self._is_operators(request) and (ANY in self._allowed or origin in self._allowed):
            return True
        if origin is None:
            return request.headers.get("Sec-Fetch-Site") != "cross-site"
        try:
            own = {request.host.lower(), urlsplit(self._forwarding.url(request, "")).netloc.lower()}
            return urlsplit(origin).netloc.lower() in own
        except ValueError:
            return False  # one of the two is no URL

    def _check_host(self, request: web.Request) -> None:
        host = request.headers.get("Host")
        if self._hosts is None or host is None or self._forwarding.by_proxy(request):
            return
        if request.path in FREE_PATHS or request.method == "OPTIONS":
            return
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = host
        if name not in self._hosts and not _is_address(name):
            detail = (
                f"this gateway is not called {name[:100]!r}: name it in -allowedHosts, or use its address"
            )
            raise Problem(421, ProblemCode.WRONG_HOST, detail)


def own_names(http_addr: str, external_url: str | None, allowed: Collection[str]) -> Collection[str] | None:
    """The names that are good in a Host header; None for all, where no page could make use of one.

    A page reaches a gateway on loopback or in a private network through its visitor's browser, by giving
    its own name the gateway's address.
    """
    if http_addr != "localhost" and not _is_inside(http_addr):
        return None
    external = urlsplit(external_url).hostname if external_url is not None else None
    machine = socket.gethostname()
    return {"localhost", machine, f"{machine}.local", http_addr, *([external] if external else []), *allowed}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_inside(host: str) -> bool:
    if not _is_address(host):
        return False
    address = ipaddress.ip_address(host)
    return address.is_private and not address.is_unspecified
