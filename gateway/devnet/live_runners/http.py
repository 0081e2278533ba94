"""HTTP routes of an orchestrator of live runners; each handler makes the dialect's checks in its order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from fractions import Fraction
from typing import Any, TypeVar

import structlog
from aiohttp import web

from gateway.aio.tasks import spawn
from gateway.devnet.go_texts import decode_json, json_line
from gateway.devnet.live_runners.challenge import read_address
from gateway.devnet.live_runners.channels import SessionChannels
from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.payments import Debits, Payments
from gateway.devnet.live_runners.price import UNITS_PER_SECOND, RunnerPrice
from gateway.devnet.live_runners.proxy import Proxy
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.registry import RunnerRegistry
from gateway.devnet.live_runners.runner import PERSISTENT, RegisteredRunner
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.orchestrator.http import NO_SNIFFING, NOT_FOUND, PAYMENT, SEGMENT, STATUS
from gateway.devnet.orchestrator.refusal import OrchestratorRefusal, TicketRefused
from gateway.devnet.orchestrator.session import Sessions
from gateway.devnet.trickle_server import TrickleServer

PAYER = "Livepeer-Payer-Address"
TOKEN = "Livepeer-Session-Token"  # noqa: S105
MAX_BODY = 1_048_576

Json = dict[str, Any]
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger("devnet.live_runners")


class LiveRoutes:
    """The handlers. `payments` None: off-chain, sessions are free."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        registry: RunnerRegistry,
        payments: Payments | None,
        channels: SessionChannels,
        proxy: Proxy,
        trickle: TrickleServer,
        accounts: Sessions,
        debits: Debits,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._dialect = dialect
        self._registry = registry
        self._payments = payments
        self._channels = channels
        self._proxy = proxy
        self._trickle = trickle
        self._accounts = accounts
        self._debits = debits
        self._now_ns = monotonic_ns

    def routes(self) -> list[web.RouteDef]:
        runner = "/runner/{route}/session/{session}"
        session = "/apps/{route}/session/{session}"
        paid = [
            web.post(f"{session}/payment", self._pay),
            web.post("/refresh-payment", self._refresh),
        ]
        return [
            web.post("/runners/heartbeat", self._heartbeat),
            web.post("/runners/{route}/unregister", self._unregister),
            web.get("/discovery", self._discovery),
            web.post("/apps/{route}/session", self._reserve),
            web.post(f"{session}/stop", self._stop),
            web.post(f"{runner}/stop", self._stop_by_app),
            web.post(f"{runner}/channels", self._create_channels),
            web.delete(f"{runner}/channels", self._remove_channels),
            web.route("*", f"{session}/app", self._app),
            web.route("*", session + "/app/{path:.*}", self._app),
            *(paid if self._payments is not None else []),
            web.get("/devnet/audit", self._audit),
            web.patch("/devnet/tariff", self._change_tariff),
            web.post("/devnet/release", self._release_all),
        ]

    async def _heartbeat(self, request: web.Request) -> web.Response:
        document = await _document(request, "invalid heartbeat JSON")
        return _json(self._registry.heartbeat(document, request.headers.get("Authorization", "")))

    async def _unregister(self, request: web.Request) -> web.Response:
        self._registry.unregister(request.match_info["route"], request.headers.get("Authorization", ""))
        return self._done()

    async def _discovery(self, _: web.Request) -> web.Response:
        if not self._registry.runners and self._dialect.tls:
            raise RequestRefused(404, NOT_FOUND)
        return _json(self._registry.discovery())

    async def _reserve(self, request: web.Request) -> web.Response:
        runner = self._registry.find_ready(request.match_info["route"])
        if runner.registration.mode != PERSISTENT:
            raise RequestRefused(400, "runner is not persistent")
        if self._payments is None:
            return _json(self._registry.reserve(runner, self._free_session(runner)))
        payment, segment = request.headers.get(PAYMENT, ""), request.headers.get(SEGMENT, "")
        is_node = not self._dialect.tls
        is_paid = bool(payment and segment) if is_node else bool(payment or segment)
        if not runner.is_priced and not (is_node and is_paid):
            raise RequestRefused(503, "runner price is unavailable")
        if is_paid:
            return _json(await _whole(self._payments.reserve(runner, payment, segment)))
        payer = read_address(request.headers.get(PAYER))
        if payer is None:
            return self._error(402, f"{PAYER} is required", as_json=True)
        return _json(self._payments.challenge(runner, payer), 402)

    async def _pay(self, request: web.Request) -> web.Response:
        assert self._payments is not None
        runner, session = self._session(request)
        payment, segment = request.headers.get(PAYMENT, ""), request.headers.get(SEGMENT, "")
        answer = await _whole(self._payments.pay(runner, session, payment, segment))
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/octet-stream")
        return _json(answer)

    async def _refresh(self, request: web.Request) -> web.Response:
        assert self._payments is not None
        document = await _document(request, "invalid refresh request")
        document = document if isinstance(document, dict) else {}
        payer, manifest_id = read_address(document.get("sender")), document.get("manifest_id")
        if payer is None:
            return self._error(400, "invalid sender", as_json=True)
        if not isinstance(manifest_id, str) or not manifest_id.strip():
            return self._error(400, "missing manifest_id", as_json=True)
        try:
            return _json(self._payments.refresh(payer, manifest_id.strip()))
        except RequestRefused as refusal:
            return self._error(refusal.status, str(refusal), as_json=True)

    async def _stop(self, request: web.Request) -> web.Response:
        runner = self._registry.find(request.match_info["route"])
        session = runner.sessions.get(request.match_info["session"])
        if session is not None:
            self._registry.release(runner, session, "the client stopped it")
        elif not self._dialect.tls:
            raise RequestRefused(404, "session not found")
        return self._done()

    async def _stop_by_app(self, request: web.Request) -> web.Response:
        runner, session = self._app_session(request)
        self._registry.release(runner, session, "the app stopped it")
        return self._done()

    async def _create_channels(self, request: web.Request) -> web.Response:
        _, session = self._app_session(request)
        return _json(self._channels.create(session, await _document(request, "invalid channels request")))

    async def _remove_channels(self, request: web.Request) -> web.Response:
        _, session = self._app_session(request)
        return _json(self._channels.remove(session, await _document(request, "invalid channels request")))

    async def _app(self, request: web.Request) -> web.StreamResponse:
        runner, session = self._session(request)
        if not self._registry.is_ready(runner):
            raise RequestRefused(404, "runner not found")
        return await self._proxy.handle(request, runner, session)

    async def _audit(self, _: web.Request) -> web.Response:
        held = {
            "channels": len(self._trickle.names()) - len(self._registry.runners),
            "capacity_in_use": self._registry.session_count,
        }
        audit = self._accounts.audit()
        for session_id, why in self._registry.ended.items():
            if session_id in audit["sessions"]:
                audit["sessions"][session_id]["end_reason"] = why
        return web.json_response({**audit, **held})

    async def _change_tariff(self, request: web.Request) -> web.Response:
        """For tests: set any of price_wei_per_second, listed_wei, debit_rate, capacity, price_stale."""
        try:
            change = json.loads(await request.read(), parse_float=str)
            self._debits.rate = Fraction(change.get("debit_rate", self._debits.rate))
            for runner in self._registry.runners.values():
                _change(runner, change)
        except (AttributeError, TypeError, ValueError, ZeroDivisionError, RecursionError) as error:
            raise RequestRefused(
                400, "expected price_wei_per_second, listed_wei, debit_rate, capacity or price_stale"
            ) from error
        return web.Response(status=204)

    async def _release_all(self, _: web.Request) -> web.Response:
        """For tests: end every session, as an orchestrator may at any time."""
        for runner in self._registry.runners.values():
            for session in tuple(runner.sessions.values()):
                self._registry.release(runner, session, "the orchestrator ended it")
        return web.Response(status=204)

    @web.middleware
    async def refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a refusal with its status: go-livepeer's as plain text, a node's as JSON."""
        try:
            if request.match_info.http_exception is not None:
                return self._error(request.match_info.http_exception.status, NOT_FOUND)
            return await handler(request)
        except OrchestratorRefusal as refusal:
            status = self._status(refusal)
            log.info("request refused", status=status, why=str(refusal))
            return self._error(status, str(refusal))

    def _status(self, refusal: OrchestratorRefusal) -> int:
        if isinstance(refusal, RequestRefused):
            return refusal.status
        if not self._dialect.tls and isinstance(refusal, TicketRefused):
            return 403
        return STATUS[type(refusal)]

    def _error(self, status: int, text: str, *, as_json: bool = False) -> web.Response:
        if not self._dialect.tls:
            return _json({"error": text}, status)
        if as_json:
            return _json({"error": {"message": text}}, status)
        return web.Response(status=status, text=f"{text}\n", headers=NO_SNIFFING)

    def _done(self) -> web.Response:
        return web.Response(status=204) if self._dialect.tls else _json({"ok": True})

    def _free_session(self, runner: RegisteredRunner) -> LiveSession:
        if runner.full:
            raise RequestRefused(503 if self._dialect.tls else 409, "runner is at capacity")
        session_id = self._dialect.session_id()
        session_id = session_id if session_id.startswith("session_") else f"session_{session_id}"
        return LiveSession(session_id, None, None, self._now_ns())

    def _session(self, request: web.Request) -> tuple[RegisteredRunner, LiveSession]:
        return self._registry.find_session(request.match_info["route"], request.match_info["session"])

    def _app_session(self, request: web.Request) -> tuple[RegisteredRunner, LiveSession]:
        return self._registry.find_by_token(
            request.match_info["route"], request.match_info["session"], request.headers.get(TOKEN, "")
        )


def _change(runner: RegisteredRunner, change: Json) -> None:
    price = runner.price
    if "price_wei_per_second" in change and price is not None:
        wei = Fraction(change["price_wei_per_second"])
        runner.price_set = RunnerPrice(int(wei / UNITS_PER_SECOND.get(price.unit, 1)), price.unit, price.usd)
    if "listed_wei" in change:
        runner.listed_wei = None if change["listed_wei"] is None else int(change["listed_wei"])
    if "capacity" in change:
        runner.capacity_set = int(change["capacity"])
    runner.price_stale = bool(change.get("price_stale", runner.price_stale))


async def _whole(taking: Coroutine[Any, Any, T]) -> T:
    """Wait for it; it goes on to its end where the client hangs up."""
    return await asyncio.shield(spawn(taking, name="payment", expected=(OrchestratorRefusal,)))


async def _document(request: web.Request, error: str) -> object:
    try:
        document: object = decode_json(await request.read())
    except ValueError as wrong:
        raise RequestRefused(400, error) from wrong
    return document


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json_line(value), content_type="application/json")
