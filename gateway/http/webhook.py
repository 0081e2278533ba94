"""The operator's own say over each publisher: go-livepeer's auth webhook, asked before the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.http.problem import Problem
from gateway.payments.ceiling import parse_amount
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.stream.relay import Json

WEBHOOK_TIMEOUT = 5.0
"""Seconds that a webhook may take."""
MAX_ANSWER_BYTES = 1024 * 1024

COMFYUI = "comfyui"


@dataclass(frozen=True)
class Verdict:
    """What the webhook decides about a stream that it lets in; None leaves what the publisher asked for."""

    pipeline: str | None = None
    params: Json | None = None
    stream_id: str | None = None
    orchestrator: str | None = None
    """Who is to take the stream: one by name, `comfystream` or `network`."""
    standby: bool | None = None
    """Whether a second job is to stand by; go-livepeer's webhook does not have it, nor the limits."""
    limits: StreamLimits = NO_LIMITS
    """From `maxSessionSpend` and `maxStreamSeconds`."""


class AuthWebhook:
    """Asks `url` about a stream. `api_key` goes into both headers that go-livepeer sends it in."""

    def __init__(self, http: aiohttp.ClientSession, url: str, api_key: str | None) -> None:
        self._http = http
        self._url = url
        self._headers = {"x-api-key": api_key, "Authorization": api_key} if api_key else {}

    async def ask(self, question: Mapping[str, str]) -> Verdict:
        """Raises Problem 403 where the webhook refuses, and 503 where it gives no answer in time."""
        try:
            async with self._http.post(
                self._url,
                json={"type": "livepeer-whip", **question},
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT),
                allow_redirects=False,
                ssl=True,
            ) as response:
                if response.status // 100 != 2:
                    raise Problem(403, "refused_by_webhook", "the auth webhook refuses this stream")
                return parse_verdict(await _bounded(response))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Problem(
                503,
                "webhook_unreachable",
                "the auth webhook does not answer, so nobody is let in: try again",
                headers={"Retry-After": "5"},
            ) from error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(MAX_ANSWER_BYTES + 1)
    while len(body) <= MAX_ANSWER_BYTES and not response.content.at_eof():
        body += await response.content.read(MAX_ANSWER_BYTES + 1 - len(body))
    return body


def parse_verdict(body: bytes) -> Verdict:
    """Read an answer. Raises Problem 403 for what is no JSON object of the documented form.

    For the pipeline comfyui, parameters without a prompt are a workflow: they become {"prompt": ..}.
    """
    try:
        answer = json.loads(body) if len(body) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _nonsense("it is no JSON object")
    pipeline = _text(answer, "pipeline")
    params = answer.get("pipeline_parameters")
    if params is not None and not isinstance(params, dict):
        raise _nonsense("pipeline_parameters is no JSON object")
    if params and pipeline == COMFYUI and "prompt" not in params:
        params = {"prompt": params}
    return Verdict(
        pipeline,
        params or None,
        _text(answer, "stream_id"),
        _text(answer, "orchestrator"),
        _flag(answer, "standby"),
        _limits(answer),
    )


def _limits(answer: Mapping[str, Any]) -> StreamLimits:
    amount, seconds = _text(answer, "maxSessionSpend"), answer.get("maxStreamSeconds")
    if seconds is not None and (type(seconds) is not int or seconds < 0):
        raise _nonsense("maxStreamSeconds is no whole number")
    try:
        return StreamLimits(wei=None if amount is None else parse_amount(amount), seconds=seconds)
    except ValueError as error:
        raise _nonsense("maxSessionSpend is no amount such as 0.1ETH") from error


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    if value is not None and not isinstance(value, str):
        raise _nonsense(f"{name} is no text")
    return value or None


def _flag(answer: Mapping[str, Any], name: str) -> bool | None:
    value = answer.get(name)
    if value is not None and not isinstance(value, bool):
        raise _nonsense(f"{name} is neither true nor false")
    return value


def _nonsense(what: str) -> Problem:
    return Problem(403, "refused_by_webhook", f"the auth webhook's answer is not understood: {what}")
