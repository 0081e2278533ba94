"""Body of `POST /live-video-to-video`, by which an orchestrator starts a job on a runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway.devnet.settings import EFFECTS


class BadRunnerRequest(ValueError):
    """The body is invalid; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerRequest:
    """One job. The URLs are trickle channels; `control_url` and `events_url` are empty where not wanted."""

    model_id: str
    subscribe_url: str
    publish_url: str
    control_url: str = ""
    events_url: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    gateway_request_id: str = ""
    manifest_id: str = ""
    stream_id: str = ""

    @classmethod
    def from_json(cls, document: object) -> RunnerRequest:
        """Parse the body. Raises BadRunnerRequest."""
        if not isinstance(document, dict):
            raise BadRunnerRequest("the body is not a JSON object")
        params = document.get("params") or {}
        if not isinstance(params, dict):
            raise BadRunnerRequest("params is not an object")
        return cls(
            model_id=_text(document, "model_id"),
            subscribe_url=_url(document, "subscribe_url", required=True),
            publish_url=_url(document, "publish_url", required=True),
            control_url=_url(document, "control_url"),
            events_url=_url(document, "events_url"),
            params=params,
            gateway_request_id=_text(document, "gateway_request_id"),
            manifest_id=_text(document, "manifest_id"),
            stream_id=_text(document, "stream_id"),
        )


def chosen_effect(params: Mapping[str, Any]) -> str | None:
    """The effect in the parameters, None where they name none. Raises BadRunnerRequest."""
    effect = params.get("effect")
    if effect is None or effect in EFFECTS:
        return effect
    raise BadRunnerRequest(f"unknown effect {effect!r:.60}: choose {', '.join(EFFECTS)}")


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name) or ""
    if not isinstance(value, str):
        raise BadRunnerRequest(f"{name} is not a string")
    return value


def _url(document: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    url = _text(document, name)
    parts = urlsplit(url)
    if (url or required) and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise BadRunnerRequest(f"{name} is not an http or https URL")
    return url
