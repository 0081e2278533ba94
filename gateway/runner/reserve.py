"""Reserving a session on a live runner: the challenge that says what is to be paid, and the session."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from gateway.aio.inside import Reach
from gateway.aio.json_text import parse_json
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.orchestrator.urls import complete

MAX_ID = 256


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 402's content: what a first payment is to be signed on, and for which session."""

    info: OrchestratorInfo = field(repr=False)
    manifest_id: str = field(repr=False)
    payment_url: str = field(repr=False)
    """Where later payments go."""

    @classmethod
    def parse(cls, body: bytes, reserve_url: str, reach: Reach, unit: PriceUnit) -> Challenge:
        """`reserve_url` is where it was asked for, `unit` what discovery said that the price is for.

        Raises ValueError.
        """
        answer = _object(body)
        info = read_params(answer, reach, unit)
        manifest_id = _id(answer, "manifest_id")
        if manifest_id != info.session_id:
            raise ValueError("its manifest_id is not the session of its auth token")
        given = answer.get("payment_url")
        url = given if isinstance(given, str) and given else f"{reserve_url}/{manifest_id}/payment"
        return cls(info, manifest_id, complete(url, reserve_url))


@dataclass(frozen=True, slots=True)
class RunnerSession:
    """A reserved session. Its id and URLs are all that app, stop and payments ask for: they are secrets."""

    id: str = field(repr=False)
    app_url: str = field(repr=False)
    control_url: str = field(repr=False)

    @classmethod
    def parse(cls, body: bytes, reserve_url: str, manifest_id: str = "") -> RunnerSession:
        """`manifest_id` is the one that was paid for; empty where nothing is paid. Raises ValueError."""
        answer = _object(body)
        session_id = _id(answer, "session_id")
        if manifest_id and session_id != manifest_id:
            raise ValueError("its session is not the one that was paid for")
        return cls(session_id, _url(answer, "app_url", reserve_url), _url(answer, "control_url", reserve_url))

    @classmethod
    def of_former_answer(cls, reserve_url: str, manifest_id: str) -> RunnerSession:
        """The session where the answer to its reserve was lost, by the form that its URLs have."""
        base = f"{reserve_url}/{manifest_id}"
        return cls(manifest_id, f"{base}/app", base)


def read_params(answer: Any, reach: Reach, unit: PriceUnit) -> OrchestratorInfo:
    """The OrchestratorInfo in an answer's `payment_params`. Raises ValueError."""
    params = answer.get("payment_params") if isinstance(answer, dict) else None
    if not isinstance(params, str):
        raise ValueError("its answer has no payment_params")
    try:
        raw = base64.b64decode(params, validate=True)
    except binascii.Error as error:
        raise ValueError("its payment_params are not base64") from error
    return OrchestratorInfo.parse(raw, reach, unit)


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = parse_json(body)
    except ValueError as error:
        raise ValueError("its answer is not JSON") from error
    if not isinstance(answer, dict):
        raise ValueError("its answer is not a JSON object")
    return answer


def _id(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not value.isprintable() or "/" in value:
        raise ValueError(f"its answer has no {name}")
    return value


def _url(answer: dict[str, Any], name: str, base: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"its answer has no {name}")
    return complete(value, base).rstrip("/")
