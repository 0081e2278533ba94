"""A job on an orchestrator: each way in which its start and its work fail, and the reason that it gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio
import structlog
from aiohttp import web

from gateway.candidates.trust import Trust
from gateway.devnet.trickle_server import TrickleServer
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.media.h264 import split_annex_b
from gateway.media.mpegts import PACKET_SIZE, ElementaryStream, ProgramMap
from gateway.media.ts_demuxer import TsDemuxer
from gateway.media.ts_muxer import PMT_PID, VIDEO_PID, TsMuxer
from gateway.network.job import DEFAULT_TIMING, OrchestratorJob, Timing
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.errors import (
    BadAnswer,
    NoCapacity,
    OfferChanged,
    OrchestratorError,
    PriceRaised,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobRequest, JobUrls
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom
from gateway.stream.seam import Candidate, PublishRequest
from gateway.trickle.events import JsonSubscriber
from gateway.trickle.left_channels import LeftChannels
from gateway.trickle.liveness import LivenessTiming
from harness.serving import serving, trickle_app
from harness.waiting import DEADLINE, SLACK, eventually, within
from harness.webrtc import encoded_pattern

CHANNELS = ("in", "out", "control", "events")


@dataclass
class Orchestrator:
    """What a job asks of the network, with the answers that a test gives; its channels are real."""

    trickle: TrickleServer
    http: aiohttp.ClientSession
    url: str
    fails: OrchestratorError | None = None
    refuses: OrchestratorError | None = None
    hangs: bool = False
    holds: bool = False
    """Whether it takes segments without ever answering."""
    started: list[JobRequest] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What its pool heard of jobs."""
    others_answer: bool = True
    """Whether anybody else answers, where this one is silent."""
    trust: Trust = field(default_factory=Trust)
    capabilities = b""

    async def take(self, addr: str, price: Fraction | None) -> OrchestratorInfo:
        if self.fails is not None:
            raise self.fails
        made = livepeer_pb2.OrchestratorInfo(transcoder=self.url, address=bytes(20))
        made.auth_token.session_id = "s"
        return OrchestratorInfo.parse(made.SerializeToString())

    async def start_job(
        self, info: OrchestratorInfo, *, payment: str, seg_creds: str, body: JobRequest
    ) -> JobUrls:
        self.started.append(body)
        if self.refuses is not None:
            raise self.refuses
        for name in CHANNELS:
            self.trickle.create(name)
        base = self.url + "/ai/trickle"
        return JobUrls(*(f"{base}/{name}" for name in CHANNELS), manifest_id="m")

    def http_for(self, info: OrchestratorInfo) -> aiohttp.ClientSession:
        return self.http

    async def somebody_answers(self, silent: str) -> bool:
        return self.others_answer

    @web.middleware
    async def behave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.hangs or (
            self.holds and request.method == "POST" and request.path.startswith("/ai/trickle/in/")
        ):
            await asyncio.Event().wait()
        return cast(web.StreamResponse, await handler(request))

    def job(self, timing: Timing = DEFAULT_TIMING, *, retry_every: float = 60.0) -> Held:
        pool = SimpleNamespace(
            take=self.take,
            job_opened=lambda addr, address, job: self.trust.begin(addr),
            job_began=lambda addr, job: self.told.append(f"{addr} began"),
            job_over=lambda addr, job, ran: self.told.append(f"{addr} {'over' if ran else 'did not start'}"),
        )
        network = NetworkResources(
            orchestrators=cast(Any, self),
            pool=cast(Any, pool),
            uplink=cast(Any, self),
            payments=None,
            left_channels=LeftChannels(retry_every=retry_every),
        )
        return Held(network, self.url, timing)


class Host:
    """A stream with one job."""

    audio_agreed = False
    size = None

    replaceable = True

    def __init__(self) -> None:
        self.output: list[Frame] = []
        self.held = GopBuffer()
        self.asked = 0
        self.params: Mapping[str, Any] = {"another": "worker's"}
        self.last_update: Mapping[str, Any] | None = None
        self.errors: list[str] = []

    def report_error(self, detail: str) -> None:
        self.errors.append(detail)

    def keep_params(self, params: Mapping[str, Any]) -> None:
        self.last_update = params

    def on_worker_event(self, event: dict[str, Any]) -> None: ...

    def on_started(self) -> GopBuffer:
        return self.held

    def on_output(self, frame: Frame) -> None:
        self.output.append(frame)

    def can_be_replaced(self) -> bool:
        return self.replaceable

    def request_key_frame(self) -> None:
        self.asked += 1

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        """Nobody asks."""


class Held:
    """A job with what it gave and took."""

    def __init__(self, network: NetworkResources, url: str, timing: Timing) -> None:
        self.host = Host()
        self.left_channels = network.left_channels
        candidate = Candidate(
            source=NetworkSource(ModelNetworks(["m"], lambda _: network)), url=url, addr="addr", price=None
        )
        request = PublishRequest("cam", "cam", "1", "m", params={"effect": "grey", "size": 64})
        self.job = OrchestratorJob(network, candidate, request, self.host, structlog.get_logger(), timing)

    async def failure(self) -> Ended:
        """Run it to its end, and have it give everything back."""
        try:
            async with asyncio.timeout(DEADLINE):
                with pytest.raises(Ended) as ended:
                    await self.job.run()
        finally:
            await self.job.close(EndReason.ORCHESTRATOR_LOST)
        assert self.job.status().channels == 0
        return ended.value

    def has_judged(self, segments: int, *, fails: bool) -> bool:
        """Whether so many segments came back, and whether nothing can be shown is as expected."""
        status = self.job.status()
        return status.segments >= segments and (status.problem is not None) is fails

    @asynccontextmanager
    async def live(self) -> AsyncIterator[asyncio.Task[Ended]]:
        """While it runs, from when it takes frames on: the task that gives why it failed."""
        running = asyncio.get_running_loop().create_task(self.failure())
        await eventually(lambda: running.done() or self.job.started, every=0.001, what="the job's start")
        yield running
        await running


@pytest_asyncio.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    trickle = TrickleServer()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        made = Orchestrator(trickle, http, "")
        async with serving(app=trickle_app(trickle, made.behave)) as made.url:
            yield made


def pictures(width: int, start: int) -> list[AccessUnit]:
    """A group of pictures of that width, its times from `start` on."""
    units = encoded_pattern(width, 64, seconds=1)
    return [
        AccessUnit(split_annex_b(unit), start + 3000 * number, start + 3000 * number, number == 0)
        for number, unit in enumerate(units)
    ]


# the start


@pytest.mark.asyncio
async def test_an_orchestrator_that_gives_no_info_is_lost_before_anything_was_asked(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.fails = Unreachable("connection refused")
    failure = await orchestrator.job().failure()
    assert (failure.reason, orchestrator.started) == (EndReason.ORCHESTRATOR_LOST, [])
    assert "connection refused" in failure.detail


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PriceRaised("twice as dear"), EndReason.PRICE_RAISED),
        (OfferChanged("blocked"), EndReason.ORCHESTRATOR_LOST),
    ],
)
async def test_an_offer_that_changed_is_left_before_anything_was_paid(
    orchestrator: Orchestrator, error: OrchestratorError, reason: EndReason
) -> None:
    orchestrator.fails = error
    failure = await orchestrator.job().failure()
    assert isinstance(failure, ChooseAgain)
    assert (failure.reason, orchestrator.started) == (reason, [])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (NoCapacity("HTTP 503"), NoRoom),
        (Refused(403, "HTTP 403"), Ended),
        (BadAnswer("no manifest_id"), Ended),
        (Unreachable("connection refused"), Ended),
        (UnknownOutcome("nothing came back"), Ended),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_start_that_is_refused_says_why_and_only_want_of_room_is_nobodys_fault(
    orchestrator: Orchestrator, refusal: OrchestratorError, kind: type[Ended]
) -> None:
    orchestrator.refuses = refusal
    failure = await orchestrator.job().failure()
    assert (type(failure), failure.reason) == (kind, EndReason.ORCHESTRATOR_LOST)
    assert refusal.detail in failure.detail


@pytest.mark.asyncio
async def test_a_job_begins_with_the_held_pictures(
    orchestrator: Orchestrator,
) -> None:
    held = orchestrator.job()
    for unit in pictures(64, 0)[:10]:
        held.host.held.push(unit)
    async with held.live() as running:
        async with orchestrator.http.get(f"{orchestrator.url}/ai/trickle/in/0") as segment:
            first = await segment.content.readany()
        assert first[0] == 0x47, "an MPEG-TS packet is there before the publisher's next key frame"
        orchestrator.trickle.terminate("out")
        await running


@pytest.mark.asyncio
@pytest.mark.parametrize("update", [None, {"strength": 3}, {"type": "reset", "seed": 1}])
async def test_a_worker_starts_with_the_publishs_parameters_and_gets_the_last_update_as_it_was(
    orchestrator: Orchestrator, update: dict[str, Any] | None
) -> None:
    held = orchestrator.job()
    held.host.last_update = update
    async with held.live() as running:
        assert orchestrator.started[0].params == {"effect": "grey", "size": 64}
        assert await held.job.update({"newer": True}) == {}
        sent = [{"newer": True}] if update is None else [update, {"newer": True}]
        messages = JsonSubscriber(orchestrator.http, f"{orchestrator.url}/ai/trickle/control")
        came = aiter(messages)
        assert [await within(anext(came)) for _ in sent] == sent
        await messages.close()
        orchestrator.trickle.terminate("out")
        await running


# the work


@pytest.mark.asyncio
@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_channel_that_closes_is_the_jobs_end_at_once(
    orchestrator: Orchestrator, channel: str
) -> None:
    async with orchestrator.job().live() as running:
        orchestrator.trickle.terminate(channel)
        async with asyncio.timeout(SLACK):
            failure = await running
    assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert orchestrator.url in failure.detail
    assert orchestrator.told == ["addr began", "addr over"]


@pytest.mark.asyncio
async def test_a_worker_that_says_nothing_is_gone(orchestrator: Orchestrator) -> None:
    timing = Timing(max_worker_silence=0.3, worker_check=0.1)
    failure = await orchestrator.job(timing).failure()
    assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert "its worker has said nothing" in failure.detail


@pytest.mark.asyncio
async def test_more_than_three_segments_in_flight_are_too_many(orchestrator: Orchestrator) -> None:
    orchestrator.holds = True
    held = orchestrator.job(Timing(liveness=LivenessTiming(patience=60.0, longest_patience=60.0)))
    async with held.live() as running:
        for number in range(5):  # another size begins another segment at once
            for unit in pictures(64 + 16 * (number % 2), number * 90_000)[:2]:
                held.job.push(unit)
            await asyncio.sleep(0)
        failure = await running
    assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert "in flight" in failure.detail


@pytest.mark.asyncio
async def test_an_orchestrator_that_answers_nothing_any_more_hangs(orchestrator: Orchestrator) -> None:
    held = orchestrator.job(Timing(liveness=LivenessTiming(doubt=0.1, patience=0.3)))
    units = pictures(64, 0)
    async with held.live() as running:
        orchestrator.hangs = True
        for unit in units:
            if running.done():
                break
            held.job.push(unit)
            await asyncio.sleep(0.05)
        failure = await running
    assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert "answered nothing" in failure.detail


@pytest.mark.asyncio
@pytest.mark.parametrize("cause", ["the uplink", "nobody else"])
async def test_one_that_hangs_is_kept_while_the_uplink_may_be_at_fault_or_nobody_else_is_there(
    orchestrator: Orchestrator, cause: str
) -> None:
    held = orchestrator.job(Timing(liveness=LivenessTiming(doubt=0.05, patience=0.1)))
    orchestrator.others_answer = cause != "the uplink"
    held.host.replaceable = cause != "nobody else"
    async with held.live() as running:
        orchestrator.hangs = True
        for unit in pictures(64, 0):
            held.job.push(unit)
            await asyncio.sleep(0.03)
        assert not running.done()
        orchestrator.others_answer = held.host.replaceable = True
        while not running.done():
            held.job.push(pictures(64, 90_000)[0])
            await asyncio.sleep(0.05)
    assert "answered nothing" in running.result().detail


@pytest.mark.asyncio
async def test_a_silence_of_everybody_ends_the_job_in_the_end(orchestrator: Orchestrator) -> None:
    held = orchestrator.job(Timing(max_uplink_fault=0.3, liveness=LivenessTiming(doubt=0.05, patience=0.1)))
    orchestrator.others_answer = False
    async with held.live() as running:
        orchestrator.hangs = True
        while not running.done():
            held.job.push(pictures(64, 0)[0])
            await asyncio.sleep(0.05)
    assert "answered nothing" in running.result().detail


@pytest.mark.asyncio
async def test_one_that_answers_is_kept_however_long_its_worker_is_silent(orchestrator: Orchestrator) -> None:
    held = orchestrator.job(Timing(liveness=LivenessTiming(doubt=0.05, patience=0.3)))
    async with held.live() as running:
        for unit in pictures(64, 0):
            held.job.push(unit)
            await asyncio.sleep(0.05)
        assert not running.done()
        orchestrator.trickle.terminate("out")
        await running


@pytest.mark.asyncio
@pytest.mark.parametrize("shows_first", [False, True])
async def test_a_worker_that_answers_another_codec_is_named(
    orchestrator: Orchestrator, shows_first: bool
) -> None:
    held = orchestrator.job()
    muxer = TsMuxer()
    tables = muxer.tables(audio=False)
    hevc = ProgramMap(1, VIDEO_PID, (ElementaryStream(0x24, VIDEO_PID),))
    other = tables[:PACKET_SIZE] + table_packet(PMT_PID, hevc.section(0))
    h264 = tables + b"".join(map(muxer.video, pictures(64, 0)))
    answered = [h264, other, h264] if shows_first else [other, h264]
    problems = []
    async with held.live() as running:
        for number, segment in enumerate(answered):
            channel = f"{orchestrator.url}/ai/trickle/out/{number}"
            async with orchestrator.http.post(channel, data=segment) as response:
                assert response.status == 200
            await eventually(
                partial(held.has_judged, number + 1, fails=segment is other), what="the codec to be noticed"
            )
            problem = held.job.status().problem
            problems.append("" if problem is None else problem[0])
        orchestrator.trickle.terminate("out")
        await running
    assert ["HEVC" in problem for problem in problems] == [segment is other for segment in answered]


def table_packet(pid: int, section: bytes) -> bytes:
    head = bytes([0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10, 0])
    return (head + section).ljust(PACKET_SIZE, b"\xff")


# the end


@pytest.mark.asyncio
async def test_the_last_segment_is_finished_when_the_stream_ends(orchestrator: Orchestrator) -> None:
    held = orchestrator.job()
    running = asyncio.get_running_loop().create_task(held.job.run())
    await eventually(lambda: held.job.started, every=0.001, what="the job's start")
    for unit in pictures(64, 0):
        held.job.push(unit)
    async with orchestrator.http.get(f"{orchestrator.url}/ai/trickle/in/0") as segment:
        first = await segment.content.readexactly(188)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await held.job.close(EndReason.PUBLISHER_LEFT)
        rest = await segment.content.read()
    assert len(rest) % 188 == 0
    assert held.job.status().dropped == 0
    demuxer = TsDemuxer()
    assert len([*demuxer.feed(first + rest), *demuxer.flush()]) == len(pictures(64, 0))
    assert orchestrator.trickle.names() == ["out", "events"]


@pytest.mark.asyncio
async def test_channels_of_an_orchestrator_that_hung_are_deleted_once_it_is_back(
    orchestrator: Orchestrator,
) -> None:
    held = orchestrator.job(Timing(liveness=LivenessTiming(doubt=0.05, patience=0.1)), retry_every=0.1)
    async with held.live() as running:
        orchestrator.hangs = True
        while not running.done():
            held.job.push(pictures(64, 0)[0])
            await asyncio.sleep(0.05)
    assert {"in", "control"} <= set(orchestrator.trickle.names())
    orchestrator.hangs = False
    await eventually(
        lambda: not {"in", "control"} & set(orchestrator.trickle.names()), what="the channels' end"
    )
    await eventually(lambda: len(held.left_channels) == 0)
    await held.left_channels.close()
