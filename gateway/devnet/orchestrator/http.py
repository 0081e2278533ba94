"""HTTP routes of the orchestrator: job start, payments, audit."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from fractions import Fraction

import structlog
from aiohttp import web

from gateway.devnet.orchestrator.offer import Capacity, Offer, Tariff, price_info
from gateway.devnet.orchestrator.payment_receiver import PaymentReceiver
from gateway.devnet.orchestrator.refusal import (
    BadCredentials,
    BadJob,
    InsufficientBalance,
    NoCapacity,
    NonceSeen,
    Refusal,
    TicketRefused,
    UnknownSession,
    UnreadablePayment,
    WorkerFailed,
)
from gateway.devnet.orchestrator.running_jobs import RunningJobs, read_job
from gateway.devnet.orchestrator.session import Sessions

log = structlog.get_logger("devnet.orchestrator")

STATUS: dict[type[Refusal], int] = {
    BadJob: 400,
    NoCapacity: 503,
    UnreadablePayment: 402,
    BadCredentials: 403,
    TicketRefused: 400,
    NonceSeen: 400,
    InsufficientBalance: 400,
    WorkerFailed: 500,
    UnknownSession: 409,
}

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
    ) -> None:
        self._payments = payments
        self._jobs = jobs
        self._offer = offer
        self._capacity = capacity
        self._sessions = sessions
        self._tariff = tariff
        self._redemptions = redemptions

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"/{self._offer.pipeline}", self._start_job),
            web.post("/payment", self._payment),
            web.post("/refresh-payment", self._refresh_payment),
            web.get("/devnet/audit", self._audit),
            web.patch("/devnet/tariff", self._change_tariff),
        ]

    async def _start_job(self, request: web.Request) -> web.Response:
        job = read_job(await request.read())
        if job.model_id != self._offer.model:
            raise NoCapacity(f"no capacity for the model {job.model_id!r}")
        manifest_id = secrets.token_hex(8)
        with ExitStack() as undo:
            self._capacity.take()
            undo.callback(self._capacity.free)
            undo.callback(self._sessions.end, manifest_id)
            receipt = await self._payments.accept(
                request.headers.get(PAYMENT, ""), request.headers.get(SEGMENT, ""), manifest_id=manifest_id
            )
            self._payments.require_first_ticket(receipt.session)
            undo.pop_all()
        return web.json_response(await self._jobs.start(job, manifest_id, receipt.session))

    async def _payment(self, request: web.Request) -> web.Response:
        receipt = await self._payments.accept(
            request.headers.get(PAYMENT, ""), request.headers.get(SEGMENT, "")
        )
        return web.Response(body=self._payments.result(receipt), content_type="application/octet-stream")

    async def _refresh_payment(self, request: web.Request) -> web.Response:
        try:
            document = json.loads(await request.read())
            sender = bytes.fromhex(document["sender"].removeprefix("0x"))
            manifest_id = document["manifest_id"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadJob("expected sender and manifest_id") from error
        if len(sender) != 20 or not isinstance(manifest_id, str):
            raise BadJob("expected an address as sender and a text as manifest_id")
        info = self._payments.refresh(sender, manifest_id)
        return web.json_response(
            {
                "payment_params": base64.b64encode(info.SerializeToString()).decode(),
                "orchestrator": self._offer.url,
                "manifest_id": manifest_id,
                "payment_url": f"{self._offer.url}/payment",
            }
        )

    async def _audit(self, _: web.Request) -> web.Response:
        held = {"channels": self._jobs.open_channels, "capacity_in_use": self._capacity.taken}
        on_chain = {} if self._redemptions is None else {"redemptions": self._redemptions()}
        return web.json_response({**self._sessions.audit(), **held, **on_chain})

    async def _change_tariff(self, request: web.Request) -> web.Response:
        """For tests: set any of price_wei_per_second, debit_rate, capacity, warm."""
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
        return await handler(request)
    except Refusal as refusal:
        status = STATUS[type(refusal)]
        log.info("request refused", path=request.path, status=status, why=str(refusal))
        return web.Response(status=status, text=f"{refusal}\n")
