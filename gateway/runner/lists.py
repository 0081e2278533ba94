"""Who lists live runners: orchestrators of the operator's list, the signer, and discovery services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.orchestrator.errors import OrchestratorError
from gateway.orchestrator.urls import DEFAULT_PORTS, grpc_target
from gateway.runner.client import RunnerClient, reach_of
from gateway.runner.offer import RunnerOffer, offers_in
from signer_client import SignerClient, SignerError


class OrchestratorRunners:
    """One orchestrator's own `/discovery`. `addr` is host:port or a URL, as in `-orchAddr`."""

    lists_itself = True
    quick = True

    def __init__(self, client: RunnerClient, addr: str) -> None:
        self.name = addr
        self._client = client
        self._url = base_url(addr)

    async def offers(self, apps: frozenset[str]) -> list[RunnerOffer]:
        return await self._client.discover(f"{self._url}/discovery", self._url, apps)


class DiscoveryService:
    """A URL of `-discoveryUrl`, whose entries are those of orchestrators."""

    lists_itself = False
    quick = True

    def __init__(self, client: RunnerClient, url: str) -> None:
        self.name = url
        self._client = client
        self._url = url

    async def offers(self, apps: frozenset[str]) -> list[RunnerOffer]:
        return await self._client.discover(self._url, self._url, apps)


class SignerRunners:
    """The signer's discovery. It asks the orchestrators on its list one by one.

    Where the signer was reached inside, its runners may be there too: each at its own host.
    """

    name = "signer"
    lists_itself = False
    quick = False

    def __init__(self, signer: SignerClient, *, reached_inside: Callable[[], bool]) -> None:
        self._signer = signer
        self._reached_inside = reached_inside

    async def offers(self, apps: frozenset[str]) -> list[RunnerOffer]:
        try:
            entries = await self._signer.discover_runners(sorted(apps))
        except SignerError as error:
            raise OrchestratorError(f"the signer lists no runners: {error}") from error
        found = offers_in(entries, "", apps=apps)
        return [await _at_home(one) for one in found] if self._reached_inside() else found


async def _at_home(offer: RunnerOffer) -> RunnerOffer:
    return replace(offer, reach=await reach_of(offer.url))


def base_url(addr: str) -> str:
    """The URL of an orchestrator's HTTP side. Raises ValueError."""
    target = grpc_target(addr)
    if "://" in addr:
        return addr.rstrip("/")
    scheme = "https" if target.tls else "http"
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = "" if target.port == DEFAULT_PORTS[scheme] else f":{target.port}"
    return f"{scheme}://{host}{port}"
