"""What the tests of live runners share: an orchestrator, a signer, a plain client, a small app."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import aiohttp
from aiohttp import web

from gateway.devnet.live_runners.config import LiveConfig
from gateway.devnet.live_runners.dialect import DIALECTS
from gateway.devnet.live_runners.price import usd_per_hour
from gateway.devnet.live_runners.server import LiveOrchestrator, serve
from gateway.devnet.signer import Signer, SignerConfig
from gateway.devnet.signer import serve as serve_signer
from gateway.orchestrator.livepeer_pb2 import Capabilities, OrchestratorInfo, PaymentResult, SegData
from harness.serving import serving
from tests.devnet.peer import HandClock, Sender, base64_of, unverified

APP = "livepeer-example/echo"
SECRET = "orchestrator secret"
WEI_PER_SECOND = 10**15

Json = dict[str, Any]


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class SmallApp:
    """An app that records requests and answers with what it got; SSE and WebSocket too."""

    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        routes = (
            web.get("/events", self._events),
            web.get("/ws", self._websocket),
            web.get("/healthz", self._health),
            web.route("*", "/{path:.*}", self._any),
        )
        self.url = await self._stack.enter_async_context(serving(*routes))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _any(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        seen = {"method": request.method, "path": request.path_qs, "body": (await request.read()).decode()}
        return web.json_response(seen, status=202)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        self.requests.append(dict(request.headers))
        while True:
            await response.write(b": still there\n\n")
            await _pause()

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(dict(request.headers))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"you said {message.data}")
        return socket


async def _pause() -> None:
    import asyncio

    await asyncio.sleep(0.02)


@dataclass
class Live:
    """A running orchestrator of live runners, its signer and a client of both."""

    orchestrator: LiveOrchestrator
    signer: Signer
    http: aiohttp.ClientSession
    app: SmallApp
    clock: HandClock
    wall: HandClock | None
    sender: Sender = field(default_factory=Sender)

    @property
    def url(self) -> str:
        return self.orchestrator.where.url

    async def call(self, method: str, url: str, **arguments: Any) -> Answer:
        async with self.http.request(method, url, **arguments) as answer:
            return Answer(answer.status, await answer.read(), dict(answer.headers))

    async def post(self, url: str, **arguments: Any) -> Answer:
        return await self.call("POST", url, **arguments)

    async def register(self, *, price: object = None, unit: str = "hour", **changes: Any) -> Json:
        """Register the small app; returns the answer."""
        answer = await self.heartbeat(price=price, unit=unit, **changes)
        assert answer.status == 200, answer
        told: Json = answer.json
        return told

    async def heartbeat(
        self, *, price: object = None, unit: str = "hour", authorization: str = SECRET, **changes: Any
    ) -> Answer:
        price = usd_per_hour(Fraction(WEI_PER_SECOND)) if price is None else price
        body = {
            "runner_url": self.app.url,
            "app": APP,
            "mode": "persistent",
            "capacity": 1,
            "price_info": {"price": price, "currency": "usd", "unit": unit},
            "status": "ready",
            "session_ids": [],
            **changes,
        }
        headers = {"Authorization": authorization}
        return await self.post(f"{self.url}/runners/heartbeat", json=body, headers=headers)

    async def discovery(self) -> list[Json]:
        answer = await self.call("GET", f"{self.url}/discovery")
        assert answer.status == 200, answer
        entries: list[Json] = answer.json
        return entries

    async def runner(self) -> Json:
        """The only runner in discovery."""
        entries = await self.discovery()
        runner: Json = entries[0]["runners"][0]
        return runner

    async def challenge(self, url: str) -> Json:
        answer = await self.post(url, headers={"Livepeer-Payer-Address": self.signer.address})
        assert answer.status == 402, answer
        challenge: Json = answer.json
        return challenge

    async def sign(self, challenge: Json, state: Json | None = None, **changes: Any) -> Answer:
        body = {
            "orchestrator": challenge["payment_params"],
            "type": "live",
            "ManifestID": challenge["manifest_id"],
            "app": APP,
            **({} if state is None else {"state": state}),
            **changes,
        }
        return await self.post(f"{self.signer.url}/generate-live-payment", json=body)

    async def signed(self, challenge: Json, state: Json | None = None, **changes: Any) -> Json:
        answer = await self.sign(challenge, state, **changes)
        assert answer.status == 200, answer
        signed: Json = answer.json
        return signed

    async def pay(self, url: str, signed: Json) -> Answer:
        return await self.post(url, headers=headers_of(signed))

    async def reserve(self, url: str | None = None, **changes: Any) -> tuple[Json, Json, Json]:
        """A reserved session: its answer, its challenge and what was signed."""
        url = url or (await self.runner())["url"]
        challenge = await self.challenge(url)
        signed = await self.signed(challenge, **changes)
        answer = await self.pay(url, signed)
        assert answer.status == 200, answer
        return answer.json, challenge, signed

    async def audit(self) -> Json:
        audit: Json = (await self.call("GET", self.orchestrator.where.audit_url)).json
        return audit

    async def change(self, **tariff: Any) -> int:
        return (await self.call("PATCH", f"{self.url}/devnet/tariff", json=tariff)).status


def headers_of(signed: Json) -> dict[str, str]:
    return {"Livepeer-Payment": signed["payment"], "Livepeer-Segment": signed["segCreds"]}


def info_of(challenge: Json) -> OrchestratorInfo:
    """The params of a challenge."""
    return OrchestratorInfo.FromString(base64.b64decode(challenge["payment_params"]))


def next_params(answer: Answer) -> Json:
    """go-livepeer's answer to a payment, as what the signer takes next."""
    result = PaymentResult.FromString(answer.body)
    return {"payment_params": base64.b64encode(result.info).decode()}


def segment_of(sender: Sender, challenge: Json, **changes: Any) -> SegData:
    """Credentials without capabilities, as a signer makes them for live runners."""
    return sender.segment(info_of(challenge), challenge["manifest_id"], asked=Capabilities(), **changes)


def tickets_of(sender: Sender, challenge: Json, count: int = 10, **changes: Any) -> dict[str, str]:
    """Both headers, with tickets of the sender's own making."""
    info = info_of(challenge)
    return {
        "Livepeer-Payment": base64_of(sender.payment(info, count, **changes)),
        "Livepeer-Segment": base64_of(segment_of(sender, challenge)),
    }


@asynccontextmanager
async def live(
    dialect: str = "go", *, signer: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[Live]:
    """An orchestrator and a signer of that dialect, with tickets worth a second."""
    clock, app = HandClock(0), SmallApp()
    settings: dict[str, Any] = {
        "key": bytes([1]) * 32,
        "dialect": DIALECTS[dialect],
        "secret": SECRET,
        "monotonic_ns": clock,
        "debit_interval": 0.02,
    }
    async with AsyncExitStack() as stack:
        await app.start()
        stack.push_async_callback(app.stop)
        payer = await serve_signer(SignerConfig(key=bytes([2]) * 32, dialect=dialect, **(signer or {})))
        stack.push_async_callback(payer.stop)
        orchestrator = await serve(LiveConfig(**{**settings, **config}))
        stack.push_async_callback(orchestrator.stop)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=unverified()))
        )
        yield Live(orchestrator, payer, http, app, clock, None)
