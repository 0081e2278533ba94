"""JSON-RPC over several endpoints: the first that answers in time, and is on the right chain, is used."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.chain.errors import ChainUnreachable, RpcRefused

log = structlog.get_logger("chain")

TIMEOUT = 5.0
"""Seconds that one endpoint gets for one answer."""
SET_ASIDE = 30.0
"""Seconds for which an endpoint that failed is asked last."""
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait, and ask again, where endpoints say that they are asked too often."""
MAX_ANSWER = 16 * 1024 * 1024
"""The largest answer read, in bytes."""
MAX_WORDS = 200
REVERTED = 3
"""The error code of a contract that reverts: the chain's own answer, the same from every endpoint."""
TOO_MANY_REQUESTS = 429
TOO_OFTEN = re.compile(
    r"rate.?limit|too many requests|request count|compute units|credits|capacity|quota", re.IGNORECASE
)
"""What providers say of too many requests. Of too many blocks or results they speak otherwise."""

Call = tuple[str, Any]
"""Method and params."""


@dataclass(slots=True)
class Endpoint:
    """One URL. `asked_last_until` is monotonic; `chain_id` None until it was asked for.

    `batches` turns False where it does not take several calls in one request.
    """

    url: str
    chain_id: int | None = None
    asked_last_until: float = 0.0
    batches: bool = True
    error: str = ""

    @property
    def name(self) -> str:
        """Scheme and host: paths and queries of RPC endpoints hold keys."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


class _Failed(Exception):
    """This endpoint gave nothing to work with; another one may."""


class _TooOften(_Failed):
    """It would answer if it were asked more slowly."""


class _NotTaken(_Failed):
    """It says that the request is wrong, as some do of several calls in one."""


class _Reverted(RpcRefused):
    """The contract refuses, whoever is asked."""


class Endpoints:
    """Asks the endpoints in order, those that failed lately last, until one answers.

    `chain_id` is the one that all must be on; None takes the first that is heard of. `http` stays the
    caller's. Each endpoint gets `timeout` seconds; `pauses` are waited where none is left but those that
    are asked too often, so that whoever asks much is slowed down rather than refused.
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

        Raises RpcRefused where the chain's answer is an error, ChainUnreachable where there is no answer.
        """
        (result,) = await self.ask_all([(method, params)])
        return result

    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """The results of several calls, asked for in one request where the endpoint takes that.

        Raises what `ask` raises, for all where one fails.
        """
        for pause in self._pauses:
            try:
                return await self._ask_around(calls)
            except _TooOften:
                await asyncio.sleep(pause)
        try:
            return await self._ask_around(calls)
        except _TooOften as error:
            raise ChainUnreachable(str(error)) from error

    def distrust(self, why: str) -> None:
        """Ask the endpoint that answered last after all others: what it said makes no sense."""
        if self._last_answered is not None:
            self._failed(self._last_answered, why)

    def turn_to_another(self) -> None:
        """Ask the endpoint that answered last after all others, as nothing against it."""
        if self._last_answered is not None:
            self._last_answered.asked_last_until = self._clock() + SET_ASIDE

    def json(self) -> list[dict[str, Any]]:
        """Each endpoint with its last failure, for operators."""
        return [{"url": one.name, "error": one.error or None} for one in self._endpoints]

    def __len__(self) -> int:
        return len(self._endpoints)

    # how it is done

    async def _ask_around(self, calls: Sequence[Call]) -> list[Any]:
        now = self._clock()
        errors: list[str] = []
        refused: RpcRefused | None = None
        kind: type[Exception] = ChainUnreachable
        for endpoint in sorted(self._endpoints, key=lambda one: one.asked_last_until > now):
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
                kind = _TooOften if isinstance(error, _TooOften) else kind
            else:
                endpoint.error = ""
                self._last_answered = endpoint
                return results
        raise refused or kind("no RPC endpoint answers: " + "; ".join(errors))

    def _failed(self, endpoint: Endpoint, why: str) -> None:
        if endpoint.error != why:
            log.warning("RPC endpoint failed", url=endpoint.name, detail=why)
        endpoint.error = why
        endpoint.asked_last_until = self._clock() + SET_ASIDE

    async def _check_chain(self, endpoint: Endpoint) -> None:
        """Raises _Failed where the endpoint is on another chain. Asked until it is on the right one."""
        if endpoint.chain_id is None or endpoint.chain_id != self.chain_id:
            try:
                (answer,) = await self._results(endpoint, [("eth_chainId", [])])
                endpoint.chain_id = int(answer, 16)
            except (RpcRefused, TypeError, ValueError):
                raise _Failed("it does not say which chain it is on") from None
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
            except _NotTaken:
                answers = {}
            if answers.keys() == {one["id"] for one in requests}:
                return [_result(answers[one["id"]]) for one in requests]
            endpoint.batches = False
        return [_result(await self._post(endpoint, request)) for request in requests]

    async def _post(self, endpoint: Endpoint, request: Any) -> Any:
        """The answer as JSON, whatever it is. Raises _Failed where that cannot be the chain's word."""
        try:
            async with self._http.post(
                endpoint.url, json=request, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = await read_bounded(response, MAX_ANSWER)
                status = response.status
        except BodyTooLarge:
            raise _Failed(f"its answer is over {MAX_ANSWER} bytes") from None
        except TimeoutError as error:
            raise _Failed(f"no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _Failed(f"it cannot be asked: {type(error).__name__}") from error
        if status == TOO_MANY_REQUESTS:
            raise _TooOften("it is asked too often (HTTP 429)")
        try:
            answer: Any = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        # errors of calls come with whatever status; a result that comes with another than 200 is none
        if status != 200 and not (isinstance(answer, dict) and isinstance(answer.get("error"), dict)):
            kind = _NotTaken if 400 <= status < 500 else _Failed
            raise kind(f"it answers HTTP {status}")
        return answer


def _by_id(answer: Any) -> dict[Any, Any]:
    """The answers to a batch; empty where it is no such thing."""
    try:
        return {one["id"]: one for one in answer} if isinstance(answer, list) else {}
    except (TypeError, KeyError):
        return {}


def _result(answer: Any) -> Any:
    """Raises RpcRefused for an error, _Failed for what is no answer at all."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        raise _refusal(error)
    if isinstance(answer, dict) and "result" in answer and not error:
        return answer["result"]
    raise _Failed("its answer is no JSON-RPC")


def _refusal(error: dict[str, Any]) -> Exception:
    code, words = error.get("code"), str(error.get("message", "without a word"))[:MAX_WORDS]
    if code == TOO_MANY_REQUESTS or TOO_OFTEN.search(words):
        return _TooOften(f"it is asked too often ({words})")
    reverted = code == REVERTED or words.startswith("execution reverted")
    return (_Reverted if reverted else RpcRefused)(f"the RPC endpoint refuses: {words}")
