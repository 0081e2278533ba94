"""A live runner: an app that registered itself or is configured, and the sessions that it serves."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.price import RunnerPrice, read_price
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.session import LiveSession

PERSISTENT = "persistent"
MODES = (PERSISTENT, "single-shot")
ROUTE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MAX_TEXT = 4096
MAX_CAPACITY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What an app says of itself."""

    runner_url: str
    app: str
    version: str
    metadata: str
    gpu: dict[str, Any] | None
    mode: str
    capacity: int
    ready: bool
    price: RunnerPrice | None
    session_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A runner is healthy while its URL answers with this status."""

    url: str
    status: int = 200


@dataclass(slots=True, eq=False)
class RegisteredRunner:
    """`route` is its part of URLs. `last_seen` is in seconds of the registry's clock."""

    route: str
    registration: Registration
    last_seen: float
    heartbeat_secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    o2r: str = field(default_factory=lambda: f"o2r_{secrets.token_hex(16)}", repr=False)
    """The channel by which the app learns of its sessions."""
    health: HealthCheck | None = None
    """How a configured one is asked for its health; None for one that registered itself."""
    healthy: bool = False
    """What the newest health check found."""
    sessions: dict[str, LiveSession] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    """Ids of sessions whose tickets are being checked: each has its slot already."""
    price_set: RunnerPrice | None = None
    """For tests: a price instead of the registered one."""
    listed_wei: int | None = None
    """For tests: what discovery says instead of the price."""
    price_stale: bool = False
    """For tests: whether the feed is too old to make a price."""
    capacity_set: int | None = None

    @property
    def price(self) -> RunnerPrice | None:
        return self.price_set or self.registration.price

    @property
    def is_priced(self) -> bool:
        return self.price is not None and self.price.wei > 0 and not self.price_stale

    @property
    def capacity(self) -> int:
        return self.registration.capacity if self.capacity_set is None else self.capacity_set

    @property
    def full(self) -> bool:
        return len(self.sessions) + len(self.pending) >= self.capacity

    def holds(self, session_id: str) -> bool:
        """Whether a session of that id is reserved or about to be."""
        return session_id in self.sessions or session_id in self.pending


def read_registration(document: object, dialect: Dialect, *, paid: bool) -> Registration:
    """The body of a heartbeat. Raises RequestRefused with 400."""
    if not isinstance(document, dict):
        raise RequestRefused(400, "invalid heartbeat JSON")
    gpu = document.get("gpu")
    capacity = document.get("capacity", 1)
    mode = _text(document, "mode").replace("_", "-") or PERSISTENT
    session_ids = document.get("session_ids") or []
    url, app = _text(document, "runner_url"), _text(document, "app")
    if not url.startswith(("http://", "https://")):
        raise RequestRefused(400, "runner_url must be an http or https URL")
    if not app:
        raise RequestRefused(400, "app is required")
    if mode not in MODES:
        raise RequestRefused(400, f"mode must be {' or '.join(MODES)}")
    if type(capacity) is not int or not 0 <= capacity <= MAX_CAPACITY:
        raise RequestRefused(400, "capacity must be a whole number")
    if not isinstance(session_ids, list) or not all(isinstance(one, str) for one in session_ids):
        raise RequestRefused(400, "session_ids must be texts")
    try:
        price = read_price(document.get("price_info"), dialect) if paid else None
    except ValueError as error:
        raise RequestRefused(400, str(error)) from error
    return Registration(
        runner_url=url.rstrip("/"),
        app=app,
        version=_text(document, "version"),
        metadata=_text(document, "metadata"),
        gpu=gpu if isinstance(gpu, dict) else None,
        mode=mode,
        capacity=capacity or 1,
        ready=_text(document, "status") in ("", "ready"),
        price=price,
        session_ids=tuple(session_ids),
    )


def read_static(document: object, dialect: Dialect, *, paid: bool) -> tuple[Registration, HealthCheck]:
    """An entry of a list of runners: as a heartbeat's body, with `health_url`. Raises RequestRefused."""
    registration = read_registration(document, dialect, paid=paid)
    assert isinstance(document, dict)
    url, status = _text(document, "health_url"), document.get("healthy_status_code") or 200
    if not url.startswith("/") and not url.startswith(("http://", "https://")):
        raise RequestRefused(400, "health_url must be a path or an http or https URL")
    if type(status) is not int:
        raise RequestRefused(400, "healthy_status_code must be a whole number")
    whole = f"{registration.runner_url}{url}" if url.startswith("/") else url
    return registration, HealthCheck(whole, status)


def read_route(document: dict[str, Any]) -> str:
    """The route that the app has, or wants; a new one where it names none. Raises RequestRefused with 400."""
    route = _text(document, "runner_id") or f"runner_{secrets.token_hex(4)}"
    if not ROUTE.fullmatch(route):
        raise RequestRefused(400, "runner_id is not a part of a URL")
    return route


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name) or ""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise RequestRefused(400, f"{name} must be a text")
    return value.strip()
