"""HTTP server of the signer."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import structlog
from aiohttp import web
from eth_hash.auto import keccak

from gateway.devnet.account import Account
from gateway.devnet.go_texts import json_line
from gateway.devnet.signer import node_payment
from gateway.devnet.signer.audit import Audit
from gateway.devnet.signer.call import SignedState, read_call
from gateway.devnet.signer.config import ListedOrchestrator, SignerConfig
from gateway.devnet.signer.discovery import Discovery
from gateway.devnet.signer.payment import check_state, draft, read_request, sign
from gateway.devnet.signer.refusal import (
    BadRequest,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    SignerRefusal,
    SigningFailed,
)
from gateway.devnet.signer.state import SignerSession
from gateway.payments.ticket import recover

log = structlog.get_logger("devnet.signer")

STATUS: dict[type[SignerRefusal], int] = {
    BadRequest: 400,
    RefreshNeeded: 480,
    PriceExceeded: 481,
    NoTicketsNeeded: 482,
    SigningFailed: 500,
}

MASKED = {500: "Internal Server Error", 503: "Service Unavailable Error"}
"""The fixed texts that callers get instead of the real reason."""

ORCHESTRATOR_HEADER = "Livepeer-Orchestrator-URL"


class Signer:
    """A signer; `start` listens, `stop` frees everything.

    It keeps only counts of its sessions: any signer with the same key can continue them.
    """

    def __init__(self, config: SignerConfig) -> None:
        self._config = config
        self._account = Account(config.key)
        self._audit = Audit()
        self._listed: Sequence[ListedOrchestrator] = tuple(config.orchestrators)
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self._discovery: Discovery | None = None
        self.url = ""

    @property
    def address(self) -> str:
        """The account that the tickets are paid from."""
        return self._account.address

    @property
    def audit_url(self) -> str:
        return f"{self.url}/devnet/audit"

    def list_orchestrators(self, orchestrators: Sequence[ListedOrchestrator]) -> None:
        """Replace the list of `/discover-orchestrators`."""
        self._listed = tuple(orchestrators)

    async def start(self) -> str:
        """Listen; returns the URL."""
        app = web.Application(middlewares=[_refusals])
        app.router.add_post("/sign-orchestrator-info", self._sign_orchestrator_info)
        app.router.add_post("/generate-live-payment", self._generate_live_payment)
        app.router.add_get("/discover-orchestrators", self._discover_orchestrators)
        app.router.add_get("/devnet/audit", self._show_audit)
        app.router.add_put("/devnet/orchestrators", self._set_orchestrators)
        self._http = aiohttp.ClientSession()
        self._discovery = Discovery(self._http, time.monotonic)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        log.info("signer listens", url=self.url, address=self.address)
        return self.url

    async def stop(self) -> None:
        """Stop listening; calls under way get a second to finish."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._http is not None:
            await self._http.close()

    async def _sign_orchestrator_info(self, _: web.Request) -> web.Response:
        signature = self._account.sign(keccak(self.address.encode()))
        return _json({"address": self.address, "signature": "0x" + signature.hex()})

    async def _generate_live_payment(self, request: web.Request) -> web.Response:
        is_node = self._config.dialect == "node"
        call = read_call(await self._body(request))
        if is_node:
            asked, state = node_payment.prepare(call, self._open_state, self._config)
        else:
            asked = read_request(call)
            state = None if call.state is None else self._open_state(call.state)
            asked = check_state(asked, state)
        with self._audit.call(state):
            decided = (node_payment.draft if is_node else draft)(asked, state, self._config)
            signed = await asyncio.to_thread(sign, decided, self._config, self._account)
            self._audit.signed(state, decided.state)
        log.info(
            "payment signed",
            session=decided.state.state_id,
            # a live runner's manifest id is the secret of its session
            manifest_id=None if asked.call.app else asked.manifest_id,
            tickets=decided.tickets,
        )
        return _json(
            {
                "payment": _base64(signed.payment),
                "segCreds": _base64(signed.credentials),
                "state": dict(
                    zip(
                        ("state", "sig") if is_node else ("State", "Sig"),
                        (_base64(signed.state), _base64(signed.state_signature)),
                        strict=True,
                    )
                ),
            }
        )

    async def _body(self, request: web.Request) -> bytes:
        """Raises BadRequest where a node's signer finds it too long; go-livepeer's answers 413."""
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            if self._config.dialect == "node":
                raise BadRequest("the body is too long") from error
            raise

    def _open_state(self, signed: SignedState) -> SignerSession:
        try:
            if recover(signed.raw, signed.signature) != self._account.raw_address:
                raise BadRequest("invalid sig")
        except ValueError as error:
            raise BadRequest("invalid sig") from error
        try:
            return SignerSession.from_json(signed.raw)
        except ValueError as error:
            raise BadRequest("invalid state") from error

    async def _discover_orchestrators(self, request: web.Request) -> web.Response:
        if not self._listed:
            return _problem(503, MASKED[503])
        assert self._discovery is not None
        if self._config.dialect == "node":
            apps, gpus = (request.query.getall(name, []) for name in ("app", "gpu"))
            found = await self._discovery.node_entries(self._listed, apps, gpus)
        else:
            found = await self._discovery.go_entries(self._listed, request.query.getall("caps", []))
        return _problem(503, MASKED[503]) if found is None else _json(found)

    async def _set_orchestrators(self, request: web.Request) -> web.Response:
        """For the devnet: replace the list that discovery gives."""
        try:
            entries = json.loads(await request.read())
            self.list_orchestrators(
                [
                    ListedOrchestrator(
                        address=str(entry["address"]),
                        score=float(entry.get("score", 1)),
                        capabilities=tuple(map(str, entry.get("capabilities", ()))),
                        runners=bool(entry.get("runners", False)),
                    )
                    for entry in entries
                ]
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest("expected a list of objects with an address") from error
        return web.Response(status=204)

    async def _show_audit(self, _: web.Request) -> web.Response:
        return web.json_response(self._audit.to_json())


async def serve(config: SignerConfig) -> Signer:
    """Start a signer; its URL is `signer.url`."""
    signer = Signer(config)
    await signer.start()
    return signer


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except SignerRefusal as refusal:
        status = STATUS[type(refusal)]
        log.info("call refused", path=request.path, status=status, why=str(refusal))
        response = _problem(status, MASKED.get(status, str(refusal)))
        if isinstance(refusal, RefreshNeeded):
            response.headers[ORCHESTRATOR_HEADER] = refusal.orchestrator
        return response


def _problem(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message}}, status)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json_line(value), content_type="application/json")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
