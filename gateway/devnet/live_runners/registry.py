"""All live runners of an orchestrator: registration by heartbeat, configured ones, discovery, sessions."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import structlog

from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.price import price_json
from gateway.devnet.live_runners.refusal import RequestRefused, not_found
from gateway.devnet.live_runners.runner import RegisteredRunner, read_registration, read_route, read_static
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.trickle_server import TrickleServer

HEARTBEAT_INTERVAL = 5
KEEP_ALIVE_INTERVAL = 10.0
MAX_SESSIONS = 10_000
JSON = "application/json"
TRICKLE = "/ai/trickle"

Json = dict[str, Any]
log = structlog.get_logger("devnet.live_runners")


class RunnerRegistry:
    """`url` is the service URI, set once the port is known. `clock` gives seconds, monotonic."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        secret: str,
        paid: bool,
        trickle: TrickleServer,
        clock: Callable[[], float],
        on_release: Callable[[LiveSession], None],
        listed_price: Fraction = Fraction(1),
    ) -> None:
        """`on_release` is called once for each session that ends.

        `listed_price` is what discovery says, as a multiple of the price.
        """
        self._listed_price = listed_price
        self.url = ""
        self.runners: dict[str, RegisteredRunner] = {}
        self.ended: dict[str, str] = {}
        """Why each session ended, by its id, for the audit."""
        self._dialect = dialect
        self._secret = secret
        self._paid = paid
        self._trickle = trickle
        self._clock = clock
        self._on_release = on_release

    def heartbeat(self, document: object, authorization: str) -> Json:
        """Register an app, or note that it lives; returns the answer. Raises RequestRefused."""
        registration = read_registration(document, self._dialect, paid=self._paid)
        assert isinstance(document, dict)
        route = read_route(document)
        runner = self.runners.get(route)
        if runner is None:
            if not hmac.compare_digest(authorization.encode(), self._secret.encode()):
                raise RequestRefused(401, "invalid registration authorization")
            runner = self._add(RegisteredRunner(route, registration, self._clock()))
            return self._heartbeat_answer(runner) | {
                "heartbeat_secret": runner.heartbeat_secret,
                "o2r": self.channel_json("o2r", runner.o2r, JSON),
            }
        self._check_heartbeat_secret(runner, authorization)
        runner.registration = registration
        runner.last_seen = self._clock()
        return self._heartbeat_answer(runner)

    def unregister(self, route: str, authorization: str) -> None:
        """Remove a runner and end its sessions. Raises RequestRefused."""
        runner = self.find(route)
        self._check_heartbeat_secret(runner, authorization)
        self.remove(runner, "the runner unregistered")

    def configure(self, document: object) -> RegisteredRunner:
        """Add a runner that does not register itself, ready while it is healthy. Raises RequestRefused."""
        registration, health = read_static(document, self._dialect, paid=self._paid)
        return self._add(RegisteredRunner(read_route({}), registration, self._clock(), health=health))

    def found_healthy(self, runner: RegisteredRunner, healthy: bool) -> None:
        """Note a health check of a configured runner; where it failed, its sessions end."""
        runner.healthy = healthy
        if not healthy:
            for session in tuple(runner.sessions.values()):
                self.release(runner, session, "the runner is not healthy")

    def find(self, route: str) -> RegisteredRunner:
        """Raises RequestRefused with 404."""
        runner = self.runners.get(route)
        if runner is None:
            raise not_found("runner")
        return runner

    def find_ready(self, route: str) -> RegisteredRunner:
        """Raises RequestRefused with 404, also for one that is not ready."""
        runner = self.find(route)
        if not self.is_ready(runner):
            raise not_found("runner")
        return runner

    def find_session(self, route: str, session_id: str) -> tuple[RegisteredRunner, LiveSession]:
        """Raises RequestRefused with 404."""
        runner = self.find(route)
        session = runner.sessions.get(session_id)
        if session is None:
            raise not_found("session")
        return runner, session

    def find_by_token(self, route: str, session_id: str, token: str) -> tuple[RegisteredRunner, LiveSession]:
        """The session for a call of its app. Raises RequestRefused with 404 or the dialect's 401 or 403."""
        runner, session = self.find_session(route, session_id)
        if not hmac.compare_digest(token.encode(), session.token.encode()):
            raise RequestRefused(self._dialect.bad_token_status, "invalid session token")
        return runner, session

    def is_ready(self, runner: RegisteredRunner) -> bool:
        """Whether it may be reserved, full or not."""
        if runner.health is not None:
            return runner.healthy
        return runner.registration.ready and self._clock() - runner.last_seen < self._dialect.heartbeat_ttl

    def discovery(self) -> list[Json]:
        """The answer of `GET /discovery`."""
        listed = [
            self._listed(runner)
            for runner in self.runners.values()
            if self.is_ready(runner)
            and not runner.price_stale
            and (self._dialect.lists_full or not runner.full)
        ]
        if not listed and self._dialect.lists_full:
            return [{"address": self.url}]
        return [{"address": self.url, "runners": listed}]

    def reserve(self, runner: RegisteredRunner, session: LiveSession) -> Json:
        """Take a slot for the session, which the caller has checked; returns the answer."""
        runner.sessions[session.id] = session
        self._tell(runner, "reserved", session.id)
        log.info("session reserved", app=runner.registration.app)
        control = f"{self.session_url(runner)}/{session.id}"
        return {"session_id": session.id, "app_url": f"{control}/app", "control_url": control}

    def release(self, runner: RegisteredRunner, session: LiveSession, why: str) -> None:
        """End a session: its slot is free, its channels close, its open requests are cut on a node."""
        if runner.sessions.pop(session.id, None) is None:
            return
        session.ended = self.ended[session.id] = why
        for name in session.channels:
            self._trickle.terminate(name)
        self._tell(runner, "released", session.id)
        self._on_release(session)
        if self._dialect.max_streams is not None:
            for cut in tuple(session.cut):
                cut()
        log.info("session released", app=runner.registration.app, why=why)

    def remove(self, runner: RegisteredRunner, why: str) -> None:
        """Forget a runner and end its sessions."""
        if self.runners.get(runner.route) is not runner:
            return
        del self.runners[runner.route]
        for session in tuple(runner.sessions.values()):
            self.release(runner, session, why)
        self._trickle.terminate(runner.o2r)
        log.info("runner removed", route=runner.route, why=why)

    def remove_all(self, why: str) -> None:
        for runner in tuple(self.runners.values()):
            self.remove(runner, why)

    async def watch(self, check: float = 0.5) -> None:
        """Until cancelled: remove runners without a heartbeat, keep the others' channels alive."""
        told = self._clock()
        while True:
            await asyncio.sleep(check)
            for runner in tuple(self.runners.values()):
                if runner.health is not None:
                    continue
                if self._clock() - runner.last_seen >= self._dialect.heartbeat_ttl:
                    self.remove(runner, "no heartbeat came")
            if self._clock() - told >= KEEP_ALIVE_INTERVAL:
                told = self._clock()
                for runner in self.runners.values():
                    self._trickle.publish(runner.o2r, {"keep": "alive"})

    @property
    def session_count(self) -> int:
        return sum(len(runner.sessions) for runner in self.runners.values())

    def session_url(self, runner: RegisteredRunner) -> str:
        """The URL that reserves; a session's control URL is below it."""
        return f"{self.url}/apps/{runner.route}/session"

    def channel_json(self, name: str, channel_name: str, mime_type: str) -> Json:
        """A channel as it is told to apps."""
        url = f"{self.url}{TRICKLE}/{channel_name}"
        return {
            "name": name,
            "channel_name": channel_name,
            "url": url,
            "internal_url": url,
            "mime_type": mime_type,
        }

    def _add(self, runner: RegisteredRunner) -> RegisteredRunner:
        self.runners[runner.route] = runner
        self._trickle.create(runner.o2r, content_type=JSON)
        log.info("runner registered", route=runner.route, app=runner.registration.app)
        return runner

    def _check_heartbeat_secret(self, runner: RegisteredRunner, authorization: str) -> None:
        if not hmac.compare_digest(authorization.encode(), runner.heartbeat_secret.encode()):
            raise RequestRefused(401, "invalid heartbeat authorization")

    def _heartbeat_answer(self, runner: RegisteredRunner) -> Json:
        return {
            "runner_id": runner.route,
            "orchestrator": self.url,
            "heartbeat_interval": f"{HEARTBEAT_INTERVAL}s",
            "heartbeat_ttl": f"{self._dialect.heartbeat_ttl:g}s",
            "session_ids": list(runner.sessions),
        }

    def _listed(self, runner: RegisteredRunner) -> Json:
        known, used = runner.registration, len(runner.sessions)
        persistent = f"{self.url}/apps/{runner.route}/session"
        entry: Json = {
            "url": persistent if known.mode == "persistent" else f"{self.url}/apps/{runner.route}/app",
            "app": known.app,
            "mode": known.mode,
            "capacity": runner.capacity,
            "capacity_used": used,
            "capacity_available": max(0, runner.capacity - used),
        }
        entry |= {name: value for name in ("version", "metadata", "gpu") if (value := getattr(known, name))}
        if runner.price is not None:
            listed = int(runner.price.wei * self._listed_price)
            wei = listed if runner.listed_wei is None else runner.listed_wei
            entry["price_info"] = price_json(runner.price, wei, self._dialect)
        elif self._dialect.rounds_up:
            entry["price_info"] = {"price": 0, "currency": "", "unit": ""}
        return entry

    def _tell(self, runner: RegisteredRunner, event: str, session_id: str) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._trickle.publish(runner.o2r, {"event": event, "session": session_id, "timestamp": now})
