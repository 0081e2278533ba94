"""Client for live runners over HTTP; every failure becomes an OrchestratorError."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog
from google.protobuf.message import DecodeError
from typing_extensions import override

from gateway.aio.certificate_pins import CertificatePins, SessionPins
from gateway.aio.client_tls import client_context
from gateway.aio.http_client import ClientSessions
from gateway.aio.inside import Reach, literal
from gateway.aio.json_text import parse_json
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.calls import CONNECT_SHARE, HttpAnswer, addresses, call, payment_headers, printable
from gateway.orchestrator.client import PLAIN
from gateway.orchestrator.errors import (
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.runner.app_errors import Errors
from gateway.runner.errors import AppAway, AppRefused, NoSuchSession, SessionTaken
from gateway.runner.offer import RunnerOffer, parse_discovery
from gateway.runner.reserve import Challenge, RunnerSession, read_params
from gateway.runner.selection import price_unit

TIMEOUT = 5.0
"""Seconds for one call, from connecting to the last byte of the answer."""
DISCOVERY_TIMEOUT = 3.0
STOP_TIMEOUT = 3.0
TRY_AGAIN = (408, 425, 429)
DEFAULT_ERRORS = Errors()
MAX_NAMED = 1000
"""Hosts that the log names at most for being reached without TLS."""

log = structlog.get_logger("runners")


class RunnerClient:
    """Calls to orchestrators' live runners in the name of one sender (0x..; empty where nothing is paid).

    What an app is sent never carries a credential.
    """

    def __init__(self, *, sender: str, verify_tls: bool = False) -> None:
        self._sender = sender
        self._verify_tls = verify_tls
        self._pins = CertificatePins()
        self._sessions = ClientSessions(
            client_context(verify=verify_tls), pins=None if verify_tls else self._pins
        )
        self._plain: set[str] = set()
        """Hosts that the log has named for being reached without TLS."""

    def pins(self) -> SessionPins:
        """What a session's servers are to be pinned by."""
        return self._pins.session()

    def check_tls(self, *urls: str) -> None:
        """Warn once of a host that is reached without TLS.

        Raises Unreachable where certificates have to verify.
        """
        for url in urls:
            host = urlsplit(url).hostname or ""
            if url.startswith("https://"):
                continue
            if self._verify_tls:
                raise Unreachable(PLAIN)
            if host not in self._plain and not _is_loopback(host) and len(self._plain) < MAX_NAMED:
                self._plain.add(host)
                log.warning("no TLS: sessions can be read and taken over", host=host)

    def http_for(self, reach: Reach) -> aiohttp.ClientSession:
        """For requests to URLs that may lead so far. Not to be closed."""
        return self._sessions.get(reach)

    async def close(self) -> None:
        await self._sessions.close()

    async def discover(self, url: str, base: str, apps: Container[str] | None = None) -> list[RunnerOffer]:
        """The live runners for `apps`, or for any, that `url` lists, which the operator named.

        None where it answers 404.

        `base` completes relative URLs.
        """
        reach = await reach_of(base)
        answer = await self._call("GET", url, reach, DISCOVERY_TIMEOUT)
        if answer.status == 404:
            return []
        try:
            return parse_discovery(answer.accepted(), base, reach, apps)
        except ValueError as error:
            raise BadAnswer(str(error)) from error

    async def ask(self, offer: RunnerOffer, unit: PriceUnit) -> Challenge | RunnerSession:
        """What a session there would cost; the session itself where nothing is to be paid."""
        headers = {"Livepeer-Payer-Address": self._sender} if self._sender else None
        answer = await self._call("POST", offer.url, offer.reach, headers=headers)
        try:
            if answer.status == 402:
                return Challenge.parse(answer.body, offer.url, offer.reach, unit)
            return RunnerSession.parse(answer.reserved(), offer.url)
        except ValueError as error:
            raise BadAnswer(str(error)) from error

    async def challenge(self, offer: RunnerOffer) -> OrchestratorInfo | None:
        """What a session there is paid on. None where nothing is: nobody is asked then, as it would begin."""
        if not offer.paid or not self._sender:
            return None
        asked = await self.ask(offer, price_unit(offer))
        if isinstance(asked, Challenge):
            return asked.info
        await self.stop(asked.control_url, offer.reach)
        return None

    async def reserve(
        self, offer: RunnerOffer, challenge: Challenge, *, payment: str, seg_creds: str
    ) -> RunnerSession:
        """Reserve the session with its first payment.

        Raises NoCapacity (503), and SessionTaken (409): after a try without answer the session is ours.
        """
        answer = await self._call("POST", offer.url, offer.reach, headers=payment_headers(payment, seg_creds))
        try:
            return RunnerSession.parse(answer.reserved(), offer.url, challenge.manifest_id)
        except ValueError as error:
            raise BadAnswer(str(error)) from error

    async def pay(
        self, url: str, info: OrchestratorInfo, *, payment: str, seg_creds: str
    ) -> OrchestratorInfo | None:
        """Deliver a payment made on `info`; gives the one for the next, None where the answer has none.

        The answer is protobuf from go-livepeer, JSON from livepeer/node. Raises NoSuchSession (404).
        """
        answer = await self._call("POST", url, info.reach, headers=payment_headers(payment, seg_creds))
        if answer.status == 404:
            raise NoSuchSession(answer.detail, said=answer.said)
        body = answer.accepted()
        try:
            if body[:1] == b"{":
                return read_params(parse_json(body), info.reach, info.unit)
            result = livepeer_pb2.PaymentResult.FromString(body)
            return OrchestratorInfo.parse(result.info, info.reach, info.unit) if result.info else None
        except (ValueError, DecodeError) as error:
            raise BadAnswer(f"its answer to a payment: {error}") from error

    async def refresh(self, info: OrchestratorInfo, manifest_id: str) -> OrchestratorInfo:
        """Newer ticket params than `info`, at the session's price."""
        body = {"sender": self._sender, "manifest_id": manifest_id}
        answer = await self._call("POST", f"{info.url}/refresh-payment", info.reach, body=body)
        try:
            return read_params(parse_json(answer.accepted()), info.reach, info.unit)
        except ValueError as error:
            raise BadAnswer(str(error)) from error

    async def call_app(
        self,
        url: str,
        reach: Reach,
        body: Mapping[str, Any],
        *,
        errors: Errors = DEFAULT_ERRORS,
        timeout: float = TIMEOUT,
    ) -> Mapping[str, Any]:
        """POST to the app. Raises AppRefused for what it does not take, NoSuchSession for a 404.

        `errors` says what its error answers mean.
        """
        answer = await self._call("POST", url, reach, timeout, body=body)
        if answer.status not in (200, 201, 202, 204):
            raise _app_failure(answer, errors)
        if not answer.body:
            return {}
        try:
            content = parse_json(answer.body)
        except ValueError as error:
            raise BadAnswer("the app's answer is not JSON") from error
        if not isinstance(content, dict):
            raise BadAnswer("the app's answer is not a JSON object")
        return content

    async def stop(self, control_url: str, reach: Reach) -> bool:
        """End a session, whatever becomes of the call. Whether it is over for sure."""
        try:
            answer = await self._call("POST", f"{control_url}/stop", reach, STOP_TIMEOUT)
        except OrchestratorError:
            return False
        return answer.status in (200, 204, 404)

    async def _call(
        self,
        method: str,
        url: str,
        reach: Reach,
        timeout: float = TIMEOUT,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> _Answer:
        self.check_tls(url)
        http, connect = self._sessions.get(reach), min(timeout * CONNECT_SHARE, TIMEOUT)
        return _Answer(
            *await call(http, method, url, timeout, connect=connect, headers=headers, body=body, secret=True)
        )


def _app_failure(answer: _Answer, errors: Errors) -> OrchestratorError:
    """What the app's answer means."""
    status, words = errors.read(answer.status, answer.body)
    said = printable(words) or answer.said
    if status == 404:
        return NoSuchSession(answer.detail, said=said)
    if 400 <= status < 500 and status not in TRY_AGAIN:
        return AppRefused(status, answer.detail, said=said)
    kind = AppAway if status == 502 else UnknownOutcome
    return kind(answer.detail, said=said)


class _Answer(HttpAnswer):
    """An HTTP answer of an orchestrator of live runners."""

    @override
    def failure(self) -> OrchestratorError:
        if self.status in TRY_AGAIN or (self.status in (400, 500, 503) and self._is_json):
            # livepeer/node: trouble of its own, and nothing was taken
            return Unreachable(self.detail, said=self.said)
        return super().failure()

    def reserved(self) -> bytes:
        """The same for a reserve. Where it is full, no ticket was taken."""
        match self.status:
            case 503:
                raise NoCapacity(self.detail, said=self.said)
            case 409:
                raise SessionTaken(self.detail, said=self.said)
            case 500:
                raise UnknownOutcome(self.detail, said=self.said)
            case 400 if self._is_json:
                raise Refused(self.status, self.detail, said=self.said)
            case _:
                return self.accepted()

    @property
    def _is_json(self) -> bool:
        return self.body[:1] == b"{"


def _is_loopback(host: str) -> bool:
    address = literal(host)
    return host == "localhost" if address is None else address.is_loopback


async def reach_of(url: str) -> Reach:
    """Where the party at a URL of the operator's may lead: inside where it is there itself."""
    host = urlsplit(url).hostname or ""
    try:
        found = await addresses(host)
    except BadAnswer as error:
        raise Unreachable(error.detail) from error
    return Reach.of(host, found[0] if found else None)
