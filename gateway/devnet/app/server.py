"""HTTP server of the app: starts and updates the work of sessions."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from gateway.aio.json_text import parse_json
from gateway.aio.tasks import cancel, spawn
from gateway.devnet.app.channels import NoChannels
from gateway.devnet.app.config import AppConfig
from gateway.devnet.app.echo_request import BadEcho, read_params
from gateway.devnet.app.registration import HeartbeatSender
from gateway.devnet.app.scope_session import ScopeSession
from gateway.devnet.app.session_job import SessionJob

MAX_BODY = 1_048_576

log = structlog.get_logger("devnet.app")


class EchoApp:
    """`start` listens and registers, `stop` ends all sessions and unregisters."""

    def __init__(self, config: AppConfig) -> None:
        self.url = ""
        self._config = config
        self._jobs: dict[str, SessionJob | ScopeSession] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._http: aiohttp.ClientSession | None = None
        self._server: web.AppRunner | None = None
        self._registration: HeartbeatSender | None = None

    @property
    def sessions(self) -> int:
        """Count of sessions that are starting or at work."""
        return len(self._jobs)

    def beat_soon(self) -> None:
        """Send the next heartbeat now."""
        if self._registration is not None:
            self._registration.beat_soon()

    async def start(self) -> str:
        """Listen and register; returns the URL. Raises OSError."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/echo", self._echo)
        app.router.add_post("/update", self._update)
        app.router.add_post("/scope", self._scope)
        app.router.add_get("/health", self._health)
        app.router.add_get("/devnet/jobs", self._show_jobs)
        self._server = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._server.setup()
        await web.TCPSite(self._server, self._config.host, self._config.port).start()
        # orchestrators have self-signed certificates
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=False),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        host, port = self._server.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            await self._register()
        except BaseException:
            await self.stop()
            raise
        log.info("app listens", url=self.url, app=self._config.app)
        return self.url

    async def stop(self) -> None:
        """End all sessions, unregister and stop listening."""
        if self._registration is not None:
            await self._registration.close()
        await cancel(*self._tasks.values())
        if self._server is not None:
            await self._server.cleanup()
        if self._http is not None:
            await self._http.close()

    async def _register(self) -> None:
        config = self._config
        if config.orchestrator is None:
            return
        assert self._http is not None
        body = {
            "runner_url": self.url,
            "app": config.app,
            "mode": "persistent",
            "capacity": config.capacity,
            "price_info": {"price": config.price, "currency": "usd", "unit": config.unit},
            "status": "ready",
            "version": "devnet",
            "gpu": {"id": "0", "name": "none", "vram_mb": 0},
        }
        self._registration = HeartbeatSender(
            self._http, config.orchestrator, config.secret, body, released=self._released
        )
        await self._registration.start()

    async def _echo(self, request: web.Request) -> web.Response:
        """Start a session's work; asked again, repeat the answer."""
        try:
            params = read_params(await request.read())
        except BadEcho as error:
            return _error(400, str(error))
        assert self._http is not None
        job = SessionJob(
            self._http,
            request.headers,
            {"effect": "none", "picture_interval": self._config.conduct.picture_interval, **params},
            text=self._config.text,
            works=self._config.conduct.works,
        )
        return await self._start(job, self._config.warm_up)

    async def _scope(self, request: web.Request) -> web.Response:
        """Start a session that is led by messages; asked again, repeat the answer."""
        try:
            document = parse_json(await request.read())
            user = document["params"]["daydream_user_id"]
        except (ValueError, TypeError, KeyError):
            user = ""
        if not isinstance(user, str) or not user:
            return _error(401, "daydream_user_id is missing")
        assert self._http is not None
        return await self._start(
            ScopeSession(self._http, request.headers, warm_up=self._config.warm_up), warm_up=0.0
        )

    async def _start(self, job: SessionJob | ScopeSession, warm_up: float) -> web.Response:
        session_id = job.session_id
        if not session_id:
            return _error(400, "Livepeer-Session-Id is missing: this app is behind an orchestrator")
        known = self._jobs.get(session_id)
        if known is not None and known.answer:
            return web.json_response(known.answer)
        if known is not None or len(self._jobs) >= self._config.capacity:
            return _error(409, "another session is active" if known is None else "the session is starting")
        self._jobs[session_id] = job
        try:
            await asyncio.sleep(warm_up)
            await job.start()
        except NoChannels as error:
            del self._jobs[session_id]
            return _error(502, str(error))
        except BaseException:
            del self._jobs[session_id]
            raise
        self._tasks[session_id] = spawn(self._run(job), name="session")
        return web.json_response(job.answer)

    async def _update(self, request: web.Request) -> web.Response:
        job = self._jobs.get(request.headers.get("Livepeer-Session-Id", ""))
        if not isinstance(job, SessionJob) or not job.answer:
            return _error(404, "the session has no stream")
        try:
            job.update(read_params(await request.read()))
        except BadEcho as error:
            return _error(400, str(error))
        return web.json_response({"ok": True})

    async def _run(self, job: SessionJob | ScopeSession) -> None:
        try:
            await job.run()
        finally:
            self._jobs.pop(job.session_id, None)
            self._tasks.pop(job.session_id, None)

    def _released(self, session_id: str) -> None:
        task = self._tasks.get(session_id)
        if task is not None:
            task.cancel()

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "sessions": len(self._jobs), "pid": os.getpid()})

    async def _show_jobs(self, _: web.Request) -> web.Response:
        """What each running session's job has done, newest first."""
        jobs: list[Any] = [job.description() for job in reversed(self._jobs.values())]
        return web.json_response(jobs)


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


async def serve(config: AppConfig) -> EchoApp:
    """Start an app; its URL is `app.url`."""
    app = EchoApp(config)
    await app.start()
    return app
