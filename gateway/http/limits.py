"""Limits on streams, viewers and requests: in all, by client address, by token."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.allowance import Allowance
from gateway.http.problem import Problem, ProblemCode
from gateway.http.tokens import Grant
from gateway.stream.quotas import Claim

MAX_ADDRESSES = 10_000
"""Addresses whose rate is kept; the one that has been silent longest is dropped first."""


@dataclass(frozen=True)
class ClientLimits:
    """The maximum of each flag; 0: no limit."""

    streams: int
    streams_per_address: int
    viewers: int
    viewers_per_stream: int
    viewers_per_address: int
    requests_per_address: int

    def on_stream(self, address: str, grant: Grant | None) -> list[Claim]:
        """What a new stream is counted against."""
        claims = [
            Claim("-maxStreams", self.streams),
            Claim("-maxStreamsPerAddress", self.streams_per_address, client_key(address)),
        ]
        if grant is not None and grant.max_streams is not None:
            claims.append(_of_token("maxStreams", grant.max_streams, grant))
        return claims

    def on_viewer(self, stream: str, address: str, grant: Grant | None) -> list[Claim]:
        """What a new viewer of `stream` is counted against."""
        claims = [
            Claim("-maxViewers", self.viewers),
            Claim("-maxViewersPerStream", self.viewers_per_stream, stream),
            Claim("-maxViewersPerAddress", self.viewers_per_address, client_key(address)),
        ]
        if grant is not None and grant.max_viewers is not None:
            claims.append(_of_token("maxViewers", grant.max_viewers, grant))
        return claims


def client_key(address: str) -> str:
    """What limits count an address by: IPv6 by its /64, which is one customer's (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or ip_network((int(parsed) >> 64 << 64, 64)))


def _of_token(name: str, maximum: int, grant: Grant) -> Claim:
    return Claim(f"{name} of this token", maximum, grant.id, shared=True)


class RequestRate:
    """A token bucket for each address: `per_second` requests a second, and as many at once."""

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()

    def allow(self, address: str) -> bool:
        allowance = self._allowances.pop(address, None)
        allowance = allowance or Allowance(self._per_second, self._per_second, self._clock)
        self._allowances[address] = allowance
        if len(self._allowances) > MAX_ADDRESSES:
            self._allowances.popitem(last=False)
        return allowance.take()

    def __len__(self) -> int:
        return len(self._allowances)


def rate_limit(rate: RequestRate, client: Callable[[web.Request], str]) -> Middleware:
    """A middleware that answers 429 above `rate`; `client` gives the address of a request."""

    @web.middleware
    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not rate.allow(client_key(client(request))):
            raise Problem(
                429,
                ProblemCode.TOO_MANY_REQUESTS,
                "this address sends more requests than -maxRequestsPerAddress allows: slow down",
                headers={"Retry-After": "1"},
                limit="-maxRequestsPerAddress",
            )
        return await handler(request)

    return limited
