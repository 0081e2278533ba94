"""A proxy that loses, delays or replaces requests and answers of a signer and an orchestrator.

Stands before the real ones. What it does to whom is drawn from a seed and counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Any

import aiohttp
from aiohttp import web
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from gateway.devnet.orchestrator.tls import server_context
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, OrchestratorRequest, PaymentResult
from harness.serving import serving

DELAY = 0.3
MAX_FIELD_SIZE = 64 * 1024
GET_ORCHESTRATOR = "/net.Orchestrator/GetOrchestrator"


class Fault(StrEnum):
    NONE = "none"
    DROP_REQUEST = "drop request"
    DROP_ANSWER = "drop answer"
    DELAY = "delay"
    SERVER_ERROR = "500"
    REFRESH = "480"
    PRICE = "481"
    NOTHING_DUE = "482"


ANSWERS = {Fault.SERVER_ERROR: 500, Fault.REFRESH: 480, Fault.PRICE: 481, Fault.NOTHING_DUE: 482}
OF_THE_NETWORK = (Fault.DROP_REQUEST, Fault.DROP_ANSWER, Fault.DELAY, Fault.SERVER_ERROR)
OF_A_FIRST_SIGNING = (*OF_THE_NETWORK, Fault.REFRESH)
OF_THE_SIGNER = (*OF_A_FIRST_SIGNING, Fault.PRICE, Fault.NOTHING_DUE)
"""Without a state no price was agreed on, and something is always due."""


class FaultProxy:
    """`signer_url` and `addr` are what a gateway is pointed at; `share` of the calls meet a fault."""

    def __init__(self, signer: str, orchestrator: dict[str, Any], *, seed: int, share: float) -> None:
        self.signer_url = ""
        self.addr = ""
        self.share = share
        self.publish_through: Callable[[str], str] | None = None
        """What the URL that segments go to is replaced by in the answer to a job's start."""
        self.faults: Counter[str] = Counter()
        """By what was called and what was done to it."""
        self.lost_null_states = 0
        """Payments that the signer made on a null state and nobody received."""
        self.lost_states = 0
        """Payments that the signer made on a state and nobody received."""
        self._signer = signer
        self._orchestrator = orchestrator
        self._seed = seed
        self._randoms: dict[str, random.Random] = {}
        self._last = Fault.NONE
        self._url = ""
        self._http: aiohttp.ClientSession | None = None

    async def serve(self, stack: AsyncExitStack) -> None:
        self._http = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=False),
                timeout=aiohttp.ClientTimeout(total=30),
                max_field_size=MAX_FIELD_SIZE,
            )
        )
        self.signer_url = await _listen(stack, self._on_signer, None)
        context = await asyncio.to_thread(server_context, "127.0.0.1", alpn=["http/1.1"])
        self._url = await _listen(stack, self._on_orchestrator, context)
        grpc = Server([self])
        listening = socket.create_server(("127.0.0.1", 0))
        stack.callback(listening.close)
        h2 = await asyncio.to_thread(server_context, "127.0.0.1", alpn=["h2"])
        await grpc.start(sock=listening, ssl=h2)
        stack.callback(grpc.close)
        self.addr = f"127.0.0.1:{listening.getsockname()[1]}"

    # the signer

    async def _on_signer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault, state = Fault.NONE, ""
        if request.path == "/generate-live-payment":
            state = (json.loads(body).get("state") or {}).get("State")
            fault = self._draw("signing", OF_THE_SIGNER if state else OF_A_FIRST_SIGNING)
        if fault in ANSWERS:
            error = {"error": {"message": "said by the proxy"}}
            return web.json_response(error, status=ANSWERS[fault])
        answer = await self._forward(request, self._signer, body, fault)
        if fault is Fault.DROP_ANSWER and answer is not None and answer.status == 200:
            self.lost_states += bool(state)
            self.lost_null_states += not state
        return _given(request, answer, fault)

    # the orchestrator

    async def _on_orchestrator(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = Fault.NONE
        if request.path in ("/payment", "/refresh-payment"):
            fault = self._draw(request.path.strip("/"), OF_THE_NETWORK)
        if fault in ANSWERS:
            return web.Response(status=ANSWERS[fault], text="said by the proxy")
        answer = await self._forward(request, self._orchestrator["url"], body, fault)
        if answer is not None and answer.status == 200:
            answer.body = self._with_our_urls(request.path, bytes(answer.body))  # type: ignore[arg-type]
        return _given(request, answer, fault)

    def _with_our_urls(self, path: str, body: bytes) -> bytes:
        """Infos in answers lead back here, or the first of them would lead around."""
        if path == "/payment":
            result = PaymentResult.FromString(body)
            result.info = self._ours(result.info)
            return result.SerializeToString()
        if path == "/refresh-payment":
            document = json.loads(body)
            info = self._ours(b64decode(document["payment_params"]))
            document["payment_params"] = b64encode(info).decode()
            return json.dumps(document).encode()
        if path == "/live-video-to-video" and self.publish_through is not None:
            document = json.loads(body)
            document["publish_url"] = self.publish_through(document["publish_url"])
            return json.dumps(document).encode()
        return body

    def _ours(self, raw: bytes) -> bytes:
        info = OrchestratorInfo.FromString(raw)
        info.transcoder = self._url
        return info.SerializeToString()

    def __mapping__(self) -> dict[str, Handler]:
        handler = Handler(
            self._get_orchestrator, Cardinality.UNARY_UNARY, OrchestratorRequest, OrchestratorInfo
        )
        return {GET_ORCHESTRATOR: handler}

    async def _get_orchestrator(self, stream: Stream[OrchestratorRequest, OrchestratorInfo]) -> None:
        request = await stream.recv_message()
        assert request is not None
        host, port = self._orchestrator["addr"].rsplit(":", 1)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        async with Channel(host, int(port), ssl=context) as channel:
            ask = UnaryUnaryMethod(channel, GET_ORCHESTRATOR, OrchestratorRequest, OrchestratorInfo)
            info = await ask(request)
        info.transcoder = self._url
        await stream.send_message(info)

    # what happens on the way

    def _draw(self, what: str, faults: tuple[Fault, ...]) -> Fault:
        """A fault or none; never two statuses in a row, which would mean what they say.

        What the n-th call of a kind meets depends on the seed alone, not on calls of other kinds.
        """
        chance = self._randoms.setdefault(what, random.Random(f"{what} {self._seed}"))
        fault = chance.choice(faults) if chance.random() < self.share else Fault.NONE
        if what == "signing":
            if fault in ANSWERS and self._last in ANSWERS:
                fault = Fault.NONE
            self._last = fault
        self.faults[f"{what}: {fault}"] += 1
        return fault

    async def _forward(
        self, request: web.Request, upstream: str, body: bytes, fault: Fault
    ) -> web.Response | None:
        if fault is Fault.DROP_REQUEST:
            return None
        if fault is Fault.DELAY:
            await asyncio.sleep(DELAY)
        assert self._http is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        async with self._http.request(
            request.method, upstream + request.path_qs, data=body, headers=headers
        ) as answer:
            content_type = answer.headers.get("Content-Type", "application/octet-stream")
            return web.Response(
                status=answer.status, body=await answer.read(), headers={"Content-Type": content_type}
            )


def _given(request: web.Request, answer: web.Response | None, fault: Fault) -> web.Response:
    """The answer, or a connection that breaks instead."""
    if answer is not None and fault is not Fault.DROP_ANSWER:
        return answer
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _listen(stack: AsyncExitStack, handler: Any, context: ssl.SSLContext | None) -> str:
    everything = web.route("*", "/{path:.*}", handler)
    return await stack.enter_async_context(serving(everything, tls=context, max_field_size=MAX_FIELD_SIZE))


@asynccontextmanager
async def fault_proxy(devnet: dict[str, Any], *, seed: int, share: float) -> AsyncIterator[FaultProxy]:
    """A proxy before the signer and the first orchestrator of a devnet, by its description."""
    proxy = FaultProxy(devnet["signer"], devnet["orchestrators"][0], seed=seed, share=share)
    async with AsyncExitStack() as stack:
        await proxy.serve(stack)
        yield proxy
