"""Request and answer of a job's start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.aio.json_text import parse_json
from gateway.orchestrator.urls import complete

MAX_MANIFEST_ID = 256


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The body of `POST {transcoder}/live-video-to-video`."""

    model_id: str
    gateway_request_id: str
    stream_id: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "params": dict(self.params),
            "gateway_request_id": self.gateway_request_id,
            "stream_id": self.stream_id,
        }


@dataclass(frozen=True, slots=True)
class JobUrls:
    """A job's trickle channels, and the manifest id that all its payments are for.

    `events_url` may be empty: the job then sends no events.
    """

    publish_url: str
    subscribe_url: str
    control_url: str
    events_url: str
    manifest_id: str

    @classmethod
    def parse(cls, body: bytes, base: str) -> JobUrls:
        """Parse the answer to a job start; `base`, the orchestrator's URL, completes relative ones.

        Raises ValueError where something is missing: without the manifest id, later payments would not be
        credited to the job.
        """
        try:
            answer = parse_json(body)
        except ValueError as error:
            raise ValueError("the answer is not JSON that is taken") from error
        if not isinstance(answer, dict):
            raise ValueError("the answer is not a JSON object")
        manifest_id = _text(answer, "manifest_id")
        if not manifest_id or len(manifest_id) > MAX_MANIFEST_ID or not manifest_id.isprintable():
            raise ValueError("the answer has no manifest_id to pay for")
        return cls(
            publish_url=_url(answer, "publish_url", base),
            subscribe_url=_url(answer, "subscribe_url", base),
            control_url=_url(answer, "control_url", base),
            events_url=_url(answer, "events_url", base) if _text(answer, "events_url") else "",
            manifest_id=manifest_id,
        )

    @property
    def channels(self) -> tuple[str, ...]:
        urls = (self.publish_url, self.subscribe_url, self.control_url, self.events_url)
        return tuple(url for url in urls if url)


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def _url(answer: dict[str, Any], name: str, base: str) -> str:
    try:
        return complete(_text(answer, name), base)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
