"""Jobs that a former run of the gateway left in the ledger: which go on, and what becomes of the others."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import structlog

from gateway.aio import tasks
from gateway.candidates.verdict import Verdict
from gateway.devnet.trickle_server import TrickleServer
from gateway.network.job_details import job_details
from gateway.network.models import ModelNetworks
from gateway.network.remains import OrchestratorRemains
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator.errors import NoCapacity, UnknownOutcome
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobUrls
from gateway.paid_job.former_jobs import JOB, FormerJobs
from gateway.payments.customer import Customer
from gateway.payments.errors import LedgerError, LedgerUnavailable, SessionTakenOver
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import JobDetails
from gateway.payments.spending import HOUR, PublisherBudget, Spending, SpendLimits, StreamLimits
from gateway.payments.timebase import now_ns
from gateway.payments.verify import verify
from gateway.reason import ChooseAgain, EndReason
from gateway.stream.seam import FormerStream, PublishRequest, UnknownModel
from harness.payment_models import PRICE, SENDER_TEXT, orchestrator_info
from harness.serving import serving, trickle_app
from harness.waiting import eventually
from signer_client import SignerClient, SignerUnreachable
from tests.network.test_job import Host
from tests.payments.ledgers import history
from tests.payments.payers import ScriptedOrchestrator, ScriptedSigner

pytestmark = pytest.mark.asyncio

REQUEST = PublishRequest(
    "cam", "cam", "r1", "m", params={"effect": "grey"}, limits=StreamLimits(wei=1000 * PRICE), publisher="ann"
)
PRELOAD = 60 * PRICE
CHANNELS = ("in", "out", "control", "events")
S = 10**9


class Orchestrators(ScriptedOrchestrator):
    """Those of the network, with a client that reaches a test's channels."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        super().__init__()
        self.http = http

    def http_for(self, info: OrchestratorInfo) -> aiohttp.ClientSession:
        return self.http


class AskedLedger:
    """A ledger that can become one of a cluster, and then gives this answer."""

    def __init__(self, ledger: Ledger, answer: LedgerError | None) -> None:
        self.shared = False
        self._ledger = ledger
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def forget_job(self, session_id: str) -> None:
        assert await self._ledger.former_jobs(), "it is asked before the session is closed"
        if self._answer is not None:
            raise self._answer


@dataclass
class Run:
    """One run of the gateway on a ledger."""

    ledger: Ledger
    http: aiohttp.ClientSession
    url: str
    sender: str = SENDER_TEXT
    ceiling: int = PRICE
    model: str = "m"
    resumes: bool = True
    interval: int = 5 * S
    elapsed_ns: int = 0
    """By which the monotonic clock is ahead."""
    verdict: tuple[Verdict, str] = (Verdict.AVAILABLE, "")
    signer: ScriptedSigner = field(default_factory=lambda: ScriptedSigner(*[60] * 5))

    def __post_init__(self) -> None:
        self.orchestrators = Orchestrators(self.http)
        self.spending = Spending(SpendLimits())
        self.payments = PaymentResources(
            signer=cast(SignerClient, self.signer),
            sender=self.sender,
            ledger=self.ledger,
            spending=self.spending,
            ceiling=Fraction(self.ceiling),
            interval=self.interval,
            signing_slots=asyncio.Semaphore(),
        )
        trusted = SimpleNamespace(goes_on=lambda: None, picture=lambda: None, end=lambda wei: None)
        pool = SimpleNamespace(
            model=self.model,
            judge=lambda listing, info: self.verdict,
            job_opened=lambda addr, address, job: trusted,
            job_over=lambda addr, job, *, ran: None,
        )
        self.network = NetworkResources(
            orchestrators=cast(Any, self.orchestrators),
            pool=cast(Any, pool),
            uplink=cast(Any, None),
            payments=self.payments,
        )

    def open_model(self, model: str) -> NetworkResources:
        if model != self.model:
            raise UnknownModel("no price for another model")
        return self.network

    def payer(self, request: PublishRequest = REQUEST, urls: JobUrls | None = None) -> Payer:
        return Payer(
            self.payments,
            cast(Any, self.orchestrators),
            orchestrator_info(),
            job=JobIdentity(request.name, request.stream_id, request.request_id, "addr"),
            limit=request.limits.wei,
            budget=PublisherBudget(request.publisher, None, None),
            details=JobDetails(job_details(request, urls, {"effect": "edges"}), lambda: 90_000),
        )

    async def job(self, request: PublishRequest = REQUEST, name: str = "in") -> Payer:
        """A job that runs and was paid for."""
        names = (name, *CHANNELS[1:])
        urls = JobUrls(*(f"{self.url}/ai/trickle/{one}" for one in names), manifest_id="m1")
        payer = self.payer(request, urls)
        await payer.first_payment()
        await payer.job_started("m1")
        return payer

    async def take(self) -> list[FormerStream]:
        self.spending.restore(await self.ledger.reader.signed_since(0))
        networks = ModelNetworks([self.model], self.open_model)
        former = FormerJobs(
            self.ledger,
            {JOB: partial(OrchestratorRemains, networks, NetworkSource(networks))},
            resumes=self.resumes,
            monotonic_ns=lambda: now_ns() + self.elapsed_ns,
        )
        return await former.take()


class Gateway:
    """Starts one run after the other, each of which ends as in a crash."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession, url: str, trickle: TrickleServer) -> None:
        self.path = folder / "ledger.sqlite3"
        self.trickle = trickle
        self._http = http
        self._url = url

    @asynccontextmanager
    async def run(self, **settings: Any) -> AsyncIterator[Run]:
        ledger = await Ledger.open(self.path)
        try:
            yield Run(ledger, self._http, self._url, **settings)
        finally:
            await ledger.close()

    def execute(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def reasons(self) -> list[tuple[str | None, str | None]]:
        return self.execute("SELECT reason, detail FROM sessions ORDER BY number")


@asynccontextmanager
async def gateway_at(folder: Path) -> AsyncIterator[Gateway]:
    trickle = TrickleServer()
    async with serving(app=trickle_app(trickle)) as url, aiohttp.ClientSession() as http:
        yield Gateway(folder, http, url, trickle)


async def test_a_job_waits_for_its_publisher_with_what_it_spent_and_the_newest_parameters(
    tmp_path: Path,
) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            await run.job()
        async with gateway.run() as run:
            (stream,) = await run.take()
            assert (stream.request, stream.request.wall_ns) == (REQUEST, REQUEST.wall_ns)
            assert stream.request.params == {"effect": "grey"}
            assert stream.last_update == {"effect": "edges"}
            assert 30 < stream.seconds <= 45
            assert [job.candidate.price for job in stream.jobs] == [PRICE]
            assert run.spending.spent_by("r1") == PRELOAD
            assert run.spending.spent(HOUR) == PRELOAD
            assert run.signer.calls == []
        assert gateway.reasons() == [(None, None)]
        assert len(gateway.execute("SELECT * FROM saved_jobs")) == 1


async def test_what_was_paid_goes_on_and_counts_on(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            payer = await run.job()
        async with gateway.run(signer=ScriptedSigner()) as run:
            await run.take()
            (former,) = await run.ledger.former_jobs()
            assert former.signed == 1
            _, position, saved = former.read()
            assert (position, saved.manifest_id, saved.credited) == (90_000, "m1", PRELOAD)
        assert payer.status().credited == PRELOAD


async def test_a_first_payment_that_nobody_credited_is_handed_out_again(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            payer = run.payer()
            first = await payer.first_payment()
            await payer.job_refused(NoCapacity("HTTP 503"))
        for _ in range(2):
            async with gateway.run() as run:
                assert await run.take() == []
                turn = await run.network.first_payments.turn(orchestrator_info().recipient)
                assert turn.kept is not None
                other = replace(REQUEST, name="other", request_id="r2", publisher="bob")
                details = JobDetails(job_details(other, None, None))
                await turn.kept.adopt(
                    JobIdentity("other", "other", "r2", ""),
                    limit=None,
                    budget=PublisherBudget("bob", None, None),
                    log=cast(Any, SimpleNamespace(info=lambda *_, **__: None)),
                    details=details,
                )
                again = await turn.kept.first_payment()
                assert (again.payment, again.seg_creds) == (first.payment, first.seg_creds)
                assert run.signer.calls == []
                spent = {who: run.spending.spent_by(who) for who in ("r1", "r2")}
                assert spent == {"r1": 0, "r2": PRELOAD}
                assert run.spending.spent(HOUR) == PRELOAD


async def test_who_it_is_to_the_signer_outlives_a_restart_and_nobody_else_gets_its_payment(
    tmp_path: Path,
) -> None:
    ann = Customer("ann", {"Authorization": "Bearer of-ann"})
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            payer = run.payer(replace(REQUEST, customer=ann))
            await payer.first_payment()
            await payer.job_refused(NoCapacity("HTTP 503"))
        async with gateway.run() as run:
            assert await run.take() == []
            recipient = orchestrator_info().recipient
            theirs = await run.network.first_payments.turn(recipient, Customer("bob"))
            assert theirs.kept is None
            await theirs.close(None, EndReason.ORCHESTRATOR_LOST)
            turn = await run.network.first_payments.turn(recipient, ann)
            assert turn.kept is not None
            assert turn.kept.customer == ann
            await turn.kept.close(EndReason.DELETED)


async def test_a_job_that_may_not_go_on_is_closed_with_the_reason_and_its_channels_are_deleted(
    tmp_path: Path,
) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"sender": "0x" + "11" * 20}, "another signer"),
        ({"ceiling": PRICE - 1}, "ceiling"),
        ({"model": "another"}, "another model"),
        ({"resumes": False}, "passed"),
        ({"verdict": (Verdict.BLOCKED, "the block list names it")}, "block list"),
    ]
    async with gateway_at(tmp_path) as gateway:
        for number, (change, why) in enumerate(changes):
            gateway.trickle.create(f"in{number}")
            async with gateway.run() as run:
                await run.job(name=f"in{number}")
            async with gateway.run(**change) as run:
                assert await run.take() == []
                await eventually(lambda: gateway.trickle.names() == [], what="the end of its channel")
            reason, detail = gateway.reasons()[-1]
            assert reason == "internal_error"
            assert detail is not None
            assert why in detail
        assert gateway.execute("SELECT * FROM saved_jobs") == []


@pytest.mark.parametrize("clock", ["wall", "monotonic"])
async def test_too_late_by_either_clock_is_too_late(clock: str, tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            await run.job()
        if clock == "wall":
            gateway.execute("UPDATE saved_jobs SET wall_ns = wall_ns - ?", 50 * S)
        async with gateway.run(elapsed_ns=50 * S if clock == "monotonic" else 0) as run:
            assert await run.take() == []


async def test_a_wall_clock_that_was_set_back_alone_is_not_trusted(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            await run.job()
        gateway.execute("UPDATE saved_jobs SET wall_ns = wall_ns + ?", 3600 * S)
        async with gateway.run() as run:
            (stream,) = await run.take()
            assert stream.seconds <= 45
        gateway.execute("UPDATE saved_jobs SET monotonic_ns = monotonic_ns + ?", 3600 * S)
        async with gateway.run() as run:
            assert await run.take() == []
        assert "clock" in str(gateway.reasons())


@pytest.mark.parametrize("column", ["details", "progress"])
@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "{}", "[" * 100_000, '{"version": 1, "session": {}}', "7"],
    ids=["empty", "cut", "list", "object", "deep", "nothing", "number"],
)
async def test_a_damaged_row_is_closed_and_the_others_go_on(column: str, damage: str, tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            await run.job()
            await run.job(replace(REQUEST, name="other", request_id="r2"))
        table = {"details": "saved_details", "progress": "saved_jobs"}[column]
        gateway.execute(f"UPDATE {table} SET {column} = ? WHERE session = 1", damage)
        async with gateway.run() as run:
            (stream,) = await run.take()
            assert stream.request.name == "other"
        assert [reason for reason, _ in gateway.reasons()] == ["internal_error", None]


async def test_the_newest_job_of_a_stream_goes_on_and_one_that_stands_by(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            for request_id in ("r1", "r2", "r2"):
                await run.job(replace(REQUEST, request_id=request_id, standby=request_id == "r2"))
            other = replace(REQUEST, name="other", request_id="r3")
            await run.job(other)
            await run.job(other)
        async with gateway.run() as run:
            streams = {stream.request.name: stream for stream in await run.take()}
            assert streams["cam"].request.request_id == "r2"
            assert [len(streams[name].jobs) for name in ("cam", "other")] == [2, 1]
        kept = [reason is None for reason, _ in gateway.reasons()]
        assert kept == [False, True, True, False, True]


async def test_a_signing_under_way_counts_as_lost_once_and_the_payment_is_asked_for_again(
    tmp_path: Path,
) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            await run.job()
        async with gateway.run() as run:
            (former,) = await run.ledger.former_jobs()
            await run.ledger.intended(former.session_id, 2)
        for _ in range(2):
            async with gateway.run() as run:
                assert len(await run.take()) == 1
        assert gateway.execute("SELECT number FROM signings") == [(2,)]
        async with gateway.run() as run:
            await run.take()
            (former,) = await run.ledger.former_jobs()
            await run.ledger.intended(former.session_id, 2)
            assert await history(run.ledger) == [
                *("intended", "signed", "delivered", "credited"),
                "intended",
            ]


async def test_a_session_without_a_job_is_closed_when_the_ledger_is_opened(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run(signer=ScriptedSigner(SignerUnreachable("away"))) as run:
            payer = run.payer()
            running = asyncio.get_running_loop().create_task(payer.first_payment())
            await eventually(lambda: run.signer.calls, every=0.002)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        async with gateway.run():
            assert gateway.reasons()[0][0] == "internal_error"


async def test_the_row_goes_with_its_session(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway, gateway.run() as run:
        payer = await run.job()
        assert len(gateway.execute("SELECT * FROM saved_jobs")) == 1
        await payer.close(EndReason.DELETED)
        assert gateway.execute("SELECT * FROM saved_jobs") == []
        assert gateway.execute("SELECT * FROM saved_details") == []


async def test_a_payment_of_unknown_fate_is_delivered_again_before_anything_is_signed(tmp_path: Path) -> None:
    quick: dict[str, Any] = {"interval": S // 50}
    async with gateway_at(tmp_path) as gateway:
        for name in CHANNELS:
            gateway.trickle.create(name)
        async with gateway.run(**quick, signer=ScriptedSigner(60)) as run:
            payer = await run.job()
            run.orchestrators.script = [UnknownOutcome("no answer within 5 s")] * 100
            paying = asyncio.get_running_loop().create_task(payer.run())
            await eventually(lambda: run.orchestrators.delivered, every=0.002)
            await tasks.cancel(paying)
            unknown, state = run.orchestrators.delivered[0], len(run.signer.calls)
        async with gateway.run(**quick, signer=ScriptedSigner()) as run:
            (stream,) = await run.take()
            job = stream.jobs[0].open(cast(Any, Host()), structlog.get_logger())
            job.hold()
            running = asyncio.get_running_loop().create_task(job.run())
            await eventually(lambda: run.orchestrators.delivered, every=0.002)
            assert run.orchestrators.delivered == [unknown]
            assert (job.started, job.paid, run.signer.calls) == (True, False, [])
            status = job.status()
            assert status.payments is not None
            await eventually(lambda: job.status().payments.accepted == 2, every=0.002)  # type: ignore[union-attr]
            job.resume()
            await eventually(lambda: run.signer.calls, every=0.002)
            assert run.signer.calls[0]["state"].state == base64.b64encode(b'{"seq": 2}').decode()
            assert state == 2
            await tasks.cancel(running)
            await job.close(EndReason.DELETED)
            assert gateway.trickle.names() == [name for name in CHANNELS if name not in ("in", "control")]
            assert (await verify(run.ledger.reader)).findings == []
        assert gateway.execute("SELECT count(*) FROM sessions") == [(1,)]


async def test_a_job_that_the_orchestrator_forgot_fails_without_blame(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        async with gateway.run() as run:
            await run.job()
        async with gateway.run() as run:
            (stream,) = await run.take()
            job = stream.jobs[0].open(cast(Any, Host()), structlog.get_logger())
            with pytest.raises(ChooseAgain, match="closed the channel"):
                await job.run()
            await job.close(EndReason.ORCHESTRATOR_LOST)
        assert gateway.reasons()[0][0] == "orchestrator_lost"


async def test_the_channels_of_a_job_that_another_node_took_over_stay_open(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        for name in CHANNELS:
            gateway.trickle.create(name)
        async with gateway.run() as run:
            await run.job()
        async with gateway.run() as run:
            (stream,) = await run.take()
            job = stream.jobs[0].open(cast(Any, Host()), structlog.get_logger())
            running = asyncio.get_running_loop().create_task(job.run())
            await eventually(lambda: job.started, every=0.002)
            await tasks.cancel(running)
            await job.close(EndReason.TAKEN_OVER)
        assert gateway.trickle.names() == list(CHANNELS)


@pytest.mark.parametrize(
    ("answer", "channels"),
    [
        (SessionTakenOver("another node goes on with it"), list(CHANNELS)),
        (LedgerUnavailable("it does not say"), list(CHANNELS)),
        (None, ["out", "events"]),
    ],
)
async def test_a_node_of_a_cluster_asks_the_ledger_before_it_closes_channels(
    answer: LedgerError | None, channels: list[str], tmp_path: Path
) -> None:
    """It may be cut off from NATS alone, and another node may use them by now."""
    async with gateway_at(tmp_path) as gateway:
        for name in CHANNELS:
            gateway.trickle.create(name)
        async with gateway.run() as run:
            await run.job()
        async with gateway.run() as run:
            ledger = AskedLedger(run.ledger, answer)
            run.payments = replace(run.payments, ledger=cast(Ledger, ledger))
            run.network = replace(run.network, payments=run.payments)
            (stream,) = await run.take()
            job = stream.jobs[0].open(cast(Any, Host()), structlog.get_logger())
            running = asyncio.get_running_loop().create_task(job.run())
            await eventually(lambda: job.started, every=0.002)
            await tasks.cancel(running)
            ledger.shared = True
            await job.close(EndReason.PUBLISHER_LEFT)
        assert gateway.trickle.names() == channels


async def test_a_job_that_is_left_is_there_for_the_next_run(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as gateway:
        for name in CHANNELS:
            gateway.trickle.create(name)
        async with gateway.run() as run:
            await run.job()
        for _ in range(2):
            async with gateway.run() as run:
                (stream,) = await run.take()
                job = stream.jobs[0].open(cast(Any, Host()), structlog.get_logger())
                running = asyncio.get_running_loop().create_task(job.run())
                await eventually(lambda job=job: job.started, every=0.002)
                await tasks.cancel(running)
                await job.close(EndReason.DRAINED, leave=True)
        assert gateway.trickle.names() == list(CHANNELS)
        assert gateway.reasons() == [(None, None)]
