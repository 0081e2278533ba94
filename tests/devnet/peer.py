"""What the orchestrator's tests share: a sender with tickets of its own, raw clients, a recording runner."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import aiohttp
from aiohttp import web
from eth_hash.auto import keccak
from google.protobuf.message import Message
from grpclib.client import Channel, UnaryUnaryMethod

from gateway.devnet.account import Account
from gateway.devnet.orchestrator.config import OrchestratorConfig
from gateway.devnet.orchestrator.server import Orchestrator, serve
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.capabilities import capabilities
from gateway.payments.ticket import Ticket
from harness.serving import serving

MODEL = "comfystream"
WEI_PER_SECOND = 10**15
ASKED = livepeer_pb2.Capabilities.FromString(capabilities(MODEL))
JOB = {"model_id": MODEL, "params": {"effect": "grey"}, "gateway_request_id": "r", "stream_id": "s"}


class HandClock:
    """Nanoseconds that only the test moves."""

    def __init__(self, ns: int = 1_790_000_000 * 10**9) -> None:
        self.ns = ns

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 10**9)


def base64_of(message: Message) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


class Sender:
    """Pays with tickets of its own signing, correct ones unless a test asks for another thing."""

    def __init__(self, key: bytes = bytes([2]) * 32) -> None:
        self.account = Account(key)
        self._used: dict[bytes, int] = {}

    def payment(
        self,
        info: livepeer_pb2.OrchestratorInfo,
        tickets: int = 1,
        *,
        nonces: Iterable[int] | None = None,
        signer: Account | None = None,
    ) -> livepeer_pb2.Payment:
        """A payment of so many tickets, nonces going on from those used for the same hash."""
        params = livepeer_pb2.TicketParams()
        params.CopyFrom(info.ticket_params)
        params.ClearField("expiration_params")
        used = self._used.get(params.recipient_rand_hash, 0)
        if nonces is None:
            nonces = range(used + 1, used + tickets + 1)
            self._used[params.recipient_rand_hash] = used + tickets
        expiration = info.ticket_params.expiration_params
        payment = livepeer_pb2.Payment(
            ticket_params=params,
            sender=self.account.raw_address,
            expiration_params=expiration,
            expected_price=info.price_info,
        )
        for nonce in nonces:
            ticket = Ticket(
                recipient=params.recipient,
                sender=self.account.raw_address,
                face_value=int.from_bytes(params.face_value, "big"),
                win_prob=int.from_bytes(params.win_prob, "big"),
                sender_nonce=nonce,
                recipient_rand_hash=params.recipient_rand_hash,
                creation_round=expiration.creation_round,
                creation_round_block_hash=expiration.creation_round_block_hash,
            )
            payment.ticket_sender_params.add(
                sender_nonce=nonce, sig=(signer or self.account).sign(ticket.hash)
            )
        return payment

    def segment(
        self,
        info: livepeer_pb2.OrchestratorInfo,
        manifest_id: str = "",
        *,
        asked: livepeer_pb2.Capabilities = ASKED,
        signer: Account | None = None,
    ) -> livepeer_pb2.SegData:
        """Segment credentials for that manifest id with the info's auth token."""
        mid, no_segment = manifest_id.encode(), keccak(b"")
        return livepeer_pb2.SegData(
            manifestId=mid,
            hash=no_segment,
            profiles=b"invalid",
            sig=(signer or self.account).sign(keccak(mid + bytes(32) + no_segment)),
            capabilities=asked,
            auth_token=info.auth_token,
        )


@dataclass
class Answer:
    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class RecordingRunner:
    """Takes every job, or refuses with `status`; keeps what it was told."""

    status: int = 200
    instance: str | None = None
    """What names its process, as the devnet's runner has it; the ai-runner says nothing."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        routes = (web.post("/live-video-to-video", self._job), web.get("/health", self._health))
        self.url = await self._stack.enter_async_context(serving(*routes))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _job(self, request: web.Request) -> web.Response:
        self.jobs.append(await request.json())
        return web.json_response(self._named(), status=self.status)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response(self._named())

    def _named(self) -> dict[str, str]:
        return {} if self.instance is None else {"instance": self.instance}


@dataclass
class Peer:
    """A running orchestrator, its runner, and raw clients of both of its ports."""

    orchestrator: Orchestrator
    runner: RecordingRunner
    http: aiohttp.ClientSession
    channel: Channel
    sender: Sender
    monotonic: HandClock

    async def info(
        self,
        *,
        asked: livepeer_pb2.Capabilities | None = ASKED,
        ignore_capacity: bool = False,
        signature: bytes | None = None,
    ) -> livepeer_pb2.OrchestratorInfo:
        account = self.sender.account
        if signature is None:
            signature = account.sign(keccak(account.address.encode()))
        request = livepeer_pb2.OrchestratorRequest(
            address=account.raw_address,
            sig=signature,
            capabilities=asked,
            ignoreCapacityCheck=ignore_capacity,
        )
        method = UnaryUnaryMethod[livepeer_pb2.OrchestratorRequest, livepeer_pb2.OrchestratorInfo](
            self.channel,
            "/net.Orchestrator/GetOrchestrator",
            livepeer_pb2.OrchestratorRequest,
            livepeer_pb2.OrchestratorInfo,
        )
        return await method(request)

    async def post(self, path: str, *, payment: str = "", segment: str = "", body: Any = None) -> Answer:
        headers = {"Livepeer-Payment": payment, "Livepeer-Segment": segment}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = self.orchestrator.where.url + path
        async with self.http.post(url, headers=headers, data=data) as answer:
            return Answer(answer.status, await answer.read())

    async def start(self, info: livepeer_pb2.OrchestratorInfo, tickets: int = 5) -> dict[str, str]:
        """A started job's answer."""
        payment = self.sender.payment(info, tickets)
        answer = await self.start_with(payment, self.sender.segment(info))
        assert answer.status == 200, answer
        urls: dict[str, str] = json.loads(answer.body)
        return urls

    async def start_with(
        self, payment: livepeer_pb2.Payment, segment: livepeer_pb2.SegData, body: Any = JOB
    ) -> Answer:
        return await self.post(
            "/live-video-to-video", payment=base64_of(payment), segment=base64_of(segment), body=body
        )

    async def pay(
        self, info: livepeer_pb2.OrchestratorInfo, manifest_id: str, tickets: int = 1
    ) -> livepeer_pb2.OrchestratorInfo:
        """An accepted payment's answer: what the next one is made of."""
        answer = await self.pay_with(
            self.sender.payment(info, tickets), self.sender.segment(info, manifest_id)
        )
        assert answer.status == 200, answer
        result = livepeer_pb2.PaymentResult.FromString(answer.body)
        return livepeer_pb2.OrchestratorInfo.FromString(result.info)

    async def pay_with(self, payment: livepeer_pb2.Payment, segment: livepeer_pb2.SegData) -> Answer:
        return await self.post("/payment", payment=base64_of(payment), segment=base64_of(segment))

    async def audit(self) -> dict[str, Any]:
        async with self.http.get(self.orchestrator.where.audit_url) as answer:
            audit: dict[str, Any] = await answer.json()
            return audit

    async def change(self, **tariff: Any) -> int:
        url = self.orchestrator.where.url + "/devnet/tariff"
        async with self.http.patch(url, json=tariff) as answer:
            return answer.status

    async def segment_bytes(self, urls: dict[str, str], seq: int) -> int:
        """Publish one segment; gives the status."""
        async with self.http.post(f"{urls['publish_url']}/{seq}", data=b"segment") as answer:
            return answer.status


def unverified(alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@asynccontextmanager
async def peer(**settings: Any) -> AsyncIterator[Peer]:
    """An orchestrator at 1e15 wei per second with tickets of a second, changed by `settings`."""
    runner = RecordingRunner()
    await runner.start()
    monotonic = HandClock(0)
    defaults: dict[str, Any] = {
        "key": bytes([1]) * 32,
        "runner_url": runner.url,
        "price_wei_per_second": Fraction(WEI_PER_SECOND),
        "monotonic_ns": monotonic,
    }
    orchestrator = await serve(OrchestratorConfig(**{**defaults, **settings}))
    host, port = orchestrator.where.addr.rsplit(":", 1)
    channel = Channel(host, int(port), ssl=unverified(["h2"]))
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=unverified())) as http:
            yield Peer(orchestrator, runner, http, channel, Sender(), monotonic)
    finally:
        channel.close()
        await orchestrator.stop()
        await runner.stop()
