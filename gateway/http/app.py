"""What is served at which address: one for publishers, viewers and the page, one for the operator."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import aiohttp
from aiohttp import web

from gateway.chain.service import ChainService
from gateway.http.access import Access
from gateway.http.chain import ChainRoutes
from gateway.http.forwarding import Forwarding
from gateway.http.health import HealthRoutes
from gateway.http.limits import RequestRate, rate_limit
from gateway.http.openapi import OpenApiRoutes
from gateway.http.operator import OperatorRoutes
from gateway.http.pages import PageRoutes
from gateway.http.payments import PaymentRoutes
from gateway.http.route import Route, Token
from gateway.http.server import ListenError, Server, application
from gateway.http.sessions import Links
from gateway.http.streams import StreamRoutes
from gateway.http.tls import Certificate
from gateway.http.tokens import TokenFile
from gateway.http.webhook import AuthWebhook
from gateway.http.whep import WhepRoutes
from gateway.http.whip import WhipRoutes
from gateway.payments.ledger_reader import LedgerReader
from gateway.readiness import Readiness
from gateway.settings import Settings
from gateway.stream.registry import Registry
from gateway.stream.seam import Json
from gateway.telemetry.metrics import Metrics


class Front:
    """Routes, guards and listeners out of the settings and of the parts that answer.

    `orchestrators` gives what `/orchestrators` shows; `chain` and `devnet` are None where there is none.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        metrics: Metrics,
        readiness: Readiness,
        ledger_reader: LedgerReader,
        http: aiohttp.ClientSession,
        *,
        orchestrators: Callable[[], Json],
        chain: ChainService | None,
        devnet: Callable[[], Json] | None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._readiness = readiness
        self._ledger_reader = ledger_reader
        self._http = http
        self._orchestrators = orchestrators
        self._chain = chain
        self._devnet = devnet
        self._forwarding = Forwarding(settings.front.external_url, settings.front.trusted_proxies)

    def servers(self) -> list[Server]:
        """What is to be started, the public one last. Raises ListenError for https files of no use."""
        settings = self._settings.front
        public, operator = self._public(), self._operator()
        servers = []
        if settings.cli_addr is None:
            public.append(operator)
        else:
            groups = [operator, OpenApiRoutes([operator], (), self._forwarding).routes()]
            servers.append(Server(application(groups), settings.cli_addr, "cliAddr"))
        access = self._access()
        public.append(OpenApiRoutes(public, access.kinds, self._forwarding).routes())
        middlewares = []
        if settings.limits.requests_per_address:
            rate = RequestRate(settings.limits.requests_per_address)
            middlewares.append(rate_limit(rate, self._forwarding.client))
        app = application(public, guards=[access.guard], middlewares=middlewares)
        return [*servers, Server(app, settings.http_addr, "httpAddr", self._tls())]

    def _public(self) -> list[list[Route]]:
        settings, registry = self._settings.front, self._registry
        links = Links(self._forwarding, self._settings.ice.servers)
        webhook = None
        if settings.auth_webhook is not None:
            webhook = AuthWebhook(self._http, settings.auth_webhook, settings.auth_api_key)
        groups = [
            WhipRoutes(
                registry,
                self._metrics,
                links,
                settings.limits,
                default_model=self._settings.model,
                standby=self._settings.standby,
                webhook=webhook,
            ).routes(),
            WhepRoutes(registry, links, settings.limits).routes(),
            StreamRoutes(registry, links, funds=self._chain.watch.funds if self._chain else None).routes(),
            PaymentRoutes(registry, self._ledger_reader).routes(),
            HealthRoutes(self._readiness.reasons).routes(),
            PageRoutes().routes(),
        ]
        if self._devnet is not None:
            groups.append([_devnet_route(self._devnet)])
        return groups

    def _operator(self) -> list[Route]:
        routes = OperatorRoutes(self._registry, self._metrics, self._orchestrators).routes()
        if self._chain is not None:
            routes += ChainRoutes(self._chain.json, self._chain.luck_chart).routes()
        return routes

    def _access(self) -> Access:
        settings = self._settings.front
        files = {Token.PUBLISH: settings.publish_tokens, Token.PLAY: settings.play_tokens}
        given = {kind: TokenFile(path) for kind, path in files.items() if path is not None}
        return Access(given, self._registry.watched_name)

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.front.tls is None:
            return None
        certificate, key = self._settings.front.tls
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
