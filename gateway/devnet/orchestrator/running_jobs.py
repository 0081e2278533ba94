"""Running jobs: a stream's channels, its debits, and the runner that does the work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from fractions import Fraction

import aiohttp
import structlog

from gateway.devnet.go_texts import decode_json
from gateway.devnet.orchestrator.conduct import HONEST, Conduct
from gateway.devnet.orchestrator.offer import Capacity, Tariff
from gateway.devnet.orchestrator.refusal import BadJob, WorkerFailed
from gateway.devnet.orchestrator.session import Session, Sessions
from gateway.devnet.trickle_server import TrickleServer
from gateway.money import fee
from gateway.orchestrator.job_start import JobRequest

START_TIMEOUT = 11.0
"""Seconds that the runner has to take or refuse a job: it refuses after 9, and gateways wait 12."""

HEALTH_TIMEOUT = 4.0
"""Seconds that the runner has to answer whether it is there."""

RUNNER_CHECK = 0.5
"""Seconds between checks that the runner still listens, while there are jobs."""

JSON = "application/json"

log = structlog.get_logger("devnet.orchestrator")


def read_job(body: bytes) -> JobRequest:
    """Raises BadJob."""
    try:
        document = decode_json(body)
    except ValueError as error:
        raise BadJob(str(error)) from error
    if not isinstance(document, dict):
        raise BadJob("the body is not a JSON object")
    params = document.get("params") or {}
    if not isinstance(params, dict):
        raise BadJob("params is not an object")
    texts = [document.get(name) or "" for name in ("model_id", "gateway_request_id", "stream_id")]
    if not all(isinstance(text, str) for text in texts):
        raise BadJob("model_id, gateway_request_id and stream_id are strings")
    return JobRequest(texts[0], texts[1], texts[2], params)


class Meter:
    """Debits elapsed time at a session's fixed price, when a segment arrives after the interval."""

    def __init__(
        self, session: Session, tariff: Tariff, *, interval: float, monotonic_ns: Callable[[], int]
    ) -> None:
        self._session = session
        self._tariff = tariff
        self._interval_ns = round(interval * 10**9)
        self._now_ns = monotonic_ns
        self._debited_until = monotonic_ns()

    def segment_arrived(self) -> bool:
        """Debit where due; False where the balance no longer covers the stream."""
        now = self._now_ns()
        elapsed = now - self._debited_until
        if self._session.price is None or elapsed < self._interval_ns:
            return True
        self._debited_until = now
        seconds = Fraction(elapsed, 10**9) * self._tariff.debit_rate
        self._session.debit(fee(seconds, self._session.price))
        return self._session.balance >= 0


class RunningJob:
    """One running job: its four channels. It ends once, for the first reason, and frees its capacity."""

    def __init__(
        self,
        manifest_id: str,
        model: str,
        meter: Meter,
        trickle: TrickleServer,
        on_end: Callable[[RunningJob], None],
    ) -> None:
        self.manifest_id = manifest_id
        self.model = model
        self.worker: str | None = None
        """The id of the runner's process, where the runner gives one."""
        self._meter = meter
        self._trickle = trickle
        self._on_end = on_end
        self._ended = False
        self._log = log.bind(manifest_id=manifest_id)

    @property
    def channels(self) -> dict[str, str]:
        """The names of the four channels by their content."""
        mid = self.manifest_id
        return {
            "input": mid,
            "output": f"{mid}-out",
            "control": f"{mid}-control",
            "events": f"{mid}-events",
        }

    def open(self) -> None:
        """Make the channels."""
        names = self.channels
        self._trickle.create(
            names["input"],
            on_segment=self._segment_arrived,
            on_close=lambda: self.end("the publisher closed its channel"),
        )
        self._trickle.create(names["output"], on_close=lambda: self.end("the runner closed its output"))
        self._trickle.create(names["control"], content_type=JSON)
        self._trickle.create(names["events"], content_type=JSON)

    def end(self, why: str) -> None:
        """Close the channels and free the capacity. Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        self._log.info("job ended", why=why)
        for name in self.channels.values():
            self._trickle.terminate(name)
        self._on_end(self)

    def _segment_arrived(self, _: int) -> None:
        if not self._meter.segment_arrived():
            self.end("the balance does not cover the stream")


class RunningJobs:
    """All running jobs of an orchestrator, and its runner."""

    def __init__(
        self,
        *,
        runner_url: str,
        pipeline: str,
        tariff: Tariff,
        debit_interval: float,
        monotonic_ns: Callable[[], int],
        capacity: Capacity,
        sessions: Sessions,
        trickle: TrickleServer,
        http: aiohttp.ClientSession,
        conduct: Conduct = HONEST,
    ) -> None:
        self.base_url = ""
        self._runner_url = runner_url.rstrip("/")
        self._pipeline = pipeline
        self._tariff = tariff
        self._debit_interval = debit_interval
        self._monotonic_ns = monotonic_ns
        self._capacity = capacity
        self._sessions = sessions
        self._trickle = trickle
        self._http = http
        self._conduct = conduct
        self._jobs: set[RunningJob] = set()

    async def start(self, request: JobRequest, manifest_id: str, session: Session) -> dict[str, str]:
        """Open the channels and give the job to the runner; returns the answer to the start.

        The caller has taken the capacity; it is freed when the job ends or its start fails with
        WorkerFailed.
        """
        meter = Meter(session, self._tariff, interval=self._debit_interval, monotonic_ns=self._monotonic_ns)
        job = RunningJob(manifest_id, request.model_id, meter, self._trickle, self._ended)
        self._jobs.add(job)
        urls = {what: f"{self.base_url}/{name}" for what, name in job.channels.items()}
        try:
            job.open()
            if self._conduct.works:
                job.worker = await self._hand_over(request, manifest_id, urls)
        except BaseException:
            job.end("the start failed")
            raise
        log.info("job started", manifest_id=manifest_id, stream_id=request.stream_id)
        return {
            "control_url": urls["control"],
            "events_url": urls["events"],
            "manifest_id": manifest_id,
            "publish_url": urls["input"],
            "subscribe_url": urls["output"],
        }

    @property
    def open_channels(self) -> int:
        """Count of trickle channels that are not closed."""
        return len(self._trickle.names())

    def end_all(self, why: str) -> None:
        for job in list(self._jobs):
            job.end(why)

    async def watch_runner(self) -> None:
        """Until cancelled: end all jobs when nothing listens at the runner's URL, or another process does.

        A silent runner ends nothing here: the gateway notices that the events stop.
        """
        while True:
            await asyncio.sleep(RUNNER_CHECK)
            if not self._jobs:
                continue
            try:
                worker = await self._ask_runner()
            except aiohttp.ClientConnectorError:
                self.end_all("the runner is lost")
                continue
            for job in list(self._jobs):
                if worker and job.worker and worker != job.worker:
                    job.end("the runner was started again")

    async def _ask_runner(self) -> str | None:
        """The runner's process id text, None where it gives none. Raises ClientConnectorError."""
        try:
            async with (
                asyncio.timeout(HEALTH_TIMEOUT),
                self._http.get(f"{self._runner_url}/health") as answer,
            ):
                return _worker(await answer.json(content_type=None))
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def _hand_over(self, request: JobRequest, manifest_id: str, urls: dict[str, str]) -> str | None:
        """Give the runner the job; returns its process id text, None where it gives none."""
        params = dict(request.params)
        if self._conduct.picture_interval:
            params["picture_interval"] = self._conduct.picture_interval
        body = {
            "model_id": request.model_id,
            "params": params,
            "subscribe_url": urls["input"],
            "publish_url": urls["output"],
            "control_url": urls["control"],
            "events_url": urls["events"],
            "gateway_request_id": request.gateway_request_id,
            "manifest_id": manifest_id,
            "stream_id": request.stream_id,
        }
        try:
            async with (
                asyncio.timeout(START_TIMEOUT),
                self._http.post(f"{self._runner_url}/{self._pipeline}", json=body) as answer,
            ):
                if answer.status != 200:
                    words = _refusal(await answer.read())
                    raise WorkerFailed(f"{self._pipeline} container returned {answer.status}: {words}")
                return _worker(await answer.json(content_type=None))
        except ValueError:
            return None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WorkerFailed(f"the runner cannot be reached: {type(error).__name__}") from error

    def _ended(self, job: RunningJob) -> None:
        self._jobs.discard(job)
        self._capacity.free(job.model)
        self._sessions.end(job.manifest_id)


def _refusal(body: bytes) -> str:
    """What a runner says of its refusal."""
    try:
        return str(json.loads(body)["detail"]["msg"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _worker(answer: object) -> str | None:
    """The process id text in a runner's answer: the devnet's runner gives one, others need not."""
    found = answer.get("instance") if isinstance(answer, dict) else None
    return found if isinstance(found, str) else None
