"""HTTP server of the runner: starts jobs and lists them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import web

from gateway.aio import tasks
from gateway.devnet.runner.request import BadRunnerRequest, RunnerRequest, chosen_effect
from gateway.devnet.runner.runner_job import TransformJob

log = structlog.get_logger("devnet.runner")

MAX_BODY = 1_048_576
MAX_JOBS = 256
START_TRIES = 10
REMEMBERED_JOBS = 16
"""Limit of ended jobs that are still listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """Port 0 takes a free one; `effect` is the default of jobs."""

    host: str = "127.0.0.1"
    port: int = 0
    effect: str = "negative"
    start_pause: float = 1.0
    """Seconds between two tries to start a job with parameters that were refused."""


class Runner:
    """`start` listens, `stop` ends all jobs and frees everything."""

    def __init__(self, config: RunnerConfig) -> None:
        self.url = ""
        self._instance = secrets.token_hex(8)
        self._config = config
        self._jobs: dict[TransformJob, asyncio.Task[None]] = {}
        self._over: deque[TransformJob] = deque(maxlen=REMEMBERED_JOBS)
        self._http: aiohttp.ClientSession | None = None
        self._server: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; returns the URL. Raises OSError where the port is taken."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/live-video-to-video", self._start_job)
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
        log.info("runner listens", url=self.url, effect=self._config.effect)
        return self.url

    async def stop(self) -> None:
        """End all jobs and stop listening."""
        await tasks.cancel(*self._jobs.values())
        if self._server is not None:
            await self._server.cleanup()
        if self._http is not None:
            await self._http.close()

    async def _start_job(self, request: web.Request) -> web.Response:
        try:
            wanted = RunnerRequest.from_json(json.loads(await request.read()))
        except BadRunnerRequest as error:
            return _problem(400, str(error))
        except (ValueError, RecursionError):
            return _problem(400, "the body is not JSON")
        if not await self._takes_params(wanted):
            return _problem(400, "Error during model execution.")
        if len(self._jobs) >= MAX_JOBS:
            return _problem(503, f"{MAX_JOBS} jobs are running")
        assert self._http is not None
        job = TransformJob(wanted, http=self._http, default_effect=self._config.effect)
        self._jobs[job] = tasks.spawn(self._run(job), name=f"job {wanted.manifest_id}")
        return web.json_response({"instance": self._instance})

    async def _takes_params(self, wanted: RunnerRequest) -> bool:
        """Whether the worker takes the parameters.

        As in the ai-runner it is asked several times before they are refused, and its reason stands in the
        log only.
        """
        for attempt in range(START_TRIES):
            if attempt:
                await asyncio.sleep(self._config.start_pause)
            try:
                chosen_effect(wanted.params)
            except BadRunnerRequest as error:
                log.warning("start refused", attempt=attempt + 1, error=str(error))
            else:
                return True
        return False

    async def _run(self, job: TransformJob) -> None:
        try:
            await job.run()
        finally:
            del self._jobs[job]
            self._over.append(job)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "OK", "jobs": len(self._jobs), "instance": self._instance})

    async def _show_jobs(self, _: web.Request) -> web.Response:
        """Running jobs, newest first, then ended ones."""
        jobs = [*reversed(self._jobs), *reversed(self._over)]
        return web.json_response([job.description() for job in jobs])


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": {"msg": detail}}, status=status)
