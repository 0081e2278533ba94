"""Which routes are served on which address: `-httpAddr` for clients, `-cliAddr` for the operator."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway import money
from gateway.chain.service import ChainService
from gateway.eth_rate import EthRate
from gateway.http.access import Access
from gateway.http.all_nodes import AllNodes
from gateway.http.chain import ChainRoutes
from gateway.http.connections import Connections
from gateway.http.control import ControlRoutes
from gateway.http.create import CreateRoutes
from gateway.http.events import EventRoutes, OperatorEventRoutes
from gateway.http.forwarding import OF_OTHER_NODES, Forwarding
from gateway.http.health import HealthRoutes
from gateway.http.hls import HlsRoutes
from gateway.http.jwks import KeySet
from gateway.http.jwt_tokens import JwtTokens
from gateway.http.limits import RequestRate, rate_limit
from gateway.http.limits_used import limits_used
from gateway.http.openapi import OpenApiRoutes
from gateway.http.operator import OperatorRoutes
from gateway.http.origins import Origins, own_names
from gateway.http.other_nodes import OtherNodes
from gateway.http.outputs import OutputRoutes
from gateway.http.pages import OperatorPageRoutes, PageRoutes
from gateway.http.payments import PaymentRoutes
from gateway.http.route import Route, Token
from gateway.http.server import ListenError, Server, SocketServer, application
from gateway.http.sessions import Links
from gateway.http.settings import HttpSettings
from gateway.http.streams import StreamRoutes
from gateway.http.tls import Certificate
from gateway.http.tokens import TokenFile
from gateway.http.usage import UsageRoutes
from gateway.http.webhook import AuthWebhook
from gateway.http.whep import WhepRoutes
from gateway.http.whip import WhipRoutes
from gateway.outputs.hls_streams import HlsStreams
from gateway.outputs.outputs import Outputs
from gateway.payments.created_streams import CreatedStreams
from gateway.payments.ledger_reader import LedgerReader
from gateway.payments.spending import Spending
from gateway.readiness import Readiness
from gateway.stream.admission import Admission
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import Json
from gateway.stream.settings import StreamSettings
from gateway.telemetry.events import EventHub
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.ice_servers import IceServer

if TYPE_CHECKING:
    from gateway.cluster.node import ClusterNode  # imports nats-py, which takes a while


@dataclass(frozen=True)
class HttpParts:
    """The parts of the daemon that answer requests."""

    registry: StreamRegistry
    metrics: Metrics
    nodes: AllNodes
    """What the operator is shown of all nodes of a cluster."""
    readiness: Readiness
    ledger_reader: LedgerReader
    client: aiohttp.ClientSession
    """For the auth webhook, and the keys of an issuer of tokens."""
    orchestrators: Callable[[], Json]
    """What `/orchestrators` shows."""
    events: EventHub = field(default_factory=EventHub)
    outputs: Outputs | None = None
    admission: Admission = field(default_factory=Admission)
    spending: Spending | None = None
    """None: nothing is paid."""
    hls: HlsStreams | None = None
    ice_servers: Sequence[IceServer] = ()
    """For the Link headers of WHIP and WHEP."""
    chain: ChainService | None = None
    node: ClusterNode | None = None
    """This one among the nodes of a cluster."""
    devnet: Callable[[], Json] | None = None
    """What `/devnet` shows; None: there is none."""
    created_streams: CreatedStreams | None = None
    """Those that the API created; None: it creates none."""
    jwt_secret: bytes | None = field(default=None, repr=False)
    """Signs tokens of single streams where the settings have no secret."""
    rate: EthRate = field(default_factory=EthRate)
    """What an ether is in dollars, for status and page."""


class HttpServers:
    """The server of `-httpAddr` and that of `-cliAddr`, with their routes and guards, not yet started.

    Raises ListenError for a certificate that cannot be used.
    """

    public: Server
    """For publishers, viewers and the page."""
    operator: Server | None
    """None: the public one serves the operator's routes, too."""
    own: Server | None
    """On `-nodeAddr`: all routes, where `public` shares its port with other nodes."""
    inside: SocketServer | None = None
    """For what other nodes of a cluster send on; None without one."""

    def __init__(
        self, settings: HttpSettings, stream: StreamSettings, parts: HttpParts, *, reuse_port: bool = False
    ) -> None:
        self._reuse_port = reuse_port
        self._settings = settings
        self._stream = stream
        self._parts = parts
        self._forwarding = Forwarding(settings.external_url, settings.trusted_proxies)
        self._others = None
        if parts.node is not None:
            self._others = OtherNodes(parts.node, parts.registry, self._forwarding)
        files = {
            Token.PUBLISH: settings.publish_tokens,
            Token.PLAY: settings.play_tokens,
            Token.API: settings.api_tokens,
        }
        token_files = {kind: TokenFile(path) for kind, path in files.items() if path is not None}
        self._jwt = _jwt_tokens(settings, parts, token_files.get(Token.API))
        self._access = Access(token_files, parts.registry.watched_name, self._jwt)
        self._control = ControlRoutes(
            parts.registry, parts.admission, parts.events, self._limits_used, parts.nodes
        )
        public, operator = self._public_routes(), self._operator_routes()
        everything = [*public, operator]
        self.operator = None
        closed = paths = {route.path for route in operator}
        if settings.cli_addr is None:
            public.append(operator)
        else:
            own = self._usage(for_operator=False)
            closed = paths - {route.path for route in own}
            public.append(own)
            beside = self._beside_operator()
            described = OpenApiRoutes([operator, *beside], (), self._forwarding).routes()
            groups = [operator, *beside, described]
            origins = Origins((), self._forwarding, hosts=self._hosts(settings.cli_addr))
            app = application(groups, origins=origins)
            self.operator = Server(app, settings.cli_addr, "cliAddr", connections=self._connections())
        self._serve_public(public, everything, closed, paths)

    def _hosts(self, address: tuple[str, int]) -> Collection[str] | None:
        return own_names(address[0], self._settings.external_url, self._settings.allowed_hosts)

    def _serve_public(
        self,
        groups: list[list[Route]],
        everything: list[list[Route]],
        closed: Collection[str],
        operator: Collection[str],
    ) -> None:
        """Make `public`, `own` and `inside`.

        `groups` are the routes of `-httpAddr`, and no other page may read the paths of `closed` there;
        `everything` are those of `-nodeAddr`, where the same holds for all paths of `operator`.
        """
        settings = self._settings
        access = self._access
        middlewares: list[Middleware] = []
        if settings.limits.requests_per_address:
            rate = RequestRate(settings.limits.requests_per_address)
            middlewares.append(rate_limit(rate, self._forwarding.client))

        def described(groups: list[list[Route]]) -> list[list[Route]]:
            return [*groups, OpenApiRoutes(groups, access.kinds, self._forwarding).routes()]

        if self._others is not None and self._parts.node is not None:
            own_routes = [*self._parts.nodes.own_routes(), *self._control.own_routes()]
            inside = application([*described(groups), own_routes], guards=[access.guard])
            inside[OF_OTHER_NODES] = True
            self.inside = SocketServer(inside, self._parts.node.socket)
            middlewares.append(self._others.send_on)

        def app(
            groups: list[list[Route]], address: tuple[str, int], operator: Collection[str]
        ) -> web.Application:
            origins = Origins(
                settings.cors_origins,
                self._forwarding,
                operator=operator,
                hosts=self._hosts(address),
            )
            return application(
                described(groups), guards=[access.guard], middlewares=middlewares, origins=origins
            )

        self.public = Server(
            app(groups, settings.http_addr, closed),
            settings.http_addr,
            "httpAddr",
            _tls(settings),
            connections=self._connections(),
            reuse_port=self._reuse_port,
        )
        self.own = None
        if settings.node_addr is not None:
            self.own = Server(
                app(everything, settings.node_addr, operator),
                settings.node_addr,
                "nodeAddr",
                connections=self._connections(),
                reuse_port=self._reuse_port,  # who starts nodes may keep the port for them
            )

    def _connections(self) -> Connections:
        return Connections(self._settings.connections, shared=self._forwarding.is_trusted)

    def _public_routes(self) -> list[list[Route]]:
        settings, parts = self._settings, self._parts
        node_name = "" if parts.node is None else parts.node.identity.node
        links = Links(self._forwarding, parts.ice_servers, node=node_name)
        webhook = None
        if settings.auth_webhook is not None:
            webhook = AuthWebhook(parts.client, settings.auth_webhook, settings.auth_api_key)
        free = not (settings.publishing_is_guarded or settings.reached_from_outside)
        funds = None if parts.chain is None else parts.chain.watch.funds
        groups = [
            WhipRoutes(
                parts.registry,
                parts.metrics,
                links,
                settings.limits,
                default_model=self._stream.model,
                standby=self._stream.standby,
                webhook=webhook,
                everybody_chooses=free,
                outputs=parts.outputs,
            ).routes(),
            WhepRoutes(
                parts.registry,
                links,
                settings.limits,
                node_tag="" if parts.node is None else parts.node.tag,
            ).routes(),
            StreamRoutes(
                parts.registry, links, funds=funds, outputs=parts.outputs, rate=parts.rate, node=node_name
            ).routes(),
            PaymentRoutes(parts.registry, parts.ledger_reader).routes(),
            EventRoutes(parts.events, parts.registry.watched_name).routes(),
            HealthRoutes(parts.readiness.reasons, parts.readiness.notes).routes(),
            PageRoutes(settings.frame_ancestors, settings.external_url).routes(),
        ]
        if parts.hls is not None:
            groups.append(HlsRoutes(parts.hls).routes())
        if parts.outputs is not None:
            groups.append(OutputRoutes(parts.registry, parts.outputs, everybody=free).routes())
        if self._jwt is not None and settings.api_tokens is not None and parts.created_streams is not None:
            groups.append(CreateRoutes(parts.registry, links, parts.created_streams, self._jwt).routes())
        if parts.devnet is not None:
            groups.append([_devnet_route(parts.devnet)])
        return groups

    def _orchestrators(self) -> Json:
        rate = self._parts.rate.current
        return {**self._parts.orchestrators(), "eth_usd": None if rate is None else money.decimal(rate, 6)}

    def _usage(self, *, for_operator: bool) -> list[Route]:
        """On an address of its own the operator's has no tokens."""
        alone = for_operator and self._settings.cli_addr is not None
        return UsageRoutes(
            self._parts.ledger_reader,
            self._settings.usage_markup,
            holder=None if alone else self._access.holder,
            for_operator=for_operator,
        ).routes()

    def _limits_used(self) -> list[Json]:
        return limits_used(self._settings.limits, self._parts.registry, self._parts.spending)

    def _beside_operator(self) -> list[list[Route]]:
        """What the operator's page uses of the public routes, where it has an address of its own."""
        parts = self._parts
        links = Links(self._forwarding, parts.ice_servers)
        tag = "" if parts.node is None else parts.node.tag
        return [
            WhepRoutes(parts.registry, links, self._settings.limits, node_tag=tag).routes(),
            HealthRoutes(parts.readiness.reasons, parts.readiness.notes).routes(),
            OperatorPageRoutes().files(),
        ]

    def _operator_routes(self) -> list[Route]:
        parts = self._parts
        routes = OperatorRoutes(parts.registry, parts.nodes, self._orchestrators).routes()
        routes += OperatorEventRoutes(parts.events).routes()
        routes += self._control.routes()
        routes += OperatorPageRoutes().routes()
        routes += self._usage(for_operator=True)
        if parts.chain is not None:
            routes += ChainRoutes(parts.chain.json, parts.chain.luck_chart).routes()
        if self._others is not None:
            routes += self._others.routes()
        return routes


def _jwt_tokens(settings: HttpSettings, parts: HttpParts, api: TokenFile | None) -> JwtTokens | None:
    """None where no JSON Web Tokens are taken."""
    jwt = settings.jwt
    secret = parts.jwt_secret if jwt.secret is None else jwt.secret
    if secret is None and jwt.jwks_url is None:
        return None
    return JwtTokens(
        secret=secret,
        keys=None if jwt.jwks_url is None else KeySet(parts.client, jwt.jwks_url),
        audience=jwt.audience,
        issuer=jwt.issuer,
        maker=lambda grant_id: None if api is None else api.by_id(grant_id),
    )


def _tls(settings: HttpSettings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    certificate, key = settings.tls
    try:
        return Certificate(certificate, key).context()
    except OSError as error:
        raise ListenError(
            f"-httpsCert {certificate} and -httpsKey {key} cannot be used ({error}): they take a PEM "
            "certificate chain and its private key"
        ) from error


def _devnet_route(description: Callable[[], Json]) -> Route:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(description())

    return Route("GET", "/devnet", answer, "where the devnet's parts are", {200: "its parts"})
