"""HTTP calls to a remote signer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from signer_client.errors import (
    BadRequest,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerBadAnswer,
    SignerStatusError,
    SignerUnavailable,
    SignerUnreachable,
)
from signer_client.types import (
    DiscoveredOrchestrator,
    LivePayment,
    MaxPrice,
    PaymentType,
    SignerIdentity,
    SignerState,
)

DEFAULT_TIMEOUT = 5.0
"""Seconds for one request, from connecting to the last byte of the answer."""
DISCOVERY_TIMEOUT = 35.0
"""Seconds for the runners: livepeer/node's signer asks one orchestrator after the other, for 30 s in all."""
DEFAULT_RETRIES = 2
MAX_ANSWER_BYTES = 1 << 20
MAX_CONTAINERS = 8_000
MAX_VALUES = 16_000
"""Limits of arrays and objects, and of values of an answer: a megabyte of them takes long to read."""
MAX_MESSAGE_CHARS = 500
"""Longer error messages of a signer are cut."""
FIRST_BACKOFF = 0.2
"""Seconds before the first retry; doubled for each further one. A random half of each wait is left out."""
MIN_SECRET_CHARS = 4
MIN_WORD_CHARS = 8
"""Shorter values of headers, and shorter words in them, are not looked for in messages."""
MAY_PASS = frozenset({408, 425, 429, 500, 501, 502, 503, 504, 507, *range(520, 530)})
"""Statuses of a signer that failed, or of a proxy before it."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNATURE_BYTES = 65


def parse_headers(text: str) -> dict[str, str]:
    """Parse `name:value,name2:value2`; a value may hold colons but no commas.

    Raises ValueError with the position of a bad entry.
    """
    headers = {}
    for position, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, colon, value = entry.partition(":")
        if not colon or not name.strip():
            # the text of the entry may be a secret
            raise ValueError(f"header {position} is not of the form name:value")
        headers[name.strip()] = value.strip()
    return headers


def merged_headers(defaults: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """All of `own`, and those of `defaults` that have other names; names are the same in any case."""
    names = {name.lower() for name in own}
    return {**{name: value for name, value in defaults.items() if name.lower() not in names}, **own}


def without_values(message: str, headers: Mapping[str, str]) -> str:
    """A server's message without the headers' values, which it may repeat, or their longer words."""
    secrets = {value for value in headers.values() if len(value) >= MIN_SECRET_CHARS}
    secrets |= {word for value in headers.values() for word in value.split() if len(word) >= MIN_WORD_CHARS}
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


class SignerClient:
    """A client for one remote signer. Use `async with SignerClient(url) as signer`, or `close` it at the end.

    `url` without a scheme means https. `headers` are sent with every request, and never to another server.
    A `session` that is given is not closed. `timeout` is seconds for one try. A call that may succeed later
    is repeated up to `retries` times, the first time after about `backoff` seconds.

    Every call raises SignerUnreachable, SignerBadAnswer or the SignerStatusError of its status.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        session: aiohttp.ClientSession | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        backoff: float = FIRST_BACKOFF,
    ) -> None:
        self.url = (url if "://" in url else f"https://{url}").rstrip("/")
        self._headers = dict(headers)
        self._session = session
        self._owns_session = session is None
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._retries = retries
        self._backoff = backoff

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, unless the session was given."""
        if self._session is not None and self._owns_session:
            await self._session.close()
            self._session = None

    async def sign_orchestrator_info(self) -> SignerIdentity:
        """The address that pays, and its signature for orchestrators. Both never change: call it once."""
        answer = _object(await self._call("POST", "/sign-orchestrator-info"))
        address = _text(answer, "address")
        if not _ADDRESS.fullmatch(address):
            raise SignerBadAnswer("the signer's address is not 20 bytes in hex")
        try:
            signature = bytes.fromhex(_text(answer, "signature").removeprefix("0x"))
        except ValueError as error:
            raise SignerBadAnswer("the signer's signature is not hex") from error
        if len(signature) != _SIGNATURE_BYTES:
            raise SignerBadAnswer(
                f"the signer's signature has {len(signature)} bytes, not {_SIGNATURE_BYTES}"
            )
        return SignerIdentity(address, signature)

    async def ping(self) -> None:
        """Check that something answers HTTP at the URL, without retries.

        Raises SignerUnreachable, or SignerUnavailable for a status in MAY_PASS.
        """
        try:
            await self._try("GET", "/", None, ())
        except SignerUnavailable:
            raise
        except (SignerStatusError, SignerBadAnswer):
            return

    async def generate_live_payment(
        self,
        *,
        orchestrator: bytes,
        state: SignerState | None,
        manifest_id: str = "",
        payment_type: PaymentType = "lv2v",
        capabilities: bytes = b"",
        max_price: MaxPrice | None = None,
        app: str = "",
        retries: int | None = None,
        headers: Mapping[str, str] = {},
    ) -> LivePayment:
        """The payment for the time since `state`, or the first one of a new session where it is None.

        `orchestrator` is the newest OrchestratorInfo, serialised as the orchestrator sent it. `manifest_id`
        is required with a state. `capabilities` belong to every call. `retries` overrides the client's own.
        `headers` go with this call beside the client's, and replace those of the same names: a session's
        have to stay the same. Errors do not repeat their values.

        An answer is money spent: keep its state, and deliver its payment before the next call. After a lost
        answer the same call may be repeated, since the signer stores nothing.
        """
        request: dict[str, Any] = {
            "orchestrator": base64.b64encode(orchestrator).decode(),
            "type": payment_type,
            "capabilities": base64.b64encode(capabilities).decode(),
        }
        if state is not None:
            request["state"] = dict(zip(state.names, (state.state, state.signature), strict=True))
        if manifest_id:
            request["ManifestID"] = manifest_id
        if app:
            request["app"] = app
        if max_price is not None:
            request["maxPrice"] = {
                "price": max_price.price,
                "currency": max_price.currency,
                "unit": max_price.unit,
            }
        answer = _object(
            await self._call("POST", "/generate-live-payment", body=request, retries=retries, headers=headers)
        )
        new_state = _object(_field(answer, "state"))
        return LivePayment(
            payment=_base64(answer, "payment"),
            seg_creds=_base64(answer, "segCreds"),
            state=_state(new_state),
        )

    async def discover_orchestrators(self, caps: Sequence[str]) -> list[DiscoveredOrchestrator]:
        """The orchestrators that have any of `caps`, written like `live-video-to-video/comfystream`."""
        answer = await self._call("GET", "/discover-orchestrators", query=[("caps", cap) for cap in caps])
        if not isinstance(answer, list):
            raise SignerBadAnswer("the signer's orchestrators are not a list")
        return [_discovered(_object(entry)) for entry in answer]

    async def discover_runners(self, apps: Sequence[str]) -> list[Any]:
        """The entries of its list that have live runners with any of `apps`, as they came.

        A signer may ask all on its list before it answers: this waits for DISCOVERY_TIMEOUT.
        """
        answer = await self._call(
            "GET",
            "/discover-orchestrators",
            query=[("app", app) for app in apps],
            retries=0,
            timeout=DISCOVERY_TIMEOUT,
        )
        if not isinstance(answer, list):
            raise SignerBadAnswer("the signer's orchestrators are not a list")
        return answer

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Sequence[tuple[str, str]] = (),
        retries: int | None = None,
        headers: Mapping[str, str] = {},
        timeout: float | None = None,
    ) -> Any:
        left = self._retries if retries is None else retries
        backoff = self._backoff
        while True:
            try:
                return await self._try(method, path, body, query, headers, timeout)
            except (SignerUnavailable, SignerUnreachable):
                if left <= 0:
                    raise
            left -= 1
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff *= 2

    async def _try(
        self,
        method: str,
        path: str,
        body: Any,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str] = {},
        timeout: float | None = None,
    ) -> Any:
        sent_headers = merged_headers(self._headers, headers)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.request(
                method,
                self.url + path,
                json=body,
                params=query,
                headers={"Accept-Encoding": "identity", **sent_headers},
                timeout=self._timeout if timeout is None else aiohttp.ClientTimeout(total=timeout),
                auto_decompress=False,
                allow_redirects=False,  # the headers are for this server only
            ) as response:
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise SignerBadAnswer("the signer's answer is compressed, without being asked to")
                content = await _read(response)
        except aiohttp.InvalidURL as error:
            raise SignerUnreachable("its URL is not valid", sent=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            sent = not isinstance(error, aiohttp.ClientConnectorError)
            raise SignerUnreachable(_reason(error), sent=sent) from error
        if response.status != 200:
            message = without_values(_message(content), sent_headers)
            raise _status_error(response.status, message, response.headers)
        return _json(content)


def _reason(error: Exception) -> str:
    """Why there was no answer, without the signer's address: users may be told."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return type(cause).__name__


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise SignerBadAnswer(f"the signer's answer is over {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _status_error(status: int, message: str, headers: Mapping[str, str]) -> SignerStatusError:
    match status:
        case 400:
            return BadRequest(status, message)
        case 480:
            return RefreshNeeded(status, message, headers.get("Livepeer-Orchestrator-URL"))
        case 481:
            return PriceExceeded(status, message)
        case 482:
            return NoTicketsNeeded(status, message)
        case _ if status in MAY_PASS:
            return SignerUnavailable(status, message)
        case _:
            return Rejected(status, message)


def _json(content: bytes) -> Any:
    if content.count(b"[") + content.count(b"{") > MAX_CONTAINERS or content.count(b",") > MAX_VALUES:
        raise SignerBadAnswer("the signer's answer is not JSON, or has too many values")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SignerBadAnswer("the signer's answer is not JSON") from error


def _message(content: bytes) -> str:
    """The message in `{"error": {"message": ..}}`, or the start of any other text."""
    try:
        message = _text(_object(_field(_object(_json(content)), "error")), "message")
    except SignerBadAnswer:
        message = content.decode(errors="replace").strip()
    return message[:MAX_MESSAGE_CHARS]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SignerBadAnswer("the signer's answer has no JSON object where one is expected")
    return value


def _field(answer: Mapping[str, Any], name: str) -> Any:
    """A field by its name, case-insensitive as in Go; the exact name goes first."""
    if name in answer:
        return answer[name]
    for key, value in answer.items():
        if key.lower() == name.lower():
            return value
    raise SignerBadAnswer(f"the signer's answer has no {name}")


def _state(answer: Mapping[str, Any]) -> SignerState:
    names = ("state", "sig") if "state" in answer and "sig" in answer else ("State", "Sig")
    return SignerState(_base64(answer, names[0]), _base64(answer, names[1]), names)


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = _field(answer, name)
    if not isinstance(value, str):
        raise SignerBadAnswer(f"the signer's {name} is not text")
    return value


def _base64(answer: Mapping[str, Any], name: str) -> str:
    """The text of a field, which must be base64 of at least one byte."""
    text = _text(answer, name)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignerBadAnswer(f"the signer's {name} is not base64") from error
    if not content:
        raise SignerBadAnswer(f"the signer's {name} is empty")
    return text


def _discovered(entry: Mapping[str, Any]) -> DiscoveredOrchestrator:
    named = {key.lower(): value for key, value in entry.items()}
    score = named.get("score")
    capabilities = named.get("capabilities") or ()
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise SignerBadAnswer("an orchestrator's score is not a number")
    if not isinstance(capabilities, list | tuple) or not all(isinstance(cap, str) for cap in capabilities):
        raise SignerBadAnswer("an orchestrator's capabilities are not a list of text")
    return DiscoveredOrchestrator(_text(entry, "address"), score, tuple(capabilities))
