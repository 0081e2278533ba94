"""One orchestrator of live runners: its port, its parts, their order of start and stop."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

import aiohttp
import structlog
from aiohttp import web

from gateway.aio.tasks import cancel, spawn
from gateway.devnet.account import Account
from gateway.devnet.live_runners.challenge import ChallengeMaker
from gateway.devnet.live_runners.channels import SessionChannels
from gateway.devnet.live_runners.config import LiveAddress, LiveConfig
from gateway.devnet.live_runners.dialect import GO
from gateway.devnet.live_runners.go_payments import GoPayments
from gateway.devnet.live_runners.health import watch_health
from gateway.devnet.live_runners.http import LiveRoutes
from gateway.devnet.live_runners.limits import RequestLimits
from gateway.devnet.live_runners.node_payments import NodePayments
from gateway.devnet.live_runners.payments import Debits, Payments
from gateway.devnet.live_runners.port import listen, transcoding_offer
from gateway.devnet.live_runners.proxy import Proxy
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.registry import TRICKLE, RunnerRegistry
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.orchestrator.offer import Offer
from gateway.devnet.orchestrator.server import GRACE, MAX_FIELD_SIZE
from gateway.devnet.orchestrator.session import Sessions
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer
from gateway.devnet.orchestrator.ticket_receiver import TicketReceiver
from gateway.devnet.orchestrator.tickets import NonceBook
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.devnet.trickle_server import TrickleServer

CONNECT_TIMEOUT = 5.0
CONTROL_BODY = 1_048_576

log = structlog.get_logger("devnet.live_runners")


class LiveOrchestrator:
    """`start` listens, `stop` ends every session and frees everything.

    Runners, sessions, challenges and keys are kept in memory: after a restart nothing of them is known.
    """

    where: LiveAddress

    def __init__(self, config: LiveConfig) -> None:
        self.registry: RunnerRegistry
        self.trickle: TrickleServer
        self._config = config
        self._account = Account(config.key)
        self._cleanup = AsyncExitStack()

    async def start(self) -> LiveAddress:
        """Listen; returns the addresses. A failed start leaves nothing behind."""
        async with AsyncExitStack() as stack:
            self.where = await self._start(stack)
            self._cleanup = stack.pop_all()
        log.info("orchestrator of live runners listens", url=self.where.url, address=self.where.address)
        return self.where

    async def stop(self) -> None:
        """End every session and stop listening; requests under way get a second."""
        await self._cleanup.aclose()

    async def _start(self, stack: AsyncExitStack) -> LiveAddress:
        config, dialect = self._config, self._config.dialect
        secret, accounts = secrets.token_bytes(32), Sessions()
        debits = Debits(config.debit_rate, config.debit_interval or dialect.debit_interval)
        trickle = self.trickle = TrickleServer(
            prefix=TRICKLE, max_body=dialect.max_segment, sweep_after=dialect.sweep_after
        )
        registry = self.registry = RunnerRegistry(
            dialect,
            secret=config.secret,
            paid=config.paid,
            trickle=trickle,
            clock=lambda: config.monotonic_ns() / 10**9,
            on_release=self._released,
            listed_price=config.conduct.listed_price,
        )
        issuer = ParamsIssuer(
            secret=secret,
            recipient=self._account.raw_address,
            clock=config.clock,
            ticket_seconds=config.ticket_seconds,
            face_value_multiple=config.face_value_multiple,
        )
        tokens = Tokens(secret, config.clock, config.token_life)
        challenges = ChallengeMaker(
            issuer=issuer,
            tokens=tokens,
            address=self._account.raw_address,
            ticket_seconds=config.ticket_seconds,
        )
        receiver = TicketReceiver(
            issuer=issuer,
            tokens=tokens,
            nonces=NonceBook(config.clock),
            sessions=accounts,
            all_or_nothing=dialect is not GO,
        )
        kind = GoPayments if dialect is GO else NodePayments
        self._payments: Payments | None = None
        if config.paid:
            self._payments = kind(
                dialect,
                registry=registry,
                challenges=challenges,
                receiver=receiver,
                accounts=accounts,
                debits=debits,
                monotonic_ns=config.monotonic_ns,
                conduct=config.conduct,
            )
        # The app decides on times; encodings are passed on as they are.
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=False),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                auto_decompress=False,
            )
        )
        routes = LiveRoutes(
            dialect,
            registry=registry,
            payments=self._payments,
            channels=SessionChannels(dialect, registry, trickle),
            proxy=Proxy(registry, http),
            trickle=trickle,
            accounts=accounts,
            debits=debits,
            monotonic_ns=config.monotonic_ns,
        )
        offer = transcoding_offer(issuer, tokens, self._account.raw_address, paid=config.paid)
        url = await self._listen(stack, routes, trickle, offer)
        registry.url = challenges.url = url
        try:
            for document in config.static_runners:
                registry.configure(document)
        except RequestRefused as refusal:
            raise OSError(f"a configured runner is refused: {refusal}") from refusal
        health = spawn(watch_health(registry, http, config.health_interval), name="health")
        stack.push_async_callback(cancel, health)
        stack.push_async_callback(cancel, spawn(registry.watch(), name="runner watch"))
        # First at the end: requests on channels must finish before the server waits for them.
        stack.callback(registry.remove_all, "the orchestrator stops")
        return LiveAddress(url=url, address=self._account.address, audit_url=f"{url}/devnet/audit")

    def _released(self, session: LiveSession) -> None:
        if self._payments is not None:
            self._payments.forget(session)

    async def _listen(
        self, stack: AsyncExitStack, routes: LiveRoutes, trickle: TrickleServer, offer: Offer
    ) -> str:
        config = self._config
        app = web.Application(
            middlewares=[routes.refusals, RequestLimits(config.dialect).count], client_max_size=CONTROL_BODY
        )
        app.router.add_routes([*routes.routes(), *trickle.routes()])
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=GRACE,
            max_field_size=MAX_FIELD_SIZE,
            handler_cancellation=True,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        return await listen(stack, config, runner, self._account, offer)


async def serve(config: LiveConfig) -> LiveOrchestrator:
    """Start an orchestrator of live runners; its addresses are in `where`."""
    orchestrator = LiveOrchestrator(config)
    await orchestrator.start()
    return orchestrator
