"""JSON-RPC over several endpoints: the first that answers in time, and is on the right chain, is used."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from gateway.chain.errors import ChainUnreachable, RpcRefused

log = structlog.get_logger("chain")

TIMEOUT = 5.0
"""Seconds that one endpoint gets for one answer."""
SET_ASIDE = 30.0
"""Seconds for which an endpoint that failed is asked last."""
MAX_ANSWER = 16 * 1024 * 1024
"""The largest answer read, in bytes."""
MAX_WORDS = 200
REVERTED = 3
"""The error code of a contract that reverts: the chain's own answer, the same from every endpoint."""


@dataclass(slots=True)
class Endpoint:
    """One URL. `asked_last_until` is monotonic; `chain_id` None until it was asked for."""

    url: str
    chain_id: int | None = None
    asked_last_until: float = 0.0
    error: str = ""

    @property
    def name(self) -> str:
        """Scheme and host: paths and queries of RPC endpoints hold keys."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


class _Failed(Exception):
    """This endpoint gave nothing to work with; another one may."""


class Endpoints:
    """Asks the endpoints in order, those that failed lately last, until one answers.

    `chain_id` is the one that all must be on; None takes the first that is heard of. `http` stays the
    caller's. Each endpoint gets `timeout` seconds.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        urls: Sequence[str],
        *,
        chain_id: int | None = None,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chain_id = chain_id
        self._http = http
        self._endpoints = [Endpoint(url) for url in urls]
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock
        self._last_answered: Endpoint | None = None

    async def ask(self, method: str, params: Any) -> Any:
        """The `result` of a JSON-RPC call.

        Raises RpcRefused where the chain's answer is an error, ChainUnreachable where there is no answer.
        """
        now = self._clock()
        errors: list[str] = []
        refused: RpcRefused | None = None
        for endpoint in sorted(self._endpoints, key=lambda one: one.asked_last_until > now):
            try:
                await self._check_chain(endpoint)
                answer = await self._post(endpoint, method, params)
            except _Failed as error:
                self._failed(endpoint, str(error))
                errors.append(f"{endpoint.name}: {error}")
                continue
            if "error" not in answer:
                endpoint.error = ""
                self._last_answered = endpoint
                return answer["result"]
            refused = _refusal(answer["error"])
            if answer["error"].get("code") == REVERTED:
                raise refused
        if refused is not None:
            raise refused
        raise ChainUnreachable("no RPC endpoint answers: " + "; ".join(errors))

    def distrust(self, why: str) -> None:
        """Ask the endpoint that answered last after all others: what it said makes no sense."""
        if self._last_answered is not None:
            self._failed(self._last_answered, why)

    def json(self) -> list[dict[str, Any]]:
        """Each endpoint with its last failure, for operators."""
        return [{"url": one.name, "error": one.error or None} for one in self._endpoints]

    def __len__(self) -> int:
        return len(self._endpoints)

    def _failed(self, endpoint: Endpoint, why: str) -> None:
        if endpoint.error != why:
            log.warning("RPC endpoint failed", url=endpoint.name, detail=why)
        endpoint.error = why
        endpoint.asked_last_until = self._clock() + SET_ASIDE

    async def _check_chain(self, endpoint: Endpoint) -> None:
        """Raises _Failed where the endpoint is on another chain. Asked again after a failure only."""
        if endpoint.chain_id is None or endpoint.chain_id != self.chain_id:
            answer = await self._post(endpoint, "eth_chainId", [])
            try:
                endpoint.chain_id = int(answer["result"], 16)
            except (KeyError, TypeError, ValueError):
                raise _Failed("it does not say which chain it is on") from None
        if self.chain_id is None:
            self.chain_id = endpoint.chain_id
        if endpoint.chain_id != self.chain_id:
            raise _Failed(f"it is on chain {endpoint.chain_id}, not {self.chain_id}")

    async def _post(self, endpoint: Endpoint, method: str, params: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._http.post(
                endpoint.url, json=request, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise _Failed(f"its answer is over {MAX_ANSWER} bytes")
                status = response.status
        except TimeoutError as error:
            raise _Failed(f"no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _Failed(f"it cannot be asked: {type(error).__name__}") from error
        return _read(bytes(body), status)


def _read(body: bytes, status: int) -> dict[str, Any]:
    """The answer as an object with `result`, or with `error` as an object."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        return answer
    if status == 200 and isinstance(answer, dict) and "result" in answer and not answer.get("error"):
        return {"result": answer["result"]}
    raise _Failed(f"it answers HTTP {status}" if status != 200 else "its answer is no JSON-RPC")


def _refusal(error: dict[str, Any]) -> RpcRefused:
    return RpcRefused(f"the RPC endpoint refuses: {str(error.get('message', 'without a word'))[:MAX_WORDS]}")
