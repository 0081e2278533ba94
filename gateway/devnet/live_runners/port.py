"""The listener: a node's is plain HTTP, go-livepeer's has gRPC on the same TLS port."""

from __future__ import annotations

from contextlib import AsyncExitStack
from fractions import Fraction

from aiohttp import web
from typing_extensions import override

from gateway.devnet.account import Account
from gateway.devnet.live_runners.config import LiveConfig
from gateway.devnet.orchestrator.offer import TRANSCODING, Capacity, Offer, Tariff
from gateway.devnet.orchestrator.port import SharedPort
from gateway.devnet.orchestrator.rpc import OrchestratorService
from gateway.devnet.orchestrator.server import close_port
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.orchestrator.capabilities import VERSION
from gateway.orchestrator.livepeer_pb2 import Capabilities


class TranscodingOffer(Offer):
    """What an orchestrator with live runners alone offers by gRPC: transcoding, and no model."""

    @override
    def named_model(self, capabilities: Capabilities) -> str | None:
        return None

    @override
    def capabilities(self) -> Capabilities:
        own = Capabilities(bitstring=[sum(1 << bit for bit in TRANSCODING)], version=VERSION)
        for capability in TRANSCODING:
            own.capacities[capability] = 1
        return own


def transcoding_offer(
    issuer: ParamsIssuer, tokens: Tokens, address: bytes, *, paid: bool
) -> TranscodingOffer:
    """The offer of the account `address` (20 bytes)."""
    tariff = Tariff(price=Fraction(0) if paid else None, debit_rate=Fraction(1), capacity=0, warm=False)
    return TranscodingOffer(
        model="",
        pipeline="",
        tariff=tariff,
        capacity=Capacity(tariff),
        issuer=issuer,
        tokens=tokens,
        address=address,
    )


async def listen(
    stack: AsyncExitStack, config: LiveConfig, runner: web.AppRunner, account: Account, offer: Offer
) -> str:
    """Listen until `stack` is closed; returns the service URI. `runner` is set up."""
    if not config.dialect.tls:
        await web.TCPSite(runner, config.host, config.port).start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"
    assert runner.server is not None
    tariff = Tariff(price=Fraction(0), debit_rate=Fraction(1), capacity=0, warm=False)
    service = OrchestratorService(account, offer, tariff, Capacity(tariff))
    shared, addr = await SharedPort.listen([service], runner.server, config.host, config.port)
    stack.push_async_callback(close_port, shared)
    offer.url = f"https://{addr}"
    return offer.url
