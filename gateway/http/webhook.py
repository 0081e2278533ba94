"""go-livepeer's auth webhook: a server of the operator's that decides about each publisher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import aiohttp
import structlog

from gateway.http.limit_words import AMOUNTS, COUNTS, limits_of
from gateway.http.problem import Problem, ProblemCode
from gateway.http.webhook_client import ErrorStatus, WebhookClient
from gateway.outputs.recorder import RecordOf
from gateway.payments.customer import checked_headers, parse_markup
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.stream.names import check_name
from gateway.stream.params import MAX_PARAMS, json_size
from gateway.stream.seam import Json
from gateway.telemetry import tracing

log = structlog.get_logger("access")

COMFYUI = "comfyui"


@dataclass(frozen=True)
class WebhookAnswer:
    """The webhook's decisions about a stream that it accepts; None keeps what the publisher asked for."""

    pipeline: str | None = None
    params: Json | None = None
    stream_id: str | None = None
    orchestrator: str | None = None
    """Who is to transform the stream: an orchestrator's URL or address, or a kind such as `network`."""
    standby: bool | None = None
    """Whether to run a second job. Not in go-livepeer's webhook, as the limits are not."""
    limits: StreamLimits = NO_LIMITS
    """From the words of limit_words.py."""
    rtmp_output: str | None = None
    """Where the stream is sent on to, in the place of what the publisher asks for."""
    record: RecordOf | None = None
    """What of the stream is recorded. Not in go-livepeer's webhook."""
    outputs: bool | None = None
    """Whether the publisher may have outputs. Not in go-livepeer's webhook."""
    customer: str | None = None
    """Whom the stream is for; who publishes, where limits over time count publishers."""
    signer_headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Who the stream is to the signer."""
    markup: Fraction | None = None
    """What the customer is charged for a wei that was spent."""


class AuthWebhook:
    """Asks `url` about each stream. `api_key` is sent in the two headers that go-livepeer sends it in."""

    def __init__(self, http: aiohttp.ClientSession, url: str, api_key: str | None) -> None:
        headers = {"x-api-key": api_key, "Authorization": api_key} if api_key else {}
        self._server = WebhookClient(http, url, headers)

    async def ask(self, question: Mapping[str, str]) -> WebhookAnswer:
        """Raises Problem 403 where the webhook refuses, 503 where it does not answer in time."""
        stream = question.get("stream", "")
        asked = {"type": "livepeer-whip", **question}
        try:
            with tracing.ended_with(tracing.current().child("auth webhook")) as step:
                return parse_answer(await self._server.ask(asked, headers=step.headers))
        except ErrorStatus as error:
            log.info("auth webhook refused", stream=stream, detail=str(error))
            raise Problem(
                403, ProblemCode.REFUSED_BY_WEBHOOK, "the auth webhook refuses this stream"
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning(
                "auth webhook did not answer", stream=stream, error=str(error) or type(error).__name__
            )
            raise Problem(
                503,
                ProblemCode.WEBHOOK_UNREACHABLE,
                "the auth webhook does not answer, so no publisher is accepted: try again",
                headers={"Retry-After": "5"},
            ) from error
        except ValueError as error:
            log.warning("auth webhook gave an invalid answer", stream=stream, error=str(error))
            detail = f"the auth webhook gave an invalid answer: {error}"
            raise Problem(403, ProblemCode.REFUSED_BY_WEBHOOK, detail) from error


def parse_answer(answer: Any) -> WebhookAnswer:
    """Check an answer's JSON. Raises ValueError.

    For the pipeline comfyui, parameters without a prompt are a workflow: they become {"prompt": ..}.
    """
    if not isinstance(answer, dict):
        raise ValueError("it is not a JSON object")
    pipeline = _text(answer, "pipeline")
    params = answer.get("pipeline_parameters")
    if params is not None and not isinstance(params, dict):
        raise ValueError("pipeline_parameters is not a JSON object")
    if params and json_size(params) > MAX_PARAMS:
        raise ValueError(f"pipeline_parameters has more than {MAX_PARAMS} bytes as JSON")
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
        _text(answer, "rtmp_output_url"),
        _record(answer),
        _flag(answer, "outputs"),
        _text(answer, "customer"),
        _headers(answer),
        _markup(answer),
    )


def _headers(answer: Mapping[str, Any]) -> dict[str, str] | None:
    headers = answer.get("signer_headers")
    if headers is not None and not isinstance(headers, dict):
        raise ValueError("signer_headers is not a JSON object")
    try:
        return checked_headers(headers) if headers else None
    except ValueError as error:
        raise ValueError(f"signer_headers: {error}") from error


def _markup(answer: Mapping[str, Any]) -> Fraction | None:
    markup = _text(answer, "usageMarkup")
    return None if markup is None else parse_markup(markup)


def _limits(answer: Mapping[str, Any]) -> StreamLimits:
    amounts = {name: _text(answer, name) for name in AMOUNTS}
    counts = {name: answer[name] for name in COUNTS if answer.get(name) is not None}
    for name, count in counts.items():
        if type(count) is not int:
            raise ValueError(f"{name} is not a whole number")
    return limits_of({name: amount for name, amount in amounts.items() if amount is not None}, counts)


def _record(answer: Mapping[str, Any]) -> RecordOf | None:
    value = _text(answer, "record")
    if value is not None and value not in tuple(RecordOf):
        raise ValueError(f"record is none of {', '.join(RecordOf)}")
    return None if value is None else RecordOf(value)


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value or None


def _flag(answer: Mapping[str, Any], name: str) -> bool | None:
    value = answer.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value
