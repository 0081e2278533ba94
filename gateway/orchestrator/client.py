"""Client for orchestrators over gRPC and HTTP; every failure becomes an OrchestratorError."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp
from google.protobuf.message import DecodeError

from gateway.aio.client_tls import client_context
from gateway.aio.http_client import ClientSessions
from gateway.aio.inside import LeadsInside, Reach, literal
from gateway.aio.json_text import parse_json
from gateway.orchestrator import livepeer_pb2, urls
from gateway.orchestrator.calls import HttpAnswer, addresses, call, payment_headers
from gateway.orchestrator.errors import (
    BadAnswer,
    NoCapacity,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.grpc import MAX_MESSAGE, GrpcCaller
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobRequest, JobUrls

INFO_TIMEOUT = 1.5
START_TIMEOUT = 12.0
"""Seconds. An orchestrator asks a worker that refuses ten times in 9 s before it says so, and a worker that
ends its former job first may take 10 s. A start that is left is paid, and so is the next one."""
PAYMENT_TIMEOUT = 5.0
PLAIN = "it is reached without TLS, which -orchVerifyTLS does not allow"


class OrchestratorClient:
    """Calls to orchestrators for one model, in the name of one sender.

    `address` (0x..) and `signature` are the signer's; both empty off-chain. Connections stay open until
    `close`.
    """

    def __init__(
        self,
        *,
        address: str,
        signature: bytes,
        capabilities: bytes,
        verify_tls: bool = False,
    ) -> None:
        self.capabilities = capabilities
        """Serialised Capabilities: signing calls must carry the same."""
        self._verify_tls = verify_tls
        self._sessions = ClientSessions(client_context(verify=verify_tls))
        self._grpc = GrpcCaller(client_context(verify=verify_tls, protocol="h2"))
        request = livepeer_pb2.OrchestratorRequest(
            address=bytes.fromhex(address.removeprefix("0x")),
            sig=signature,
            capabilities=livepeer_pb2.Capabilities.FromString(capabilities),
        )
        self._request = request.SerializeToString()
        request.ignoreCapacityCheck = True
        self._request_when_full = request.SerializeToString()

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the address of each orchestrator whose gRPC connection is lost."""
        self._grpc.on_lost = callback

    def on_flood(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the address of each orchestrator that sends more than is taken."""
        self._grpc.on_flood = callback

    def operator_named(self, named: Callable[[str], bool]) -> None:
        """Ask `named` of each address whether it is the operator's word: only then it may lead inside."""
        self._grpc.may_be_inside = named

    def http_for(self, info: OrchestratorInfo) -> aiohttp.ClientSession:
        """For requests to the URLs that this orchestrator names. Not to be closed."""
        return self._sessions.get(info.reach)

    async def get_info(
        self, addr: str, *, ignore_capacity: bool = False, timeout: float = INFO_TIMEOUT
    ) -> OrchestratorInfo:
        """Get price, ticket params and a new session's auth token of an orchestrator (`host:port` or URL).

        Set `ignore_capacity` to refresh a running stream: that stream itself may fill the orchestrator. The
        call costs nothing. Raises Unreachable, NoCapacity, Refused or BadAnswer; a service URI that points
        into a private network where the orchestrator was not reached is a BadAnswer.
        """
        try:
            target = urls.grpc_target(addr)
        except ValueError as error:
            raise Unreachable(str(error)) from error
        if self._verify_tls and not target.tls:
            raise Unreachable(PLAIN)
        request = self._request_when_full if ignore_capacity else self._request
        raw, reach = await self._grpc.ask(addr, target, request, timeout)
        return await self._info(raw, reach, target.host)

    async def start_job(
        self,
        info: OrchestratorInfo,
        *,
        payment: str,
        seg_creds: str,
        body: JobRequest,
        timeout: float = START_TIMEOUT,
    ) -> JobUrls:
        """Start a job with the signer's two headers (`payment` empty off-chain).

        Raises any OrchestratorError; after UnknownOutcome and BadAnswer the payment may have been credited
        to a job whose id is unknown.
        """
        answer = await self._post(
            info,
            "/live-video-to-video",
            timeout,
            headers=payment_headers(payment, seg_creds),
            body=body.json(),
        )
        if answer.status == 503:
            raise NoCapacity(answer.detail, said=answer.said)
        refusal = _WORKER_REFUSED.match(answer.said) if answer.status == 500 else None
        if refusal is not None:
            raise UnknownOutcome(
                f"its worker refused the start ({refusal[1]}): mostly it cannot use the parameters",
                said=answer.said,
            )
        try:
            job = JobUrls.parse(answer.accepted(), info.url)
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        await _check_reach(job.channels, info.reach, urls.host(info.url))
        return job

    async def deliver_payment(
        self, info: OrchestratorInfo, *, payment: str, seg_creds: str, timeout: float = PAYMENT_TIMEOUT
    ) -> OrchestratorInfo:
        """Deliver a signed payment; the answer holds price and ticket params for the next one.

        Safe to repeat with the same two values after UnknownOutcome or Unreachable: AlreadySeen then means
        that it was credited before.
        """
        answer = await self._post(info, "/payment", timeout, headers=payment_headers(payment, seg_creds))
        try:
            result = livepeer_pb2.PaymentResult.FromString(answer.accepted())
        except DecodeError as error:
            raise BadAnswer("its answer to a payment is not a PaymentResult") from error
        return await self._info(result.info, info.reach, urls.host(info.url))

    async def refresh_payment(
        self, info: OrchestratorInfo, *, sender: str, manifest_id: str, timeout: float = PAYMENT_TIMEOUT
    ) -> OrchestratorInfo:
        """Get ticket params at the price that a running session started with.

        Raises Refused with status 409 where the orchestrator does not know the session.
        """
        answer = await self._post(
            info, "/refresh-payment", timeout, body={"sender": sender, "manifest_id": manifest_id}
        )
        try:
            params = parse_json(answer.accepted())["payment_params"]
            raw = base64.b64decode(params, validate=True)
        except (ValueError, KeyError, TypeError) as error:
            raise BadAnswer("its answer has no payment_params") from error
        return await self._info(raw, info.reach, urls.host(info.url))

    async def close(self) -> None:
        self._grpc.close()
        await self._sessions.close()

    async def _info(self, raw: bytes, reach: Reach, own: str) -> OrchestratorInfo:
        """The info in an answer of the host `own`, whose service URI is safe to call. Raises BadAnswer."""
        if len(raw) > MAX_MESSAGE:
            raise BadAnswer(f"its info of {len(raw)} bytes is over the limit of {MAX_MESSAGE}")
        try:
            info = OrchestratorInfo.parse(raw, reach)
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        if self._verify_tls and not info.url.startswith("https://"):
            raise BadAnswer(PLAIN)
        await _check_reach([info.url], reach, own)
        return info

    async def _post(
        self,
        info: OrchestratorInfo,
        path: str,
        timeout: float,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> HttpAnswer:
        http, url = self.http_for(info), info.url + path
        return HttpAnswer(*await call(http, "POST", url, timeout, headers=headers, body=body))


_WORKER_REFUSED = re.compile(r"live-video-to-video container returned (4\d\d)\b")
"""How go-livepeer begins its 500 for a worker that refused. What the worker said is for logs only."""


async def _check_reach(given: Iterable[str], reach: Reach, own: str) -> None:
    """Raise BadAnswer where one of `given` leads inside, and the orchestrator is not there.

    The connection is checked again, whatever its host resolves to then; that of the host `own` only then.
    """
    for url in given:
        name = urls.host(url)
        if name == own and literal(name) is None:
            continue
        try:
            reach.check(name, await addresses(name))
        except LeadsInside as error:
            raise BadAnswer(str(error)) from error
