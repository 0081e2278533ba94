"""Sources that list orchestrators: the operator's list, a webhook, the signer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.json_text import parse_json
from gateway.flags import is_eth_address
from gateway.orchestrator.urls import grpc_target

MAX_ORCHESTRATORS = 200
"""Limit of entries used from one source."""
MAX_LIST = 1024 * 1024
"""Limit in bytes of a list."""
TIMEOUT = 5.0


class DiscoveryFailed(Exception):
    """A source gave no usable list; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Listing:
    """An orchestrator on a source's list: `addr` is host:port or a URL.

    Its answer must name one of `addresses` (Ethereum); where that is empty, any address will do. There may
    be several, because anybody can register any URI on chain. `pinned` says that the operator gave them.
    `may_be_inside` says whether `addr` may lead into a private network: the operator named it, or who did was
    reached in one.
    """

    addr: str
    addresses: tuple[str, ...] = ()
    pinned: bool = False
    may_be_inside: bool = False

    @classmethod
    def parse(cls, text: str) -> Listing:
        """What the operator writes: host:port or a URL, after `0xADDRESS@` to pin who is paid."""
        address, at, addr = text.partition("@")
        if at and is_eth_address(address):
            return cls(addr, (address,), pinned=True, may_be_inside=True)
        return cls(text, may_be_inside=True)

    def allows(self, address: str) -> bool:
        return not self.addresses or address.lower() in (one.lower() for one in self.addresses)


class Source(Protocol):
    """A list of orchestrators that may change."""

    name: str

    @property
    def interval(self) -> float | None:
        """Seconds between two reads; None for a list that never changes."""

    async def listings(self) -> list[Listing]:
        """The orchestrators listed now. Raises DiscoveryFailed."""


class FixedSource:
    """The operator's own list, `-orchAddr`."""

    name = "orchAddr"
    interval: float | None = None

    def __init__(self, addrs: Sequence[str]) -> None:
        self._listings = [Listing.parse(addr) for addr in addrs]

    async def listings(self) -> list[Listing]:
        return self._listings


class WebhookSource:
    """`-orchWebhookUrl`: a GET that answers with a JSON list of objects with `address`.

    It is the operator's own service: its certificate is verified, and signer headers are not sent to it.
    """

    name = "webhook"

    def __init__(self, http: aiohttp.ClientSession, url: str, *, interval: float = 60.0) -> None:
        self.interval: float | None = interval
        self._http = http
        self._url = url

    async def listings(self) -> list[Listing]:
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self._http.get(self._url, timeout=limit, ssl=True, allow_redirects=False) as response:
                if response.status != 200:
                    raise DiscoveryFailed(f"the webhook answered HTTP {response.status}")
                body = await read_bounded(response, MAX_LIST)
        except BodyTooLarge:
            raise DiscoveryFailed(f"the webhook's list is over the limit of {MAX_LIST} bytes") from None
        except (aiohttp.ClientError, OSError) as error:
            raise DiscoveryFailed(f"the webhook cannot be asked: {type(error).__name__}") from error
        return listed_in(body)


class SignerSource:
    """The remote signer's discovery. `ask` gives the URLs that it lists; any exception means failure.

    `reached_inside` says whether the signer itself is in a private network: then so may be those it lists.
    """

    name = "signer"

    def __init__(
        self,
        ask: Callable[[], Awaitable[Iterable[str]]],
        *,
        reached_inside: Callable[[], bool] = lambda: False,
        interval: float = 60.0,
    ) -> None:
        self.interval: float | None = interval
        self._ask = ask
        self._reached_inside = reached_inside

    async def listings(self) -> list[Listing]:
        try:
            urls = await self._ask()
        except Exception as error:
            raise DiscoveryFailed(f"the signer lists nobody: {error}") from error
        inside = self._reached_inside()
        return usable(Listing(url, may_be_inside=inside) for url in urls)


class Directory:
    """The last good list of each of `sources`, by name, kept when a later read fails or is empty."""

    def __init__(self, sources: Iterable[str] = ()) -> None:
        self._sources = frozenset(sources)
        self._lists: dict[str, list[Listing]] = {}
        self._listed_at: dict[str, float] = {}
        self._errors: dict[str, str] = {}

    def succeeded(self, source: str, found: list[Listing], now: float) -> None:
        """Take over a source's list, read at `now` (monotonic seconds)."""
        self._errors.pop(source, None)
        self._lists[source], self._listed_at[source] = found, now

    def error(self, source: str) -> str:
        """Why a source's newest read failed; empty where it did not."""
        return self._errors.get(source, "")

    def failed(self, source: str, why: str) -> int:
        """Note that a source gave no list; returns how many entries of its last list stay."""
        self._errors[source] = why
        return len(self._lists.get(source, []))

    def listings(self) -> dict[str, Listing]:
        """Every orchestrator on any list, by address; a pinned listing comes before any other."""
        known = [listing for found in self._lists.values() for listing in found]
        known.sort(key=lambda listing: (listing.pinned, listing.may_be_inside))
        return {listing.addr: listing for listing in known}

    def errors(self) -> list[str]:
        return [f"{source}: {error}" for source, error in self._errors.items()]

    def json(self, now: float) -> list[dict[str, Any]]:
        """Each source with the length of its list, its age (None before the first) and its last failure."""
        return [
            {
                "name": source,
                "listed": len(self._lists.get(source, [])),
                "age_s": round(now - self._listed_at[source], 1) if source in self._listed_at else None,
                "error": self._errors.get(source),
            }
            for source in sorted(self._sources | self._lists.keys() | self._errors.keys())
        ]


def listed_in(body: bytes) -> list[Listing]:
    """Read a JSON list of `{"address": "https://.."}`; entries that are not addresses are left out.

    An Ethereum address pins who is paid: `{"address": "0x..@https://.."}`.
    """
    try:
        entries: Any = parse_json(body)
    except ValueError as error:
        raise DiscoveryFailed(f"the list is not JSON that is taken: {error}") from error
    if not isinstance(entries, list):
        raise DiscoveryFailed("the list is not a JSON list")
    named = (entry.get("address") for entry in entries if isinstance(entry, dict))
    return usable(Listing.parse(addr) for addr in named if isinstance(addr, str))


def usable(listings: Iterable[Listing]) -> list[Listing]:
    """The listings with a valid address, each address once, up to the limit."""
    found: dict[str, Listing] = {}
    for listing in listings:
        try:
            grpc_target(listing.addr)
        except ValueError:
            continue
        found.setdefault(listing.addr, listing)
        if len(found) == MAX_ORCHESTRATORS:
            break
    return list(found.values())
