"""JSON-RPC calls to several endpoints: the first that answers in time, on the right chain, is used."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.json_text import TooManyValues, parse_json
from gateway.chain.errors import ChainUnreachable, RpcRefused

log = structlog.get_logger("chain")

TIMEOUT = 5.0
"""Seconds for one answer of one endpoint."""
DEMOTED_FOR = 30.0
"""Seconds for which an endpoint that failed comes after all others."""
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each retry while endpoints limit the rate of requests."""
MAX_ANSWER = 2 * 1024 * 1024
"""The largest answer read, in bytes."""
MAX_MESSAGE_CHARS = 200
REVERTED = 3
"""The error code of a contract that reverts, which every endpoint would answer."""
TOO_MANY_REQUESTS = 429
RATE_LIMITED = re.compile(
    r"rate.?limit|too many requests|request count|compute units|credits|capacity|quota", re.IGNORECASE
)
"""Error messages of a rate limit; those for too many blocks or results are worded differently."""

Call = tuple[str, Any]
"""Method and params."""


@dataclass(slots=True)
class Endpoint:
    """One URL. `demoted_until` is monotonic seconds; `chain_id` is None until it is known.

    `batches` becomes False where the endpoint does not take several calls in one request.
    """

    url: str
    chain_id: int | None = None
    demoted_until: float = 0.0
    batches: bool = True
    error: str = ""

    @property
    def name(self) -> str:
        """Scheme and host only: paths and queries may hold keys."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


class _Failed(Exception):
    """This endpoint gave no usable answer; another one may."""


class _RateLimited(_Failed):
    """The endpoint limits the rate of requests."""


class _RequestRefused(_Failed):
    """The endpoint answers 4xx, as some do to several calls in one request."""


class _TooLarge(_Failed):
    """The answer is larger than what is read: a smaller question may have a smaller one."""


class _Reverted(RpcRefused):
    """The contract reverts: every endpoint would give this answer."""


class Endpoints:
    """Tries the endpoints in order, those that failed recently last, until one answers.

    All endpoints must be on chain `chain_id`; None takes that of the first that answers. `http` is not
    closed here. Each endpoint gets `timeout` seconds. Where one limits the rate and no other answers, all are
    tried again after each of `pauses`.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        urls: Sequence[str],
        *,
        chain_id: int | None = None,
        timeout: float = TIMEOUT,
        pauses: Sequence[float] = PAUSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chain_id = chain_id
        self._http = http
        self._endpoints = [Endpoint(url) for url in urls]
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._pauses = pauses
        self._clock = clock
        self._last_answered: Endpoint | None = None

    async def ask(self, method: str, params: Any) -> Any:
        """The `result` of a JSON-RPC call.

        Raises RpcRefused where the chain's answer is an error or too large, ChainUnreachable where there is
        no answer.
        """
        (result,) = await self.ask_all([(method, params)])
        return result

    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """The results of several calls, in one request where the endpoint takes that.

        Raises what `ask` raises, where any call fails.
        """
        for pause in self._pauses:
            try:
                return await self._try_each(calls)
            except _RateLimited:
                await asyncio.sleep(pause)
        try:
            return await self._try_each(calls)
        except _RateLimited as error:
            raise ChainUnreachable(str(error)) from error

    def demote(self, why: str) -> None:
        """Try the endpoint that answered last after all others: its answer was not usable."""
        if self._last_answered is not None:
            self._failed(self._last_answered, why)

    def switch_endpoint(self) -> None:
        """Try the endpoint that answered last after all others, without calling it failed."""
        if self._last_answered is not None:
            self._last_answered.demoted_until = self._clock() + DEMOTED_FOR

    def json(self) -> list[dict[str, Any]]:
        """Endpoints with their last failures, for operators."""
        return [{"url": one.name, "error": one.error or None} for one in self._endpoints]

    def __len__(self) -> int:
        return len(self._endpoints)

    # how it is done

    async def _try_each(self, calls: Sequence[Call]) -> list[Any]:
        now = self._clock()
        errors: list[str] = []
        refused: RpcRefused | None = None
        kind: type[Exception] = ChainUnreachable
        for endpoint in sorted(self._endpoints, key=lambda one: one.demoted_until > now):
            try:
                await self._check_chain(endpoint)
                results = await self._results(endpoint, calls)
            except _Reverted:
                raise
            except RpcRefused as error:
                refused = error
            except _Failed as error:
                self._failed(endpoint, str(error))
                errors.append(f"{endpoint.name}: {error}")
                kind = _RateLimited if isinstance(error, _RateLimited) else kind
                refused = RpcRefused(str(error)) if isinstance(error, _TooLarge) else refused
            else:
                endpoint.error = ""
                self._last_answered = endpoint
                return results
        raise refused or kind("no RPC endpoint answers: " + "; ".join(errors))

    def _failed(self, endpoint: Endpoint, why: str) -> None:
        if endpoint.error != why:
            log.warning("RPC endpoint failed", url=endpoint.name, detail=why)
        endpoint.error = why
        endpoint.demoted_until = self._clock() + DEMOTED_FOR

    async def _check_chain(self, endpoint: Endpoint) -> None:
        """Raises _Failed where the endpoint is on another chain. Checked until it is on the right one."""
        if endpoint.chain_id is None or endpoint.chain_id != self.chain_id:
            try:
                (answer,) = await self._results(endpoint, [("eth_chainId", [])])
                endpoint.chain_id = int(answer, 16)
            except (RpcRefused, TypeError, ValueError):
                raise _Failed("it does not give its chain id") from None
        if self.chain_id is None:
            self.chain_id = endpoint.chain_id
        if endpoint.chain_id != self.chain_id:
            raise _Failed(f"it is on chain {endpoint.chain_id}, not {self.chain_id}")

    async def _results(self, endpoint: Endpoint, calls: Sequence[Call]) -> list[Any]:
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls, 1)
        ]
        if len(calls) > 1 and endpoint.batches:
            try:
                answers = _by_id(await self._post(endpoint, requests))
            except _RequestRefused:
                answers = {}
            if answers.keys() == {one["id"] for one in requests}:
                return [_result(answers[one["id"]]) for one in requests]
            endpoint.batches = False
        return [_result(await self._post(endpoint, request)) for request in requests]

    async def _post(self, endpoint: Endpoint, request: Any) -> Any:
        """The JSON of the answer. Raises _Failed where it cannot be an answer to JSON-RPC."""
        try:
            async with self._http.post(
                endpoint.url, json=request, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = await read_bounded(response, MAX_ANSWER)
                status = response.status
        except BodyTooLarge:
            raise _TooLarge(f"its answer is over {MAX_ANSWER} bytes") from None
        except TimeoutError as error:
            raise _Failed(f"no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _Failed(f"the request failed: {type(error).__name__}") from error
        if status == TOO_MANY_REQUESTS:
            raise _RateLimited("it limits the rate of requests (HTTP 429)")
        try:
            answer: Any = parse_json(body)
        except TooManyValues as error:
            raise _TooLarge(f"its answer is too large: {error}") from None
        except ValueError:
            answer = None
        # a JSON-RPC error may come with any status, a result only with 200
        if status != 200 and not (isinstance(answer, dict) and isinstance(answer.get("error"), dict)):
            kind = _RequestRefused if 400 <= status < 500 else _Failed
            raise kind(f"it answers HTTP {status}")
        return answer


def _by_id(answer: Any) -> dict[Any, Any]:
    """The answers to a batch by their ids; empty where it is not a list of answers."""
    try:
        return {one["id"]: one for one in answer} if isinstance(answer, list) else {}
    except (TypeError, KeyError):
        return {}


def _result(answer: Any) -> Any:
    """Raises RpcRefused for an error, _Failed for what is not JSON-RPC."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        raise _refusal(error)
    if isinstance(answer, dict) and "result" in answer and not error:
        return answer["result"]
    raise _Failed("its answer is not JSON-RPC")


def _refusal(error: dict[str, Any]) -> Exception:
    code, message = error.get("code"), str(error.get("message", "no message"))[:MAX_MESSAGE_CHARS]
    if code == TOO_MANY_REQUESTS or RATE_LIMITED.search(message):
        return _RateLimited(f"it limits the rate of requests ({message})")
    reverted = code == REVERTED or message.startswith("execution reverted")
    return (_Reverted if reverted else RpcRefused)(f"the RPC endpoint refuses: {message}")
