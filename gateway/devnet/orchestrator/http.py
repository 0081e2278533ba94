"""HTTP routes of the orchestrator: job start, payments, audit."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from fractions import Fraction

import structlog
from aiohttp import web

from gateway.devnet.go_texts import decode_json, json_line
from gateway.devnet.orchestrator.conduct import HONEST, Conduct
from gateway.devnet.orchestrator.offer import Capacity, Offer, Tariff, price_info
from gateway.devnet.orchestrator.payment_receiver import PaymentReceiver
from gateway.devnet.orchestrator.refusal import (
    AtCapacity,
    BadCredentials,
    BadJob,
    InsufficientBalance,
    NonceSeen,
    OrchestratorRefusal,
    ParamsExpired,
    TicketRefused,
    UnknownSession,
    UnreadablePayment,
    WorkerFailed,
)
from gateway.devnet.orchestrator.running_jobs import RunningJobs, read_job
from gateway.devnet.orchestrator.session import Sessions

log = structlog.get_logger("devnet.orchestrator")

STATUS: dict[type[OrchestratorRefusal], int] = {
    BadJob: 400,
    AtCapacity: 503,
    UnreadablePayment: 402,
    BadCredentials: 403,
    TicketRefused: 400,
    NonceSeen: 400,
    ParamsExpired: 400,
    InsufficientBalance: 400,
    WorkerFailed: 500,
}

NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
NOT_FOUND = "404 page not found"
ADDRESS = re.compile(r"(0[xX])?[0-9a-fA-F]{40}")

PAYMENT = "Livepeer-Payment"
SEGMENT = "Livepeer-Segment"


class OrchestratorRoutes:
    """The handlers; each makes go-livepeer's checks in its order."""

    def __init__(
        self,
        *,
        payments: PaymentReceiver,
        jobs: RunningJobs,
        offer: Offer,
        capacity: Capacity,
        sessions: Sessions,
        tariff: Tariff,
        redemptions: Callable[[], dict[str, int]] | None = None,
        refreshes: bool = True,
        conduct: Conduct = HONEST,
    ) -> None:
        """`refreshes`: whether there is a `/refresh-payment`, which go-livepeer has since 0.9.0."""
        self._payments = payments
        self._jobs = jobs
        self._offer = offer
        self._capacity = capacity
        self._sessions = sessions
        self._tariff = tariff
        self._redemptions = redemptions
        self._refreshes = refreshes
        self._conduct = conduct

    def routes(self) -> list[web.RouteDef]:
        refresh = [web.post("/refresh-payment", self._refresh_payment)] if self._refreshes else []
        return [
            *refresh,
            web.post(f"/{self._offer.pipeline}", self._start_job),
            web.post("/payment", self._payment),
            web.get("/devnet/audit", self._audit),
            web.patch("/devnet/tariff", self._change_tariff),
        ]

    async def _start_job(self, request: web.Request) -> web.Response:
        job = read_job(await request.read())
        if job.model_id not in self._offer.models:
            raise AtCapacity("insufficient capacity")
        manifest_id = secrets.token_hex(4)
        with ExitStack() as undo:
            self._capacity.take(job.model_id)
            undo.callback(self._capacity.free, job.model_id)
            undo.callback(self._sessions.end, manifest_id)
            receipt = await self._payments.accept(
                request.headers.get(PAYMENT, ""), request.headers.get(SEGMENT, ""), manifest_id=manifest_id
            )
            self._payments.start_debiting(receipt, self._offer.models[job.model_id].price)
            if self._conduct.refuses_paid:
                raise AtCapacity("insufficient capacity")
            if self._conduct.moves:
                self._offer.move()
            undo.pop_all()
        return _json(await self._jobs.start(job, manifest_id, receipt.session))

    async def _payment(self, request: web.Request) -> web.Response:
        receipt = await self._payments.accept(
            request.headers.get(PAYMENT, ""), request.headers.get(SEGMENT, "")
        )
        return web.Response(body=self._payments.result(receipt), content_type="application/octet-stream")

    async def _refresh_payment(self, request: web.Request) -> web.Response:
        try:
            document = decode_json(await request.read())
        except ValueError as error:
            return _json_error(400, str(error))
        document = document if isinstance(document, dict) else {}
        sender, manifest_id = document.get("sender"), document.get("manifest_id")
        if not isinstance(sender, str) or not ADDRESS.fullmatch(sender):
            return _json_error(400, "invalid sender")
        if not isinstance(manifest_id, str) or not manifest_id.strip():
            return _json_error(400, "missing manifest_id")
        try:
            info = self._payments.refresh(bytes.fromhex(sender[-40:]), manifest_id.strip())
        except UnknownSession as refusal:
            return _json_error(409, str(refusal))
        return _json(
            {
                "payment_params": base64.b64encode(info.SerializeToString()).decode(),
                "orchestrator": self._offer.url,
                "manifest_id": manifest_id,
                "payment_url": f"{self._offer.url}/payment",
            }
        )

    async def _audit(self, _: web.Request) -> web.Response:
        held = {"channels": self._jobs.open_channels, "capacity_in_use": self._capacity.total}
        on_chain = {} if self._redemptions is None else {"redemptions": self._redemptions()}
        return web.json_response({**self._sessions.audit(), **held, **on_chain})

    async def _change_tariff(self, request: web.Request) -> web.Response:
        """For tests: set any of debit_rate, capacity, and the first model's price_wei_per_second and warm."""
        try:
            change = json.loads(await request.read(), parse_float=str)
            price = Fraction(change["price_wei_per_second"]) if "price_wei_per_second" in change else None
            rate = Fraction(change.get("debit_rate", self._tariff.debit_rate))
            capacity = int(change.get("capacity", self._tariff.capacity))
            if price is not None:
                price_info(price)
            if rate < 0 or capacity < 0:
                raise ValueError("no value may be negative")
        except (AttributeError, TypeError, ValueError, ZeroDivisionError, RecursionError) as error:
            raise BadJob("expected price_wei_per_second, debit_rate, capacity or warm") from error
        if price is not None:
            self._tariff.price = price
        self._tariff.debit_rate = rate
        self._tariff.capacity = capacity
        self._tariff.warm = bool(change.get("warm", self._tariff.warm))
        return web.Response(status=204)


@web.middleware
async def refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a refusal with its status and its text as plain text, as go-livepeer does."""
    try:
        if request.match_info.http_exception is not None:
            return _plain(request.match_info.http_exception.status, NOT_FOUND)
        return await handler(request)
    except OrchestratorRefusal as refusal:
        status = STATUS[type(refusal)]
        log.info("request refused", path=request.path, status=status, why=str(refusal))
        return _plain(status, str(refusal))


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=NO_SNIFFING)


def _json(value: object) -> web.Response:
    return web.Response(body=json_line(value).rstrip(b"\n"), content_type="application/json")


def _json_error(status: int, message: str) -> web.Response:
    body = json_line({"error": {"message": message}})
    return web.Response(status=status, body=body, content_type="application/json")
