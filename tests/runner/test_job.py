"""A job on a live runner, against an orchestrator and a signer that speak as the real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio
import structlog
from aiohttp import web
from typing_extensions import override

from gateway.aio import tasks
from gateway.candidates.refused_starts import FREE
from gateway.candidates.verdict import Verdict
from gateway.devnet.trickle_server import TrickleServer
from gateway.media.ts_muxer import TsMuxer
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.paid_job.former_jobs import FormerJobs
from gateway.payments.ledger import Ledger
from gateway.payments.resources import PaymentResources
from gateway.payments.spending import Spending, SpendLimits
from gateway.payments.verify import verify
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom, ParamsRefused
from gateway.runner.app_errors import Errors
from gateway.runner.client import RunnerClient
from gateway.runner.job import RunnerJob
from gateway.runner.lists import OrchestratorRunners
from gateway.runner.offer import RunnerOffer, Unit
from gateway.runner.pool import RunnerPool
from gateway.runner.profile import AppProfile, Limits, Pause, Stop, Text
from gateway.runner.remains import RunnerRemains
from gateway.runner.reserve import Challenge, RunnerSession
from gateway.runner.resources import RunnerResources
from gateway.runner.session_details import RUNNER
from gateway.runner.settings import RunnerSettings
from gateway.runner.source import RunnerSource
from gateway.stream.seam import FormerStream, Job, PublishRequest
from harness.serving import serving, trickle_app
from harness.waiting import DEADLINE, eventually
from signer_client import LivePayment, RefreshNeeded, SignerClient
from tests.devnet.live_kit import APP, WEI_PER_SECOND, Live
from tests.devnet.live_kit import live as devnet_live
from tests.network.test_job import Host, pictures

pytestmark = pytest.mark.asyncio

REQUEST = PublishRequest("cam", "cam", "r1", "echo", params={"mode": "gray"})
LEFT = ("uplink", "reserve")
"""Tasks that outlive the job's own for a while."""
ECHO = RunnerSettings.for_apps({"echo": APP}).profiles[APP]


class EchoApp:
    """An app that opens its channels when it is started, and shows nothing."""

    def __init__(self) -> None:
        self.trickle = TrickleServer()
        self.ready = True
        self.refuses = 0
        """With this HTTP status, every start."""
        self.starts: list[Any] = []
        self.updates: list[Any] = []
        self.halts: list[str] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[EchoApp]:
        own = (
            web.post("/echo", self._start),
            web.post("/update", self._update),
            web.post("/pause", self._halt),
            web.post("/resume", self._halt),
            web.post("/stop", self._halt),
            web.get("/text", self._text),
        )
        async with serving(*own, app=trickle_app(self.trickle)) as self.url:
            yield self

    async def _start(self, request: web.Request) -> web.Response:
        self.starts.append(await request.json())
        if self.refuses:
            return web.json_response({"error": "mode must be gray"}, status=self.refuses)
        if not self.ready:
            return web.json_response({"error": "warming up"}, status=503)
        if not self.trickle.names():
            self.trickle.create("in")
            self.trickle.create("out")
        base = f"{self.url}/ai/trickle"
        return web.json_response({"session": "s", "in": f"{base}/in", "out": f"{base}/out"})

    async def show(self) -> None:
        """Give a few pictures."""
        muxer = TsMuxer()
        shown = muxer.tables(audio=False) + b"".join(map(muxer.frame, pictures(320, 0)))
        url = f"{self.url}/ai/trickle/out/0"
        async with aiohttp.ClientSession() as http, http.post(url, data=shown) as answer:
            assert answer.status == 200

    async def _halt(self, request: web.Request) -> web.Response:
        self.halts.append(request.path)
        return web.json_response({})

    async def _text(self, _: web.Request) -> web.Response:
        return web.json_response({"type": "text", "text": "a cat"})

    async def _update(self, request: web.Request) -> web.Response:
        self.updates.append(await request.json())
        return web.json_response({"status": "updated"})


class LostAnswer(RunnerClient):
    """Reserves, and never hears of it."""

    reserved = False

    @override
    async def reserve(self, *args: Any, **options: Any) -> RunnerSession:
        await super().reserve(*args, **options)
        self.reserved = True
        return await asyncio.Event().wait()  # type: ignore[return-value]


class LostReserve(LostAnswer):
    """Has a reserve under way that never arrives."""

    @override
    async def reserve(self, *args: Any, **options: Any) -> RunnerSession:
        self.reserved = True
        return await asyncio.Event().wait()  # type: ignore[return-value]


class LostCredit(RunnerClient):
    """Pays, and never hears of it."""

    paid = False

    @override
    async def pay(self, *args: Any, **options: Any) -> OrchestratorInfo | None:
        await super().pay(*args, **options)
        self.paid = True
        return await asyncio.Event().wait()  # type: ignore[return-value]


class LateAnswer(RunnerClient):
    """Reserves for nothing, and hears of it once `answered` is set."""

    def __init__(self, *, sender: str) -> None:
        super().__init__(sender=sender)
        self.reserved, self.answered = asyncio.Event(), asyncio.Event()

    @override
    async def ask(self, offer: RunnerOffer, unit: PriceUnit) -> Challenge | RunnerSession:
        asked = await super().ask(offer, unit)
        self.reserved.set()
        await self.answered.wait()
        return asked


class TooOldOnce(SignerClient):
    """Finds the first challenge too old."""

    asked = False

    @override
    async def generate_live_payment(self, *args: Any, **options: Any) -> LivePayment:
        if not self.asked:
            self.asked = True
            raise RefreshNeeded(480, "refresh session", None)
        return await super().generate_live_payment(*args, **options)


class Run:
    """One run of the gateway on a ledger."""

    def __init__(
        self, network: Live, ledger: Ledger, client: RunnerClient, signer: SignerClient, profile: AppProfile
    ) -> None:
        self.ledger = ledger
        self.client = client
        self.payments = PaymentResources(
            signer=signer,
            sender=network.signer.address,
            ledger=ledger,
            spending=Spending(SpendLimits()),
            ceiling=Fraction(WEI_PER_SECOND),
            interval=5 * 10**9,
            signing_slots=asyncio.Semaphore(),
        )
        self.pool = RunnerPool(
            [OrchestratorRunners(client, network.url)],
            frozenset({APP}),
            challenge=client.challenge,
            ceiling=Fraction(WEI_PER_SECOND),
        )
        self.resources = RunnerResources(
            client, self.pool, {REQUEST.model: APP}, {APP: profile}, self.payments
        )
        self.source = RunnerSource(self.resources)
        self.host = Host()
        self.host.params = dict(REQUEST.params)

    async def job(self, publisher: str = "") -> RunnerJob:
        reading = tasks.spawn(self.pool.run(), name="pool")
        await eventually(self._is_usable, every=0.002, what="a candidate")
        await tasks.cancel(reading)
        request = replace(REQUEST, publisher=publisher)
        self.candidate = self.source.candidates(request)[0]
        return self.source.open(self.candidate, request, self.host, structlog.get_logger())

    def _is_usable(self) -> bool:
        return any(one.usable for one in self.source.candidates(REQUEST))

    async def former(self, *, resumes: bool = True) -> list[FormerStream]:
        remains = {RUNNER: partial(RunnerRemains, self.resources, self.source)}
        return await FormerJobs(self.ledger, remains, resumes=resumes).take()


class Gateway:
    """Starts one run after the other, each of which ends as in a crash."""

    def __init__(self, network: Live, app: EchoApp, folder: Path) -> None:
        self.network = network
        self.app = app
        self._path = folder / "ledger.sqlite3"

    @asynccontextmanager
    async def run(
        self,
        profile: AppProfile = ECHO,
        client_type: type[RunnerClient] = RunnerClient,
        signer_type: type[SignerClient] = SignerClient,
    ) -> AsyncIterator[Run]:
        async with AsyncExitStack() as stack:
            ledger = await Ledger.open(self._path)
            stack.push_async_callback(ledger.close)
            client = client_type(sender=self.network.signer.address)
            stack.push_async_callback(client.close)
            signer = await stack.enter_async_context(signer_type(self.network.signer.url))
            try:
                yield Run(self.network, ledger, client, signer, profile)
            finally:  # what a crash ends at once
                left = [task for task in asyncio.all_tasks() if task.get_name().startswith(LEFT)]
                await tasks.cancel(*left)

    async def sessions(self) -> list[bool]:
        """Whether each that was ever reserved has ended."""
        return [session["ended"] for session in (await self.network.audit())["sessions"].values()]

    async def has_room(self) -> bool:
        """Whether discovery says so; a node does not list a full runner."""
        entries = await self.network.discovery()
        return any(one["capacity_available"] for entry in entries for one in entry.get("runners", ()))

    async def openings(self) -> int:
        audit = await self.network.call("GET", f"{self.network.signer.url}/devnet/audit")
        return int(audit.json["null_states"])


@pytest_asyncio.fixture
async def gateway(network: Live, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with EchoApp().serving() as app:
        await network.register(runner_url=app.url)
        yield Gateway(network, app, tmp_path)


@asynccontextmanager
async def live(job: Job) -> AsyncIterator[asyncio.Task[None]]:
    """While it runs, from when it takes frames on."""
    running = asyncio.get_running_loop().create_task(job.run())
    await eventually(lambda: running.done() or job.started, every=0.002, what="the job's start")
    if running.done():
        await running
    try:
        yield running
    finally:
        await tasks.cancel(running)


def params_of(body: Mapping[str, Any]) -> Any:
    return body["mode"]


async def test_a_session_is_reserved_paid_started_updated_and_stopped(gateway: Gateway) -> None:
    async with gateway.run() as run:
        job = await run.job()
        async with live(job):
            assert [params_of(body) for body in gateway.app.starts] == ["gray"]
            assert (job.paid, job.longest_hold > 0) == (True, True)
            await job.update({"mode": "blur", "radius": 3})
            assert gateway.app.updates == [{"mode": "blur", "radius": 3}]
            where = job.status().orchestrator
            assert where is not None
            assert (where.kind, where.app, where.manifest_id) == (RUNNER, APP, "")
        await job.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True], 1)
        assert job.status().channels == job.status().sessions == 0
        assert (await verify(run.ledger.reader)).findings == []


async def test_an_app_that_shows_no_picture_in_time_is_a_fault_of_who_was_paid(gateway: Gateway) -> None:
    gateway.app.ready = False
    async with gateway.run(replace(ECHO, limits=Limits(first_picture=0.2))) as run:
        job = await run.job()
        with pytest.raises(Ended, match=r"showed no picture within 0\.2 s") as ended:
            async with asyncio.timeout(DEADLINE):
                await job.run()
        await job.close(EndReason.ORCHESTRATOR_LOST)
        assert type(ended.value) is Ended
        assert await gateway.sessions() == [True], "it costs no more"
        assert run.candidate.paid_without_picture
        run.source.suspend(run.candidate, REQUEST, ended.value)
        (judged,) = run.source.candidates(REQUEST)
        assert judged.verdict is Verdict.SET_ASIDE


async def test_a_challenge_that_is_too_old_for_the_signer_is_asked_for_again(gateway: Gateway) -> None:
    async with gateway.run(signer_type=TooOldOnce) as run:
        job = await run.job()
        with pytest.raises(ChooseAgain, match="refresh session"):
            async with asyncio.timeout(DEADLINE):
                await job.run()
        await job.close(EndReason.ORCHESTRATOR_LOST)
        assert not job.paid
        job = await run.job()
        async with live(job):
            assert job.paid
        await job.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True], 1)


@pytest.mark.parametrize(
    ("status", "end"), [(400, ParamsRefused), (422, ParamsRefused), (409, NoRoom), (403, Ended)]
)
async def test_an_app_that_does_not_take_the_parameters_is_not_to_blame(
    gateway: Gateway, status: int, end: type[Ended]
) -> None:
    gateway.app.refuses = status
    async with gateway.run() as run:
        job = await run.job()
        with pytest.raises(Ended, match="mode must be gray") as ended:
            async with asyncio.timeout(DEADLINE):
                await job.run()
        await job.close(EndReason.ORCHESTRATOR_LOST)
        assert type(ended.value) is end
        address = run.candidate.address
        refused = [run.resources.refused_starts.has_refused(address, one) for one in ("", "another")]
        assert refused == [end in (ParamsRefused, NoRoom), end is NoRoom]
        assert await gateway.sessions() == [True], "it costs no more"


async def test_an_error_of_the_app_means_what_its_profile_says(gateway: Gateway) -> None:
    gateway.app.refuses = 500
    errors = Errors(code="error", message="error", params=("mode must be gray",))
    async with gateway.run(replace(ECHO, errors=errors)) as run:
        job = await run.job()
        with pytest.raises(ParamsRefused, match="mode must be gray"):
            async with asyncio.timeout(DEADLINE):
                await job.run()
        await job.close(EndReason.ORCHESTRATOR_LOST)
        assert gateway.app.halts == [], "it has not started"


async def test_the_app_is_told_to_end_before_its_session_is_stopped(gateway: Gateway) -> None:
    async with gateway.run(replace(ECHO, stop=Stop("/stop"), text=Text("/text"))) as run:
        job = await run.job()
        async with live(job):
            await eventually(lambda: "text" in job.status().worker, what="the app's text")
            assert job.status().worker["text"] == {"type": "text", "text": "a cat"}
        await job.close(EndReason.DELETED)
        assert gateway.app.halts == ["/stop"]
        assert await gateway.sessions() == [True]


async def test_who_takes_openings_and_refuses_the_start_is_passed_over_for_that_publisher(
    gateway: Gateway,
) -> None:
    gateway.app.refuses = 400
    async with gateway.run() as run:

        def usable(publisher: str) -> bool:
            return run.source.candidates(replace(REQUEST, publisher=publisher))[0].usable

        for refusals in range(1, FREE + 2):
            job = await run.job(publisher="one")
            with pytest.raises(ParamsRefused):
                async with asyncio.timeout(DEADLINE):
                    await job.run()
            await job.close(EndReason.ORCHESTRATOR_LOST)
            assert usable("one") is (refusals <= FREE)
        assert usable("another"), "one publisher's parameters are nobody's fault"
        (runner,) = run.source.candidates(replace(REQUEST, publisher="one"))
        assert "mode must be gray" in runner.detail
        for publisher in ("another", "third"):
            run.resources.start_refused(runner, publisher, "mode must be gray")
        assert not usable("fourth"), "several were refused"


async def test_a_session_goes_on_after_a_crash_without_a_second_opening(gateway: Gateway) -> None:
    async with gateway.run() as run:
        job = await run.job()
        async with live(job):
            await job.update({"mode": "blur"})
            await eventually(lambda: accepted(job) >= 2, what="a payment that is written with it")
    async with gateway.run() as run:
        (stream,) = await run.former()
        assert (stream.request, stream.last_update) == (REQUEST, {"mode": "blur"})
        assert 0 < stream.seconds <= 10
        again = stream.jobs[0].open(run.host, structlog.get_logger())
        again.hold()
        async with live(again):
            assert len(gateway.app.starts) == 1, "the app runs"
            assert gateway.app.updates == [{"mode": "blur"}]
            before = accepted(again)
            again.resume()
            await eventually(lambda: accepted(again) > before, what="the payment of who comes back")
        await again.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True], 1)
        assert (await verify(run.ledger.reader)).findings == []


async def test_a_halted_stream_shows_its_first_picture_and_stays_halted_over_a_crash(
    gateway: Gateway,
) -> None:
    profile, app = replace(ECHO, pause=Pause(path="/pause", resume_path="/resume")), gateway.app
    async with gateway.run(profile) as run:
        run.host.params = {**REQUEST.params, "pause": True}
        job = await run.job()
        async with live(job):
            assert app.starts == [{"mode": "gray"}]
            await job.update({"resume": True})
            await job.update({"pause": True})
            assert (job.paused, app.halts) == (False, ["/resume"])
            await app.show()
            await eventually(lambda: job.paused, what="the pause")
            await job.update({"resume": True})
            assert (job.paused, app.halts) == (False, ["/resume", "/pause", "/resume"])
            await job.update({"pause": True})
            assert app.updates == [], "it is none of the app's parameters"
            before = accepted(job)
            await eventually(lambda: accepted(job) > before, what="a payment that is written with it")
    async with gateway.run(profile) as run:
        (stream,) = await run.former()
        again = stream.jobs[0].open(run.host, structlog.get_logger())
        again.hold()
        async with live(again):
            assert (again.paused, app.halts[3:]) == (True, ["/pause"])
            await again.update({"pause": False})
            assert (again.paused, app.halts[4:]) == (False, ["/resume"])
        await again.close(EndReason.DELETED)


async def test_what_an_app_named_is_kept_before_the_next_payment(gateway: Gateway) -> None:
    async with gateway.run() as run:
        job = await run.job()
        async with live(job):
            pass
    async with gateway.run() as run:
        (stream,) = await run.former()
        again = stream.jobs[0].open(run.host, structlog.get_logger())
        async with live(again):
            assert len(gateway.app.starts) == 1, "the app is not started again"
        await again.close(EndReason.DELETED)


async def test_an_app_that_had_not_started_at_the_crash_is_started_again(gateway: Gateway) -> None:
    gateway.app.ready = False
    async with gateway.run() as run:
        running = asyncio.get_running_loop().create_task((await run.job()).run())
        await eventually(lambda: gateway.app.starts, what="the start")
        await tasks.cancel(running)
    gateway.app.ready = True
    async with gateway.run() as run:
        (stream,) = await run.former()
        again = stream.jobs[0].open(run.host, structlog.get_logger())
        async with live(again):
            assert len(gateway.app.starts) == 2
        await again.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True], 1)


async def test_a_session_whose_reserve_was_answered_only_to_the_dead_is_taken_over(gateway: Gateway) -> None:
    async with gateway.run(client_type=LostAnswer) as run:
        running = asyncio.get_running_loop().create_task((await run.job()).run())
        await eventually(lambda: cast(LostAnswer, run.client).reserved, what="the session")
        await tasks.cancel(running)
    async with gateway.run() as run:
        assert await run.former() == [], "its publisher has seen nothing of it"
        job = await run.job()
        assert not await gateway.has_room(), "its session takes it"
        async with live(job):
            assert not job.paid, "the same payment is handed out again"
        await job.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True], 1)
        assert (await verify(run.ledger.reader)).findings == []


async def test_a_payment_of_the_dead_does_not_take_over_who_else_fills_the_runner(gateway: Gateway) -> None:
    async with gateway.run(client_type=LostReserve) as run:
        running = asyncio.get_running_loop().create_task((await run.job()).run())
        await eventually(lambda: cast(LostAnswer, run.client).reserved, what="the reserve")
        await tasks.cancel(running)
    theirs, _, _ = await gateway.network.reserve()
    async with gateway.run() as run:
        await run.former()
        job = await run.job()
        with pytest.raises(NoRoom):
            await job.run()
        await job.close(EndReason.ORCHESTRATOR_LOST)
        assert gateway.app.starts == []
        await gateway.network.post(f"{theirs['control_url']}/stop")
        job = await run.job()
        async with live(job):
            assert not job.paid, "the same payment is handed out again"
        await job.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True, True], 2)
        assert (await verify(run.ledger.reader)).findings == []


async def test_a_payment_that_was_credited_only_to_the_dead_is_not_refused(gateway: Gateway) -> None:
    async with gateway.run(client_type=LostCredit) as run, live(await run.job()):
        await eventually(lambda: cast(LostCredit, run.client).paid, what="the payment")
    async with gateway.run() as run:
        (stream,) = await run.former()
        again = stream.jobs[0].open(run.host, structlog.get_logger())
        async with live(again):
            await eventually(lambda: accepted(again) == 2, what="the credit of what was sent before")
            again.resume()
            await eventually(lambda: accepted(again) == 3, what="the next payment")
        await again.close(EndReason.DELETED)
        assert (await gateway.sessions(), await gateway.openings()) == ([True], 1)
        audit = await gateway.network.audit()
        assert (audit["rejected"], audit["duplicate_nonces"], audit["redelivered"]) == (0, 0, 1)


async def test_a_full_runner_keeps_no_stream_from_its_sibling(gateway: Gateway) -> None:
    await gateway.network.register(runner_url=gateway.app.url)
    async with gateway.run() as run:
        job = await run.job()
        await gateway.network.reserve(run.candidate.url)
        with pytest.raises(NoRoom):
            await job.run()
        await job.close(EndReason.ORCHESTRATOR_LOST)
        (sibling,) = [one for one in run.source.candidates(REQUEST) if one.url != run.candidate.url]
        sibling.proven = True
        again = run.source.open(sibling, REQUEST, run.host, structlog.get_logger())
        async with live(again):
            pass
        await again.close(EndReason.PUBLISHER_LEFT)


class PricedAtNothing(OrchestratorRunners):
    """Says a unit for its price of 0."""

    @override
    async def offers(self, apps: frozenset[str]) -> list[RunnerOffer]:
        return [replace(one, unit=Unit.SECONDS) for one in await super().offers(apps)]


@pytest.mark.parametrize(
    ("dialect", "lists"),
    [("go", OrchestratorRunners), ("node", OrchestratorRunners), ("node", PricedAtNothing)],
)
async def test_a_session_that_costs_nothing_is_stopped_however_early_the_stream_ends(
    dialect: str, lists: type[OrchestratorRunners]
) -> None:
    async with EchoApp().serving() as app, devnet_live(dialect, paid=False) as network:
        await network.register(runner_url=app.url, capacity=2)
        client = LateAnswer(sender="")
        pool = RunnerPool(
            [lists(client, network.url)],
            frozenset({APP}),
            challenge=client.challenge,
            ceiling=None,
        )
        resources = RunnerResources(client, pool, {REQUEST.model: APP}, {APP: ECHO}, None)
        source = RunnerSource(resources)
        reading = tasks.spawn(pool.run(), name="pool")
        await eventually(lambda: source.candidates(REQUEST), every=0.002, what="a candidate")
        await tasks.cancel(reading)
        job = source.open(source.candidates(REQUEST)[0], REQUEST, Host(), structlog.get_logger())
        running = asyncio.get_running_loop().create_task(job.run())
        await client.reserved.wait()
        assert (await network.runner())["capacity_used"] == 1
        await tasks.cancel(running)
        client.answered.set()
        await job.close(EndReason.PUBLISHER_LEFT)
        assert (await network.runner())["capacity_used"] == 0
        await client.close()


async def test_a_session_that_is_over_at_the_restart_is_nobodys_fault(gateway: Gateway) -> None:
    async with gateway.run() as run:
        job = await run.job()
        async with live(job):
            pass
    gateway.app.trickle.terminate("out")
    async with gateway.run() as run:
        (stream,) = await run.former()
        again = stream.jobs[0].open(run.host, structlog.get_logger())
        with pytest.raises(ChooseAgain):
            async with asyncio.timeout(DEADLINE):
                await again.run()
        await again.close(EndReason.ORCHESTRATOR_LOST)
        assert await gateway.sessions() == [True]


@pytest.mark.parametrize("why", ["resumes no more", "another app"])
async def test_a_session_that_does_not_go_on_is_stopped(gateway: Gateway, why: str) -> None:
    async with gateway.run() as run:
        job = await run.job()
        async with live(job):
            pass
    async with gateway.run() as run:
        if why == "another app":
            cast(dict[str, str], run.resources.apps)[REQUEST.model] = "acme/other"
        assert await run.former(resumes=why == "another app") == []

        async def stopped() -> bool:
            return await gateway.sessions() == [True]

        await eventually(stopped, what="the session's end")
        assert await run.ledger.former_jobs() == []


def accepted(job: Job) -> int:
    payments = job.status().payments
    assert payments is not None
    return payments.accepted
