"""What strangers can make the gateway do at most, by the names of the flags that set it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.http.problem import Problem
from gateway.http.tokens import Grant
from gateway.stream.quotas import Claim

MAX_ADDRESSES = 10_000
"""Addresses whose rate is remembered; the one that was silent longest is forgotten first."""


@dataclass(frozen=True)
class Limits:
    """Each as its flag says; 0 lifts it."""

    streams: int
    streams_per_address: int
    viewers: int
    viewers_per_stream: int
    viewers_per_address: int
    requests_per_address: int

    def on_stream(self, address: str, grant: Grant | None) -> list[Claim]:
        """The claims of a publisher."""
        claims = [
            Claim("-maxStreams", self.streams),
            Claim("-maxStreamsPerAddress", self.streams_per_address, client_key(address)),
        ]
        if grant is not None and grant.max_streams is not None:
            claims.append(_of_token("maxStreams", grant.max_streams, grant))
        return claims

    def on_viewer(self, stream: str, address: str, grant: Grant | None) -> list[Claim]:
        """The claims of a viewer of `stream`."""
        claims = [
            Claim("-maxViewers", self.viewers),
            Claim("-maxViewersPerStream", self.viewers_per_stream, stream),
            Claim("-maxViewersPerAddress", self.viewers_per_address, client_key(address)),
        ]
        if grant is not None and grant.max_viewers is not None:
            claims.append(_of_token("maxViewers", grant.max_viewers, grant))
        return claims


def client_key(address: str) -> str:
    """Who an address is counted as: an IPv6 one as its /64, all of which one customer has (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or ip_network((int(parsed) >> 64 << 64, 64)))


def _of_token(name: str, maximum: int, grant: Grant) -> Claim:
    return Claim(f"{name} of this token", maximum, grant.id)


class RequestRate:
    """Requests that one address may make: so many a second, that many at once."""

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By address: requests left, and when that was."""

    def allow(self, address: str) -> bool:
        now = self._clock()
        left, then = self._buckets.pop(address, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - then) * self._per_second)
        allowed = left >= 1
        self._buckets[address] = (left - 1 if allowed else left, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed

    def __len__(self) -> int:
        return len(self._buckets)


def rate_limit(rate: RequestRate, client: Callable[[web.Request], str]) -> Middleware:
    """Refuses with 429 what comes too fast; `client` gives the address that a request comes from."""

    @web.middleware
    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not rate.allow(client_key(client(request))):
            raise Problem(
                429,
                "too_many_requests",
                "this address asks more often than -maxRequestsPerAddress allows: slow down",
                headers={"Retry-After": "1"},
                limit="-maxRequestsPerAddress",
            )
        return await handler(request)

    return limited
