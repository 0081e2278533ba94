"""The operator's own say over each publisher: go-livepeer's auth webhook, asked before the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog

from gateway.http.problem import Problem
from gateway.http.webhook_client import AnsweredNo, WebhookClient
from gateway.payments.ceiling import parse_amount
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.stream.names import check_name
from gateway.stream.seam import Json

log = structlog.get_logger("access")

COMFYUI = "comfyui"


@dataclass(frozen=True)
class WebhookAnswer:
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
        headers = {"x-api-key": api_key, "Authorization": api_key} if api_key else {}
        self._server = WebhookClient(http, url, headers)

    async def ask(self, question: Mapping[str, str]) -> WebhookAnswer:
        """Raises Problem 403 where the webhook refuses, and 503 where it gives no answer in time."""
        stream = question.get("stream", "")
        try:
            return parse_verdict(await self._server.ask({"type": "livepeer-whip", **question}))
        except AnsweredNo as error:
            log.info("auth webhook refuses", stream=stream, detail=str(error))
            raise Problem(403, "refused_by_webhook", "the auth webhook refuses this stream") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning(
                "auth webhook does not answer", stream=stream, error=str(error) or type(error).__name__
            )
            raise Problem(
                503,
                "webhook_unreachable",
                "the auth webhook does not answer, so nobody is let in: try again",
                headers={"Retry-After": "5"},
            ) from error
        except ValueError as error:
            log.warning("auth webhook is not understood", stream=stream, error=str(error))
            detail = f"the auth webhook's answer is not understood: {error}"
            raise Problem(403, "refused_by_webhook", detail) from error


def parse_verdict(answer: Any) -> WebhookAnswer:
    """Read an answer. Raises ValueError for what is no JSON object of the documented form.

    For the pipeline comfyui, parameters without a prompt are a workflow: they become {"prompt": ..}.
    """
    if not isinstance(answer, dict):
        raise ValueError("it is no JSON object")
    pipeline = _text(answer, "pipeline")
    params = answer.get("pipeline_parameters")
    if params is not None and not isinstance(params, dict):
        raise ValueError("pipeline_parameters is no JSON object")
    if params and pipeline == COMFYUI and "prompt" not in params:
        params = {"prompt": params}
    stream_id = _text(answer, "stream_id")
    return WebhookAnswer(
        pipeline,
        params or None,
        None if stream_id is None else check_name(stream_id, "stream id"),
        _text(answer, "orchestrator"),
        _flag(answer, "standby"),
        _limits(answer),
    )


def _limits(answer: Mapping[str, Any]) -> StreamLimits:
    amount, seconds = _text(answer, "maxSessionSpend"), answer.get("maxStreamSeconds")
    if seconds is not None and (type(seconds) is not int or seconds < 0):
        raise ValueError("maxStreamSeconds is no whole number")
    try:
        return StreamLimits(wei=None if amount is None else parse_amount(amount), seconds=seconds)
    except ValueError as error:
        raise ValueError("maxSessionSpend is no amount such as 0.1ETH") from error


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value or None


def _flag(answer: Mapping[str, Any], name: str) -> bool | None:
    value = answer.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value
