"""The steps that build the daemon's parts. Each pushes onto the stack what undoes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiohttp

from gateway.aio.client_tls import client_context
from gateway.aio.http_client import client_session, only_inside
from gateway.aio.tasks import cancel, spawn
from gateway.candidates.suspension import Suspension
from gateway.candidates.trust import Trust
from gateway.chain.networks import ChainNetwork
from gateway.chain.service import ChainService
from gateway.chain.settings import ChainSettings
from gateway.chain.signer import ChainSigner
from gateway.comfystream.resources import ComfyResources
from gateway.comfystream.servers import COMFYSTREAM, ComfyServers
from gateway.comfystream.source import ComfySource
from gateway.devnet.description import Description, described_devnet
from gateway.devnet.devnet import Devnet
from gateway.eth_rate import EthRate, PriceNow, moving
from gateway.events.file import EventFile
from gateway.events.outbox_writer import OutboxWriter
from gateway.events.webhook import WebhookDelivery
from gateway.flags import without_userinfo
from gateway.http.all_nodes import AllNodes
from gateway.http.heartbeat import Heartbeat
from gateway.network.checks import funds_check, ticket_check, type_check, version_check
from gateway.network.models import ModelNetworks
from gateway.network.remains import OrchestratorRemains
from gateway.network.resources import NetworkResources
from gateway.network.source import NETWORK, NetworkSource
from gateway.network.uplink import Uplink
from gateway.orchestrator.address_change import AddressChange
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.discovery import Listing, SignerSource, Source, WebhookSource
from gateway.orchestrator.pool import OrchestratorPool
from gateway.orchestrator.selection import Check
from gateway.paid_job.former_jobs import JOB
from gateway.paid_job.remains import RemainsReader
from gateway.payments.ledger import Ledger
from gateway.payments.resources import PaymentResources
from gateway.runner.client import RunnerClient
from gateway.runner.lists import DiscoveryService, OrchestratorRunners, SignerRunners
from gateway.runner.pool import RunnerList, RunnerPool
from gateway.runner.remains import RunnerRemains
from gateway.runner.resources import RunnerResources
from gateway.runner.session_details import RUNNER
from gateway.runner.settings import RunnerSettings
from gateway.runner.source import RunnerSource
from gateway.settings import Settings
from gateway.stream.seam import JobSource, Json, UnknownModel
from gateway.stream.sources import JobSources, Preference
from gateway.telemetry import tracing
from gateway.telemetry.events import EventHub, EventType
from gateway.trickle.left_channels import LeftChannels
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.public_addresses import PublicAddresses
from gateway.webrtc.udp import local_addresses
from gateway.webrtc.udp_mux import UdpMux
from signer_client import SignerClient, SignerError, SignerIdentity

if TYPE_CHECKING:
    from gateway.cluster.node import ClusterNode


class CannotStart(Exception):
    """Why the daemon does not start, as one sentence."""


@dataclass(frozen=True)
class Build:
    """What the steps have in common: the settings, the stack, and the parts that several others need."""

    settings: Settings
    stack: AsyncExitStack
    ledger: Ledger
    http: aiohttp.ClientSession
    """For the operator's own servers: ComfyStream and webhooks."""
    signer_http: aiohttp.ClientSession
    signer: SignerClient | None
    """None: nothing is paid."""
    identity: SignerIdentity | None
    """The signer's address, and its signature that orchestrators ask for."""
    chain: ChainService | None
    payments: PaymentResources | None
    """None: nothing is paid."""
    trust: Trust
    events: EventHub = field(default_factory=EventHub)
    rate: EthRate = field(default_factory=EthRate)
    """What an ether is in dollars."""

    def suspended(self, who: str, suspension: Suspension) -> None:
        """Tell that one who could take jobs is passed over for a fault."""
        data = {
            "orchestrator": who,
            "detail": suspension.reason,
            "faults": suspension.faults,
            "seconds": round(suspension.seconds_left(time.monotonic()), 1),
        }
        self.events.emit(EventType.ORCHESTRATOR_SUSPENDED, data)

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run `coroutine` as a task until the daemon stops."""
        self.stack.push_async_callback(cancel, spawn(coroutine, name=name))


async def start_devnet(settings: Settings, stack: AsyncExitStack) -> Description | None:
    """The devnet of `-devnet`, None without the flag; a node's runs already. Raises CannotStart."""
    if settings.devnet is None:
        return None
    running = described_devnet()
    if running is not None:
        return running
    log_flags = (f"-v={settings.log_level}", f"-logFormat={settings.log_format}")
    devnet = Devnet(settings.devnet, settings.data_dir, log_flags=log_flags)
    stack.push_async_callback(devnet.stop)
    try:
        await devnet.start()
    except OSError as error:
        raise CannotStart(f"the devnet did not start: {error}") from error
    return devnet.description


def settings_on_devnet(settings: Settings, description: dict[str, Any]) -> Settings:
    """`settings` with the devnet that is described as the network."""
    payments, chain = settings.payments, settings.chain
    if payments.ceiling is None and settings.devnet is not None:
        listed = settings.devnet.list_prices
        first = next(iter(listed.values()))
        payments = replace(
            payments,
            ceiling=listed.get(settings.stream.model, first),
            general_ceiling=first,
            capability_prices={**listed, **payments.capability_prices},
        )
    if "chain" in description:
        url, controller = description["chain"]["url"], description["chain"]["controller"]
        chain = ChainSettings((url,), ChainNetwork(controller), settings.chain_watch)
    servers = (server["url"] for server in description["comfystreams"])
    return replace(
        settings,
        chain=chain,
        network=replace(
            settings.network,
            signer_url=description["signer"],
            orchestrators=tuple(one["addr"] for one in description["orchestrators"]),
        ),
        comfystream=replace(settings.comfystream, urls=(*settings.comfystream.urls, *servers)),
        payments=payments,
        runner=_runners_on_devnet(settings, description["runners"]),
    )


def _runners_on_devnet(settings: Settings, runners: list[dict[str, Any]]) -> RunnerSettings:
    """The devnet's live runners. Without `-app` their app serves the default model."""
    runner = settings.runner
    if runners and not runner.apps:
        app = runners[0]["app"]
        runner = RunnerSettings.for_apps({settings.stream.model: app, app: app})
    return replace(runner, orchestrators=tuple(one["url"] for one in runners))


async def begin(settings: Settings, stack: AsyncExitStack) -> Build:
    """The parts that several others need. Raises CannotStart or LedgerError."""
    cluster = settings.cluster
    if settings.otel_endpoint is not None:
        open_traces(settings.otel_endpoint, "" if cluster is None else cluster.node_name, stack)
    ledger = await Ledger.open(settings.ledger, node=None if cluster is None else cluster.node_name)
    stack.push_async_callback(ledger.close)
    tls = client_context(verify=settings.network.verify_tls)
    http = await stack.enter_async_context(client_session(None, tls=tls))
    signer_http = await stack.enter_async_context(client_session(None))
    signer = await _open_signer(settings, signer_http, stack)
    identity = None if signer is None else await _identity(signer, settings.network.signer_url)
    chain, fixed = None, settings.payments.eth_usd
    fed = fixed is None and settings.chain is not None and settings.chain.network.price_feed is not None
    rate = EthRate(fixed, expected=fed, required=settings.payments.uses_usd)
    if settings.chain is not None:
        chain_http = await stack.enter_async_context(client_session(None))
        sender = identity.address if identity else ""
        chain = ChainService(
            chain_http,
            settings.chain,
            sender=sender,
            folder=settings.data_dir,
            book=ledger.redemptions,
            reached_inside=partial(only_inside, chain_http),
            rate=rate if fed else None,
        )
    payments, events = None, EventHub("" if cluster is None else cluster.node_name)
    if signer is not None and identity is not None:
        payments = await PaymentResources.open(settings.payments, ledger, signer, identity, events, rate)
    store = ledger.trust
    trust = Trust(await store.records(), await store.paid_addresses())
    build = Build(
        settings, stack, ledger, http, signer_http, signer, identity, chain, payments, trust, events, rate
    )
    trust.on_fault = build.suspended
    build.run(store.keep(trust), "trust")
    if payments is not None:
        build.run(payments.types.run(payments.signer), "signer-types")
    build.run(ledger.retention.run(settings.ledger_keep), "ledger-retention")
    if chain is not None:
        if isinstance(signer, ChainSigner):
            signer.stale = chain.watch.stale
        for name, run in chain.tasks().items():
            build.run(run(), name)
    return build


def open_traces(endpoint: str, node: str, stack: AsyncExitStack) -> None:
    """Record traces until the daemon stops, and send them to the collector."""
    from gateway.telemetry.otel import OtelTracer  # imports OpenTelemetry's SDK, which takes a while

    tracer = OtelTracer(endpoint, version=version("livepeer-live-gateway"), node=node)
    stack.push_async_callback(tracer.close)
    stack.enter_context(tracing.use(tracer))


async def _open_signer(
    settings: Settings, http: aiohttp.ClientSession, stack: AsyncExitStack
) -> SignerClient | None:
    network = settings.network
    if network.signer_url is None:
        return None
    kind = SignerClient if settings.chain is None else ChainSigner
    return await stack.enter_async_context(
        kind(network.signer_url, headers=network.signer_headers, session=http)
    )


async def _identity(signer: SignerClient, url: str | None) -> SignerIdentity:
    try:
        return await signer.sign_orchestrator_info()
    except SignerError as error:
        raise CannotStart(
            f"-remoteSignerUrl {without_userinfo(url or '')}: the signer did not give its address ({error}); "
            "start it, or correct the URL"
        ) from error


@dataclass(frozen=True)
class JobKind:
    """One kind of job: the source of its jobs, and its part of the JSON of `/orchestrators`."""

    source: JobSource
    state: Callable[[], Json]
    remains: Mapping[str, RemainsReader] = field(default_factory=dict)
    """What reads jobs of a former run of the gateway, by the kind that stands in their details."""


async def open_kinds(build: Build) -> list[JobKind]:
    """All kinds of jobs that the settings name."""
    network, runners = await open_network(build), open_runners(build)
    return [network, *([] if runners is None else [runners]), open_comfystream(build)]


def job_sources(build: Build, kinds: Sequence[JobKind]) -> JobSources:
    """The sources of all kinds, in the order that the operator prefers."""
    comfy = build.settings.comfystream
    preference = Preference(
        COMFYSTREAM if comfy.first else NETWORK, comfy.fallback, alike=frozenset({NETWORK, RUNNER})
    )
    return JobSources([kind.source for kind in kinds], preference)


async def open_cluster(build: Build) -> ClusterNode | None:
    """This node among the others; None without `-cluster`."""
    if build.settings.cluster is None:
        return None
    from gateway.cluster.node import ClusterNode  # imports nats-py, which takes a while

    return await ClusterNode.open(build.settings.cluster, build.stack)


async def open_network(build: Build) -> JobKind:
    """Jobs on the network's orchestrators."""
    settings, identity = build.settings, build.identity
    address_change = AddressChange(build.trust.paid_as, settings.network.accepted_addresses)
    payments, left_channels = build.payments, LeftChannels()
    least = settings.network.least_version
    versions = [] if least is None else [version_check(least)]

    def open_model(model: str) -> NetworkResources:
        default = model == settings.stream.model
        allowed = settings.payments.ceiling if default else settings.payments.ceiling_of(model)
        ceiling = moving(allowed, build.rate)
        if payments is not None and ceiling is None:
            raise UnknownModel(f"the operator allows no price for the model {model!r}")
        orchestrators = OrchestratorClient(
            address=identity.address if identity else "",
            signature=identity.signature if identity else b"",
            capabilities=capabilities(model),
            verify_tls=settings.network.verify_tls,
        )
        pool = OrchestratorPool(
            orchestrators,
            _discovery(build, model),
            model=model,
            ceiling=ceiling,
            checks=[*_checks(build, ceiling), *versions, address_change.check],
            trust=build.trust,
        )
        paid = None if payments is None or ceiling is None else payments.at(ceiling)
        uplink = Uplink(pool, orchestrators, build.signer)
        return NetworkResources(orchestrators, pool, uplink, paid, left_channels=left_channels)

    networks = ModelNetworks(settings.stream.models, open_model)
    build.stack.push_async_callback(networks.close)
    build.run(networks.run(), "models")
    build.stack.push_async_callback(left_channels.close)
    source = NetworkSource(networks)
    return JobKind(source, networks.state, {JOB: partial(OrchestratorRemains, networks, source)})


def _checks(build: Build, ceiling: PriceNow) -> list[Check]:
    """What an orchestrator has to pass beside model and price."""
    payments, blocklist = build.settings.payments, build.settings.network.blocklist
    checks: list[Check] = [] if blocklist is None else [blocklist.check]
    if build.payments is not None:
        checks.append(type_check(build.payments.types.refusal))
    if ceiling is not None:
        checks.append(ticket_check(payments.ticket_limits, ceiling, payments.interval))
    if build.chain is not None:
        checks.append(funds_check(build.chain.watch.refusal))
    return checks


def _discovery(build: Build, model: str) -> list[Source | str]:
    """Where orchestrators are found: the operator's list and webhook, else the chain, else the signer."""
    network = build.settings.network
    sources: list[Source | str] = list(network.orchestrators)
    if network.orchestrator_webhook is not None:
        webhook = WebhookSource(build.http, network.orchestrator_webhook, interval=network.discovery_interval)
        sources.append(webhook)
    if not sources and build.chain is not None:
        sources.append(build.chain.source)
    if not sources and build.signer is not None:
        signer = build.signer

        async def ask() -> list[str]:
            return [
                one.address for one in await signer.discover_orchestrators([f"live-video-to-video/{model}"])
            ]

        inside = partial(only_inside, build.signer_http)
        sources.append(SignerSource(ask, reached_inside=inside, interval=network.discovery_interval))
    return sources


def open_runners(build: Build) -> JobKind | None:
    """Jobs on live runners; None where no app was named."""
    settings = build.settings.runner
    if not settings.apps:
        return None
    sender = "" if build.identity is None else build.identity.address
    address_change = AddressChange(build.trust.paid_as, build.settings.network.accepted_addresses)
    client = RunnerClient(sender=sender, verify_tls=build.settings.network.verify_tls)
    build.stack.push_async_callback(client.close)
    ceiling = moving(build.settings.payments.ceiling, build.rate)
    pool = RunnerPool(
        _runner_lists(build, client),
        frozenset(settings.apps.values()),
        challenge=client.challenge,
        ceiling=ceiling,
        checks=[*_checks(build, ceiling), address_change.check],
        trust=build.trust,
    )
    build.run(pool.run(), "runners")
    resources = RunnerResources(client, pool, settings.apps, settings.profiles, build.payments)
    build.stack.push_async_callback(resources.first_payments.close)
    build.stack.push_async_callback(resources.left_sessions.close)
    source = RunnerSource(resources)
    return JobKind(source, pool.state, {RUNNER: partial(RunnerRemains, resources, source)})


def _runner_lists(build: Build, client: RunnerClient) -> list[RunnerList]:
    """Where live runners are found: orchestrators and discovery services, else the signer."""
    settings, signer = build.settings, build.signer
    named = [Listing.parse(one).addr for one in settings.network.orchestrators]
    lists: list[RunnerList] = [
        OrchestratorRunners(client, addr) for addr in (*named, *settings.runner.orchestrators)
    ]
    lists += [DiscoveryService(client, url) for url in settings.runner.discovery_urls]
    if not lists and signer is not None:
        lists.append(SignerRunners(signer, reached_inside=partial(only_inside, build.signer_http)))
    return lists


def open_comfystream(build: Build) -> JobKind:
    """Jobs on the operator's own ComfyStream servers."""
    settings = build.settings
    servers = ComfyServers(settings.comfystream.urls, build.http)
    servers.on_suspended = build.suspended
    build.run(servers.run(), "comfystream-servers")
    # without the ICE flags, which are for publishers and viewers
    webrtc = WebRtcConfig(handshake_timeout=settings.ice.connect_timeout)
    comfy = settings.comfystream
    resources = ComfyResources(build.http, servers, build.ledger, webrtc, comfy.workflow, comfy.restart)
    return JobKind(ComfySource(resources), lambda: {"comfystreams": servers.state()})


async def open_webrtc(build: Build) -> WebRtcConfig:
    """How peers are connected; opens the port of `-iceUdpMuxPort`. Raises CannotStart."""
    ice = build.settings.ice
    config = WebRtcConfig(ice=ice, handshake_timeout=ice.connect_timeout)
    if ice.grace is not None:
        config = replace(config, silence_timeout=max(config.silence_timeout, ice.grace))
    public = PublicAddresses(ice.public_ips)
    if public.names:
        await public.refresh()
        build.run(public.run(), "ice-public-addresses")
        config = replace(config, public=public)
    if ice.mux_port is None:
        return config
    try:
        mux = await UdpMux.open(partial(local_addresses, ice.interfaces), ice.mux_port)
    except OSError as error:
        raise CannotStart(f"-iceUdpMuxPort {ice.mux_port} cannot be used: {error}") from error
    build.stack.callback(mux.close)
    return replace(config, mux=mux)


async def open_events(build: Build) -> Callable[[set[str]], Coroutine[Any, Any, None]]:
    """Deliver events where the settings say.

    Gives what emits the end of the streams of a former run, but of those with these request ids.
    """
    settings, hub = build.settings.events, build.events
    if settings.file is not None:
        file = EventFile(settings.file, hub)
        build.stack.push_async_callback(file.close)
        hub.sinks.append(file.take)
    if settings.webhook is None:
        return _nothing_to_end
    outbox = build.ledger.events
    delivery = WebhookDelivery(build.http, settings.webhook, settings.secrets, outbox, hub)
    writer = OutboxWriter(hub, outbox, delivery.wake)
    build.stack.push_async_callback(writer.close)
    hub.sinks.append(writer.take)
    build.run(delivery.run(), "events")
    return writer.end_former


async def _nothing_to_end(_: set[str]) -> None:
    """Nobody is told of streams that a former run did not end."""


def start_what_is_done_once(build: Build, nodes: AllNodes, node: ClusterNode | None) -> None:
    """What one node of a cluster does for all: heartbeats, redemptions, keys of nodes that are gone."""
    settings = build.settings

    def on_duty() -> bool:
        return node is None or node.duty.mine

    if node is not None:
        build.run(node.do_what_is_done_once(settings.stream.resume_timeout), "cluster-duty")
    if build.chain is not None:
        build.chain.follow_while(on_duty)
    if settings.http.heartbeat is not None:
        heartbeat = Heartbeat(
            build.http,
            settings.http.heartbeat.url,
            interval=settings.http.heartbeat.interval,
            headers=settings.http.heartbeat.headers,
            live=nodes.stream_ids,
            terminate=nodes.end,
            on_duty=on_duty,
        )
        build.run(heartbeat.run(), "heartbeat")
