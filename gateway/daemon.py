"""The composition root: builds every part from the settings, and owns the order of start and stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from fractions import Fraction
from typing import Any

import aiohttp
import structlog

from gateway import money
from gateway.aio.client_tls import client_context
from gateway.aio.tasks import cancel, spawn
from gateway.aio.tasks import watch as watch_tasks
from gateway.chain.networks import ChainNetwork
from gateway.chain.service import ChainService
from gateway.chain.settings import ChainSettings
from gateway.chain.signer import ChainSigner
from gateway.comfystream.job import ComfyResources
from gateway.comfystream.servers import ComfyServers
from gateway.comfystream.source import ComfySource
from gateway.devnet.network import Network as Devnet
from gateway.http.app import Front
from gateway.http.heartbeat import Heartbeat
from gateway.http.server import ListenError
from gateway.http.settings import Heartbeats
from gateway.network.job import NetworkResources, NetworkSource
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.discovery import SignerSource, Source, WebhookSource
from gateway.orchestrator.pool import OrchestratorPool
from gateway.payments.ledger import Ledger, LedgerError
from gateway.payments.resources import PaymentResources
from gateway.payments.timebase import NANOSECONDS
from gateway.readiness import Readiness
from gateway.reason import EndReason
from gateway.settings import Settings
from gateway.stream.admission import Admission
from gateway.stream.registry import Registry
from gateway.stream.sources import JobSources, Preference
from gateway.stream.swap import SwapPolicy
from gateway.telemetry.lag import LoopWatch
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.udp import local_addresses
from gateway.webrtc.udp_mux import UdpMux
from signer_client import SignerClient, SignerError, SignerIdentity

log = structlog.get_logger("daemon")

READY_POLL = 0.02


class CannotStart(Exception):
    """Why the daemon does not come up, as one sentence."""


class Daemon:
    """One gateway. `run` is its whole life and gives the process's exit status."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._listens = False

    async def run(self) -> int:
        """Serve until SIGINT or SIGTERM. 0 after a clean stop, 1 where it cannot start."""
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this is not None
        watch_tasks(loop)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, this)
        try:
            async with AsyncExitStack() as stack:
                await self._serve(stack)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            log.info("gateway stops before it was ready")
        except (CannotStart, ListenError, LedgerError) as error:
            print(f"livepeer-gateway: {error}", file=sys.stderr)  # noqa: T201
            return 1
        finally:
            self._settings.remove_temporary_data()
        return 0

    def _signalled(self, run: asyncio.Task[Any]) -> None:
        """The first signal drains, the second ends at once; one during the start stops the start."""
        if self._stop.is_set():
            self._stop_now.set()
        elif not self._listens:
            run.cancel()
        self._stop.set()

    async def _serve(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        for words in settings.warnings:
            log.warning(words)
        devnet = await self._start_devnet(stack)
        if devnet is not None:
            settings = _pointed_at(devnet.description(), settings)
        ledger = await Ledger.open(settings.ledger)
        stack.push_async_callback(ledger.close)
        http = await stack.enter_async_context(
            # orchestrators hold many requests open per stream: no limit on connections, no limit on time
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=client_context(verify=settings.verify_tls)),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            )
        )
        signer, identity = await self._meet_signer(settings, stack)
        chain = await self._watch_chain(settings, stack, ledger, signer, identity)
        pool, network = await self._join_network(settings, stack, http, ledger, signer, identity, chain)
        servers, own = self._own_servers(settings, stack, http, ledger)
        relays = JobSources(
            network, own, Preference(settings.comfystream.first, settings.comfystream.fallback)
        )
        loop_watch = await stack.enter_async_context(LoopWatch())
        admission = Admission(loop_watch.overloaded)
        readiness = Readiness(ledger, signer, admission, relays.reasons_not_ready)
        stack.push_async_callback(cancel, spawn(readiness.run(), name="readiness"))
        metrics = Metrics()
        metrics.watch(loop_watch)
        registry = Registry(
            relays,
            metrics,
            webrtc=await self._webrtc(settings, stack),
            limits=settings.payments.stream_limits,
            afford=relays.admit,
            ingest_timeout=settings.ingest_timeout,
            swaps=SwapPolicy(settings.max_swaps, settings.output_timeout),
            admission=admission,
        )
        stack.push_async_callback(registry.close, EndReason.DRAINED, "the gateway stops")
        if chain is not None:
            chain.watch.burn = registry.burn
            metrics.attach_chain(chain.watch.json)

        front = Front(
            settings,
            registry,
            metrics,
            readiness,
            ledger.reader,
            http,
            orchestrators=lambda: {**pool.state(), "comfystreams": servers.state()},
            chain=chain,
            devnet=None if devnet is None else devnet.description,
        )
        for server in front.servers():
            url = await server.start()
            stack.push_async_callback(server.stop)
        self._listens = True
        if settings.front.heartbeat is not None:
            beating = spawn(_heartbeat(settings.front.heartbeat, registry, http).run(), name="heartbeat")
            stack.push_async_callback(cancel, beating)
        ceiling = settings.payments.ceiling
        log.info(
            "gateway listens",
            url=url,
            signer=settings.signer_url or "none",
            ceiling_wei_per_second="none" if ceiling is None else money.text(ceiling),
            payment_interval_s=settings.payments.interval / NANOSECONDS,
        )
        announcing = spawn(self._announce_ready(url, readiness), name="ready")
        stack.push_async_callback(cancel, announcing)
        await self._stop.wait()
        admission.draining = True
        await self._drain(registry, settings.drain_timeout)
        log.info("gateway stops", streams=len(registry), viewers=registry.viewers)

    async def _drain(self, registry: Registry, timeout: float) -> None:
        """Let live streams go on until they end, the time is over, or a second signal comes."""
        if len(registry) == 0:
            return
        log.info("gateway drains; a second signal ends it at once", streams=len(registry), seconds=timeout)
        waits = [
            spawn(registry.wait_idle(), name="drain streams"),
            spawn(self._stop_now.wait(), name="drain signal"),
        ]
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        await cancel(*waits)

    async def _webrtc(self, settings: Settings, stack: AsyncExitStack) -> WebRtcConfig:
        config = WebRtcConfig(ice=settings.ice, handshake_timeout=settings.connect_timeout)
        if settings.ice.grace is not None:
            config = replace(config, silence_timeout=max(config.silence_timeout, settings.ice.grace))
        port = settings.ice.mux_port
        if port is None:
            return config
        try:
            mux = await UdpMux.open(local_addresses(settings.ice.interfaces), port)
        except OSError as error:
            raise CannotStart(f"-iceUdpMuxPort {port} cannot be used: {error}") from error
        stack.callback(mux.close)
        return replace(config, mux=mux)

    async def _start_devnet(self, stack: AsyncExitStack) -> Devnet | None:
        if self._settings.devnet is None:
            return None
        log_flags = (f"-v={self._settings.log_level}", f"-logFormat={self._settings.log_format}")
        devnet = Devnet(self._settings.devnet, self._settings.data_dir, log_flags=log_flags)
        stack.push_async_callback(devnet.stop)
        try:
            await devnet.start()
        except OSError as error:
            raise CannotStart(f"the devnet did not start: {error}") from error
        return devnet

    async def _meet_signer(
        self, settings: Settings, stack: AsyncExitStack
    ) -> tuple[SignerClient | None, SignerIdentity | None]:
        if settings.signer_url is None:
            return None, None
        kind = SignerClient if settings.chain is None else ChainSigner
        signer = kind(settings.signer_url, headers=settings.signer_headers)
        await stack.enter_async_context(signer)
        try:
            return signer, await signer.sign_orchestrator_info()
        except SignerError as error:
            raise CannotStart(
                f"-remoteSignerUrl {settings.signer_url}: the signer cannot be asked who it is ({error}); "
                "start it, or correct the URL"
            ) from error

    async def _watch_chain(
        self,
        settings: Settings,
        stack: AsyncExitStack,
        ledger: Ledger,
        signer: SignerClient | None,
        identity: SignerIdentity | None,
    ) -> ChainService | None:
        if settings.chain is None:
            return None
        http = await stack.enter_async_context(aiohttp.ClientSession())
        sender = identity.address if identity else ""
        chain = ChainService(
            http, settings.chain, sender=sender, folder=settings.data_dir, book=ledger.redemptions
        )
        if isinstance(signer, ChainSigner):
            signer.stale = chain.watch.stale
        for name, run in chain.tasks().items():
            stack.push_async_callback(cancel, spawn(run(), name=name))
        return chain

    async def _join_network(
        self,
        settings: Settings,
        stack: AsyncExitStack,
        http: aiohttp.ClientSession,
        ledger: Ledger,
        signer: SignerClient | None,
        identity: SignerIdentity | None,
        chain: ChainService | None,
    ) -> tuple[OrchestratorPool, NetworkSource]:
        orchestrators = OrchestratorClient(
            http,
            address=identity.address if identity else "",
            signature=identity.signature if identity else b"",
            capabilities=capabilities(settings.model),
            verify_tls=settings.verify_tls,
        )
        stack.push_async_callback(orchestrators.close)
        pool = OrchestratorPool(
            orchestrators,
            _sources(settings, http, signer, chain),
            model=settings.model,
            ceiling=settings.payments.ceiling,
            unfunded=None if chain is None else chain.watch.refusal,
        )
        stack.push_async_callback(cancel, spawn(pool.run(), name="pool"))
        resources = None
        if signer is not None and identity is not None:
            resources = await PaymentResources.open(settings.payments, ledger, signer, identity)
        network = NetworkResources(http, orchestrators, pool, resources)
        return pool, NetworkSource(network)

    def _own_servers(
        self, settings: Settings, stack: AsyncExitStack, http: aiohttp.ClientSession, ledger: Ledger
    ) -> tuple[ComfyServers, ComfySource]:
        servers = ComfyServers(settings.comfystream.urls, http)
        stack.push_async_callback(cancel, spawn(servers.run(), name="comfystream-servers"))
        # the way to one's own server needs none of what publishers and viewers need to get through
        plain = WebRtcConfig(handshake_timeout=settings.connect_timeout)
        return servers, ComfySource(
            ComfyResources(http, servers, ledger, plain, settings.comfystream.workflow)
        )

    async def _announce_ready(self, url: str, readiness: Readiness) -> None:
        while readiness.reasons():  # noqa: ASYNC110 (several parts together are ready, none alone)
            await asyncio.sleep(READY_POLL)
        print(f"ready: {url}", flush=True)  # noqa: T201


def _sources(
    settings: Settings, http: aiohttp.ClientSession, signer: SignerClient | None, chain: ChainService | None
) -> list[Source | str]:
    """Where orchestrators are found: the operator's list and webhook, else the chain, else the signer."""
    interval = settings.discovery_interval
    sources: list[Source | str] = list(settings.orchestrators)
    if settings.orchestrator_webhook is not None:
        sources.append(WebhookSource(http, settings.orchestrator_webhook, interval=interval))
    if not sources and chain is not None:
        sources.append(chain.source)
    if not sources and signer is not None:
        asked, caps = signer, [f"live-video-to-video/{settings.model}"]

        async def ask() -> list[str]:
            return [found.address for found in await asked.discover_orchestrators(caps)]

        sources.append(SignerSource(ask, interval=interval))
    return sources


def _pointed_at(description: dict[str, Any], settings: Settings) -> Settings:
    """The settings of a gateway whose network is the devnet that is described."""
    orchestrators = description["orchestrators"]
    payments, own, chain = settings.payments, settings.comfystream, settings.chain
    if payments.ceiling is None and settings.devnet is not None:
        payments = replace(payments, ceiling=Fraction(settings.devnet.list_price))
    if "chain" in description:
        there = description["chain"]
        chain = ChainSettings(
            (there["url"],),
            ChainNetwork(there["controller"]),
            settings.min_deposit_hours,
            settings.block_polling_interval,
        )
    servers = (server["url"] for server in description["comfystreams"])
    return replace(
        settings,
        chain=chain,
        signer_url=description["signer"],
        orchestrators=tuple(orchestrator["addr"] for orchestrator in orchestrators),
        comfystream=replace(own, urls=(*own.urls, *servers)),
        payments=payments,
    )


def _heartbeat(settings: Heartbeats, registry: Registry, http: aiohttp.ClientSession) -> Heartbeat:
    def terminate(stream_id: str) -> None:
        stream = registry.find(stream_id)
        if stream is not None:
            stream.end(EndReason.TERMINATED, "the heartbeat's answer asked for its end")

    return Heartbeat(
        http,
        settings.url,
        interval=settings.interval,
        headers=settings.headers,
        live=lambda: [stream.request.stream_id for stream in registry],
        terminate=terminate,
    )
