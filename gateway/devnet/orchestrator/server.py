"""One orchestrator: its port, its parts, their order of start and stop."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, suppress
from fractions import Fraction
from typing import TYPE_CHECKING

import aiohttp
import structlog
from aiohttp import web

from gateway.aio.tasks import cancel, spawn
from gateway.chain.networks import ChainNetwork
from gateway.chain.rpc import Endpoints
from gateway.devnet.account import Account
from gateway.devnet.orchestrator.config import OrchestratorAddress, OrchestratorConfig
from gateway.devnet.orchestrator.http import OrchestratorRoutes, refusals
from gateway.devnet.orchestrator.offer import Capacity, Offer, Tariff, price_info
from gateway.devnet.orchestrator.payment_receiver import PaymentReceiver
from gateway.devnet.orchestrator.port import SharedPort
from gateway.devnet.orchestrator.rpc import OrchestratorService
from gateway.devnet.orchestrator.running_jobs import RunningJobs
from gateway.devnet.orchestrator.session import Sessions
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer
from gateway.devnet.orchestrator.tickets import NonceBook
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.devnet.settings import RELEASES
from gateway.devnet.trickle_server import TrickleServer
from gateway.eth_address import checksummed

if TYPE_CHECKING:
    from gateway.devnet.orchestrator.redeemer import Redeemer

MAX_FIELD_SIZE = 64 * 1024
"""Bytes of one header: a payment of 100 tickets is over aiohttp's own 8,190."""

GRACE = 1.0
"""Seconds that requests under way get at the end."""

TRICKLE_PREFIX = "/ai/trickle"

log = structlog.get_logger("devnet.orchestrator")


class Orchestrator:
    """`start` listens, `stop` ends every job and frees everything.

    As in go-livepeer, balances, nonces and the secret of tokens and ticket params are kept in memory: after
    a restart no former session is known.
    """

    where: OrchestratorAddress

    def __init__(self, config: OrchestratorConfig) -> None:
        if config.price_wei_per_second is not None:
            price_info(config.price_wei_per_second)
        for terms in config.other_models.values():
            if terms.price is not None:
                price_info(terms.price)
        self._config = config
        self._account = Account(config.key)
        self._cleanup = AsyncExitStack()

    async def start(self) -> OrchestratorAddress:
        """Listen; returns the addresses. A failed start leaves nothing behind."""
        async with AsyncExitStack() as stack:
            self.where = await self._start(stack)
            self._cleanup = stack.pop_all()
        log.info("orchestrator listens", url=self.where.url, addr=self.where.addr, address=self.where.address)
        return self.where

    async def stop(self) -> None:
        """End every job and stop listening; requests under way get a second."""
        await self._cleanup.aclose()

    async def _start(self, stack: AsyncExitStack) -> OrchestratorAddress:
        config, account = self._config, self._account
        secret = secrets.token_bytes(32)
        recipient = account.raw_address if config.recipient is None else config.recipient
        tariff = Tariff(
            price=config.price_wei_per_second,
            debit_rate=config.debit_rate,
            capacity=config.capacity,
            warm=config.warm,
        )
        capacity, sessions = Capacity(tariff), Sessions()
        tokens = Tokens(secret, config.clock, config.token_life)
        issuer = ParamsIssuer(
            secret=secret,
            recipient=recipient,
            clock=config.clock,
            ticket_seconds=config.ticket_seconds,
            face_value_multiple=config.face_value_multiple,
        )
        offer = Offer(
            model=config.model,
            pipeline=config.pipeline,
            tariff=tariff,
            capacity=capacity,
            issuer=issuer,
            tokens=tokens,
            address=account.raw_address,
            version=config.release,
            price_overhead=Fraction(config.auto_adjust_price, config.face_value_multiple),
            others=config.other_models,
        )
        redeemer = await self._start_redeemer(stack)
        payments = PaymentReceiver(
            offer=offer,
            tariff=tariff,
            issuer=issuer,
            tokens=tokens,
            nonces=NonceBook(config.clock),
            sessions=sessions,
            won=None if redeemer is None else redeemer.won,
            ticket_factor=config.conduct.ticket_factor,
        )
        trickle = TrickleServer(prefix=TRICKLE_PREFIX)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        jobs = RunningJobs(
            runner_url=config.runner_url,
            pipeline=config.pipeline,
            tariff=tariff,
            debit_interval=config.debit_interval,
            monotonic_ns=config.monotonic_ns,
            capacity=capacity,
            sessions=sessions,
            trickle=trickle,
            http=http,
            conduct=config.conduct,
        )
        watch = spawn(jobs.watch_runner(), name="runner watch")
        stack.push_async_callback(cancel, watch)

        routes = OrchestratorRoutes(
            payments=payments,
            jobs=jobs,
            offer=offer,
            capacity=capacity,
            sessions=sessions,
            tariff=tariff,
            redemptions=None if redeemer is None else redeemer.audit,
            refreshes=config.release != RELEASES["0.8"],
            conduct=config.conduct,
        )
        service = OrchestratorService(account, offer, tariff, capacity, config.conduct)
        addr = await self._listen(stack, [*routes.routes(), *trickle.routes()], service)
        offer.url = f"https://{addr}"
        jobs.base_url = offer.url + TRICKLE_PREFIX
        # First at the end: requests on channels must finish before the server waits for them.
        stack.callback(jobs.end_all, "the orchestrator stops")
        return OrchestratorAddress(
            addr=addr,
            url=offer.url,
            address=account.address,
            recipient=checksummed(recipient),
            audit_url=f"{offer.url}/devnet/audit",
        )

    async def _start_redeemer(self, stack: AsyncExitStack) -> Redeemer | None:
        chain = self._config.chain
        if chain is None:
            return None
        # web3 is imported only where tickets are redeemed
        from gateway.chain.reader import ChainReader
        from gateway.devnet.orchestrator.redeemer import Redeemer

        http = await stack.enter_async_context(aiohttp.ClientSession())
        reader = ChainReader(Endpoints(http, [chain.url]), ChainNetwork(chain.controller))
        redeemer = Redeemer(reader, self._config.key)
        stack.push_async_callback(cancel, spawn(redeemer.run(), name="redeemer"))
        return redeemer

    async def _listen(
        self, stack: AsyncExitStack, routes: list[web.RouteDef], service: OrchestratorService
    ) -> str:
        app = web.Application(middlewares=[refusals])
        app.router.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE, max_field_size=MAX_FIELD_SIZE)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        port, addr = await SharedPort.listen([service], runner.server, self._config.host, self._config.port)
        stack.push_async_callback(close_port, port)
        return addr


async def close_port(server: SharedPort) -> None:
    """Stop listening; open connections get a second."""
    server.close()
    # From Python 3.12 on this waits until clients close their connections.
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await server.wait_closed()


async def serve(config: OrchestratorConfig) -> Orchestrator:
    """Start an orchestrator; its addresses are in `orchestrator.where`."""
    orchestrator = Orchestrator(config)
    await orchestrator.start()
    return orchestrator
