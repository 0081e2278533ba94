"""The composition root: puts the daemon's parts together, and owns the order of start and stop."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from gateway import money
from gateway.aio.tasks import cancel, spawn
from gateway.aio.tasks import watch as watch_tasks
from gateway.build import (
    Build,
    CannotStart,
    JobKind,
    begin,
    job_sources,
    open_cluster,
    open_events,
    open_kinds,
    open_webrtc,
    settings_on_devnet,
    start_devnet,
    start_what_is_done_once,
)
from gateway.cluster.presence import Condition
from gateway.eth_rate import moving, wei_now
from gateway.flags import without_userinfo
from gateway.http.all_nodes import AllNodes
from gateway.http.app import HttpParts, HttpServers
from gateway.http.server import ListenError
from gateway.outputs.hls_streams import HlsStreams
from gateway.outputs.outputs import Outputs
from gateway.paid_job.former_jobs import FormerJobs
from gateway.payments.errors import LedgerError
from gateway.payments.timebase import NANOSECONDS
from gateway.private_files import make_file
from gateway.readiness import Readiness
from gateway.reason import EndReason
from gateway.settings import Settings
from gateway.stream.admission import Admission
from gateway.stream.registry import StreamRegistry
from gateway.stream.swap import SwapPolicy
from gateway.telemetry import descriptors
from gateway.telemetry.events import EventType
from gateway.telemetry.lag import LoopWatch
from gateway.telemetry.metrics import Metrics

log = structlog.get_logger("daemon")

READY_POLL = 0.02


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
        if self._settings.cluster is not None:
            structlog.contextvars.bind_contextvars(node=self._settings.cluster.node_name)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, this)
        try:
            async with AsyncExitStack() as stack:
                await self._serve(stack)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            log.info("gateway stopped during its start")
        except (CannotStart, ListenError, LedgerError) as error:
            print(f"livepeer-gateway: {error}", file=sys.stderr)  # noqa: T201
            return 1
        finally:
            self._settings.remove_temporary_data()
        return 0

    def _signalled(self, run: asyncio.Task[Any]) -> None:
        """The first signal drains, the second stops at once; one during the start cancels the start."""
        if self._stop.is_set():
            self._stop_now.set()
        elif not self._listens:
            run.cancel()
        self._stop.set()

    async def _serve(self, stack: AsyncExitStack) -> None:
        """Start every part, wait for a signal, drain. The stack stops the parts in reverse order."""
        settings = self._settings
        for sentence in settings.warnings:
            log.warning(sentence)
        devnet = await start_devnet(settings, stack)
        if devnet is not None:
            settings = settings_on_devnet(settings, devnet())
        build = await begin(settings, stack)
        node = await open_cluster(build)

        kinds = await open_kinds(build)
        sources = job_sources(build, kinds)

        loop_watch = await stack.enter_async_context(LoopWatch())
        admission = Admission(loop_watch.overloaded, descriptors.few_left)

        def reasons_not_ready() -> list[str]:
            away = [] if node is None else node.reasons_not_ready()
            nobody = [] if registry.holds_jobs else sources.reasons_not_ready()
            no_rate = build.rate.refusal() if build.rate.required and nobody else None
            return [*away, *([] if no_rate is None else [no_rate]), *nobody]

        readiness = Readiness(
            build.ledger,
            build.signer,
            admission,
            reasons_not_ready,
            sources_left_out=list if build.payments is None else build.payments.types.refusals,
        )
        build.run(readiness.run(), "readiness")
        metrics = Metrics("" if settings.cluster is None else settings.cluster.node_name)
        metrics.watch(loop_watch)
        metrics.attach_events(build.events)
        metrics.attach_trust(build.trust.count)
        end_former = await open_events(build)
        remains = {name: reader for kind in kinds for name, reader in kind.remains.items()}
        former_jobs = FormerJobs(build.ledger, remains, resumes=settings.stream.resume_timeout > 0)
        registry = StreamRegistry(
            sources,
            metrics,
            webrtc=await open_webrtc(build),
            limits=settings.payments.stream_limits,
            rate=build.rate,
            ingest_timeout=settings.stream.ingest_timeout,
            resume_timeout=settings.stream.resume_timeout,
            swaps=SwapPolicy(
                settings.stream.max_swaps, settings.stream.max_paid_starts, settings.stream.output_timeout
            ),
            admission=admission,
            names=None if node is None else node.names,
            left_streams=None if node is None else former_jobs.take_over,
            events=build.events,
            counts=None if node is None else node.counts,
            starts_elsewhere=None if node is None else build.ledger.recent_starts,
        )
        if node is not None:
            node.when_lost(registry.lose)
            node.share_events(build.events, stack)
            node.when_ended_elsewhere(registry.forget_ended)
            metrics.attach_relay(node.relay_for(registry.audience).counts)
        outputs = Outputs(settings.outputs, registry.audience.request_key_frame)
        stack.push_async_callback(outputs.close)

        async def is_live(name: str) -> bool:
            return registry.find(name) is not None or (node is not None and await node.relays(name))

        hls = HlsStreams(registry.audience, settings.outputs.program, is_live)
        stack.push_async_callback(hls.close)
        stack.push_async_callback(registry.close, EndReason.DRAINED, "the gateway stops", leave=True)
        for former in await former_jobs.take():
            registry.restore(former)
        await end_former({stream.request.request_id for stream in registry})
        if build.chain is not None:
            build.chain.watch.burn = registry.burn
            metrics.attach_chain(build.chain.watch.json)

        nodes = AllNodes(registry, metrics, partial(_orchestrators, kinds), node)
        servers = HttpServers(
            settings.http,
            settings.stream,
            HttpParts(
                registry,
                metrics,
                nodes,
                readiness,
                build.ledger.reader,
                build.http,
                events=build.events,
                admission=admission,
                spending=None if build.payments is None else build.payments.spending,
                orchestrators=lambda: {key: value for kind in kinds for key, value in kind.state().items()},
                outputs=outputs,
                hls=hls,
                ice_servers=settings.ice.servers,
                chain=build.chain,
                node=node,
                devnet=devnet,
                created_streams=build.ledger.created_streams,
                jwt_secret=_jwt_secret(settings),
                rate=build.rate,
            ),
            reuse_port=settings.cluster is not None and settings.cluster.reuse_port,
        )
        url, own_url = await self._listen(servers, build)
        if node is not None:
            await node.start(own_url, partial(_condition, registry, readiness, loop_watch, admission))
        start_what_is_done_once(build, nodes, node)
        build.run(_announce_ready(url, readiness), "ready")
        await self._stop.wait()
        admission.draining = True
        build.events.emit(EventType.NODE_DRAINING, {"streams": len(registry), "detail": "the gateway stops"})
        registry.leave_held("the gateway stops")
        await self._drain(registry)
        build.events.close_readers()
        log.info("gateway stops", streams=len(registry), viewers=len(registry.audience))

    async def _listen(self, servers: HttpServers, build: Build) -> tuple[str, str]:
        """Start the servers; gives the public URL, and that of this node alone. Raises ListenError."""
        if servers.operator is not None:
            await servers.operator.start()
            build.stack.push_async_callback(servers.operator.stop)
        if servers.inside is not None:
            await servers.inside.start()
            build.stack.push_async_callback(servers.inside.stop)
        url = own_url = await servers.public.start()
        build.stack.push_async_callback(servers.public.stop)
        if servers.own is not None:
            own_url = await servers.own.start()
            build.stack.push_async_callback(servers.own.stop)
        self._listens = True
        payments = build.settings.payments
        ceiling = wei_now(moving(payments.ceiling, build.rate))
        log.info(
            "gateway listens",
            url=url,
            signer=without_userinfo(build.settings.network.signer_url or "none"),
            ceiling_wei_per_second="none" if ceiling is None else money.text(ceiling),
            payment_interval_s=payments.interval / NANOSECONDS,
        )
        return url, own_url

    async def _drain(self, registry: StreamRegistry) -> None:
        """Wait until no stream is live, the time limit has passed, or a second signal comes."""
        if len(registry) == 0:
            return
        timeout = self._settings.stream.drain_timeout
        log.info("gateway drains; a second signal stops it at once", streams=len(registry), seconds=timeout)
        waits = [
            spawn(registry.wait_idle(), name="drain streams"),
            spawn(self._stop_now.wait(), name="drain signal"),
        ]
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        await cancel(*waits)


async def run_daemon(settings: Settings) -> int:
    """The whole life of a gateway; gives the exit status."""
    return await Daemon(settings).run()


def _condition(
    registry: StreamRegistry, readiness: Readiness, loop_watch: LoopWatch, admission: Admission
) -> Condition:
    """What other nodes of a cluster are told of this one."""
    return Condition(
        streams=len(registry),
        viewers=len(registry.audience),
        lag=loop_watch.window.median,
        open=not readiness.reasons(),
        draining=admission.draining,
    )


def _orchestrators(kinds: Sequence[JobKind]) -> dict[str, Any]:
    return {key: value for kind in kinds for key, value in kind.state().items()}


async def _announce_ready(url: str, readiness: Readiness) -> None:
    while readiness.reasons():  # noqa: ASYNC110 (no single part can say when all are ready)
        await asyncio.sleep(READY_POLL)
    print(f"ready: {url}", flush=True)  # noqa: T201


def _jwt_secret(settings: Settings) -> bytes | None:
    """What signs tokens of single streams where no flag says it: kept, so that they outlive a restart."""
    if settings.http.api_tokens is None or settings.http.jwt.secret is not None:
        return None
    path = settings.data_dir / "jwt_secret"
    try:
        make_file(path)
        if not path.read_bytes():
            path.write_bytes(secrets.token_hex(32).encode())
        return path.read_bytes()
    except OSError as error:
        raise CannotStart(f"{path}, which signs tokens, cannot be used: {error.strerror}") from error
