"""A stream's supervisor among relays that fail in every way, told what to do by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from gateway.media.frames import AccessUnit, Frame, FrameSink, OpusPacket
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream import lane
from gateway.stream import supervisor as module
from gateway.stream.relay import Ingest, Json, PublishRequest, RelayStatus
from gateway.stream.supervisor import Supervisor
from gateway.stream.swap import SwapPolicy
from tests.clients.gateway import eventually

KEY = AccessUnit((b"\x65",), 0, 0, True)
LOST = Ended(EndReason.ORCHESTRATOR_LOST, "its channels closed")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, a hundred times shorter."""
    monkeypatch.setattr(module, "POLL", 0.001)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "STANDBY_POLL", 0.01)
    monkeypatch.setattr(module, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(lane, "WATCH_POLL", 0.002)


@dataclass
class Somebody:
    url: str
    usable: bool = True
    verdict: str = "available"

    def json(self) -> Json:
        return {"url": self.url, "verdict": self.verdict}

    def choose(self) -> None:
        self.verdict = "chosen"

    def passed_over(self, detail: str) -> None:
        self.verdict = f"passed over: {detail}"


@dataclass(eq=False)
class Job:
    """A relay that comes up and then does what `ends` does; without it, it works until it is cancelled."""

    url: str
    sink: FrameSink
    on_live: Callable[[], GopBuffer]
    ends: BaseException | None = None
    starts: bool = True
    live: bool = False
    paused: bool = False
    closed: EndReason | None = None
    frames: list[Frame] = field(default_factory=list)
    updates: list[Mapping[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        await asyncio.sleep(0)
        if self.starts:
            self.frames += self.on_live().frames()
            self.live = True
            await asyncio.sleep(0)
        if self.ends is not None:
            raise self.ends
        await asyncio.Event().wait()

    def push(self, frame: Frame) -> None:
        self.frames.append(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        self.updates.append(params)
        return {}

    async def close(self, reason: EndReason) -> None:
        await asyncio.sleep(0)
        self.closed = reason

    def status(self) -> RelayStatus:
        third = Fraction(1, 3)
        payments = {"accepted": 1, "tickets": 2, "credited_wei": "0", "owed_wei": "0", "alarms": 0}
        return RelayStatus(payments=payments, segments=5, credited=third, owed=third)


class Network:
    """Gives out the jobs of its script, one for each time that one is opened."""

    def __init__(self, *script: dict[str, Any], urls: Sequence[str] = ("a", "b", "c")) -> None:
        self.script = list(script)
        self.urls = urls
        self.jobs: list[Job] = []
        self.aside: dict[str, Ended] = {}

    def candidates(self, request: PublishRequest) -> list[Somebody]:
        return [Somebody(url, usable=url not in self.aside) for url in self.urls]

    def set_aside(self, candidate: Somebody, failure: Ended) -> None:
        self.aside[candidate.url] = failure

    def open(
        self,
        candidate: Somebody,
        request: PublishRequest,
        sink: FrameSink,
        on_live: Callable[[], GopBuffer],
        ingest: Ingest,
        log: FilteringBoundLogger,
    ) -> Job:
        self.jobs.append(Job(candidate.url, sink, on_live, **self.script[len(self.jobs)]))
        return self.jobs[-1]

    @property
    def asked(self) -> str:
        return "".join(job.url for job in self.jobs)


class Publisher:
    """The stream's part: holds a key frame, and says when the last one came."""

    has_audio = False

    def __init__(self) -> None:
        self.silence = 0.0
        self.failures: list[Ended] = []
        self.held = GopBuffer()
        self.held.push(KEY)
        self.shown: list[Frame] = []

    def on_output(self, frame: Frame) -> None:
        self.shown.append(frame)

    def on_live(self, made: Sequence[Frame]) -> None:
        self.shown += made

    def on_job_failed(self, failure: Ended, *, was_live: bool) -> None:
        self.failures.append(failure)

    def input_age(self) -> float:
        return self.silence

    @property
    def ingest(self) -> Publisher:
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        return None

    def request_key_frame(self) -> None:
        pass

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        pass


def supervised(
    network: Network, publisher: Publisher | None = None, *, max_swaps: int = 3, output_timeout: float = 30
) -> Supervisor:
    request = PublishRequest(name="cam", stream_id="cam", request_id="1", model="m")
    return Supervisor(
        network,
        request,
        network.candidates(request),
        publisher or Publisher(),
        policy=SwapPolicy(max_swaps, output_timeout),
        log=structlog.get_logger(),
    )


async def end_of(supervisor: Supervisor) -> Ended:
    async with asyncio.timeout(5):
        with pytest.raises(Ended) as ended:
            await supervisor.run()
        await supervisor.close(ended.value.reason)
    return ended.value


async def works_on(supervisor: Supervisor, network: Network, jobs: int) -> None:
    """Run until the script's last job is live, then end as a stream does."""
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(
        lambda: running.done() or (len(network.jobs) == jobs and supervisor.live), deadline=5, every=0.001
    )
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await supervisor.close(EndReason.DELETED)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reason",
    [
        EndReason.ORCHESTRATOR_LOST,
        EndReason.PAYMENT_REFUSED,
        EndReason.PRICE_RAISED,
        EndReason.CREDIT_EXHAUSTED,
    ],
)
async def test_a_job_that_fails_is_replaced_and_the_next_one_begins_with_the_held_frames(
    reason: EndReason,
) -> None:
    network = Network({"ends": Ended(reason, "why")}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 2)
    assert network.asked == "ab"
    assert network.jobs[1].frames == [KEY]
    assert supervisor.swaps == 1
    assert [job.closed for job in network.jobs] == [reason, EndReason.DELETED]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reason",
    [
        EndReason.SIGNER_REFUSED,
        EndReason.SIGNER_UNREACHABLE,
        EndReason.SPEND_LIMIT,
        EndReason.TIME_LIMIT,
        EndReason.INTERNAL_ERROR,
    ],
)
async def test_what_is_nobodys_fault_ends_the_stream_with_its_reason(reason: EndReason) -> None:
    network = Network({"ends": Ended(reason, "why")})
    assert (await end_of(supervised(network))).reason is reason
    assert network.aside == {}
    assert network.jobs[0].closed is reason


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "anything",
    [ValueError("odd"), KeyError(), MemoryError(), asyncio.CancelledError(), GeneratorExit(), TimeoutError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("starts", [True, False], ids=["live", "starting"])
async def test_a_job_may_raise_anything_and_is_replaced(anything: BaseException, starts: bool) -> None:
    network = Network({"ends": anything, "starts": starts}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 2)
    assert network.jobs[0].closed is EndReason.INTERNAL_ERROR
    assert supervisor.swaps == (1 if starts else 0), "a start that failed is no swap"


@pytest.mark.asyncio
async def test_without_anybody_else_the_stream_ends_with_its_jobs_own_reason() -> None:
    network = Network({"ends": LOST}, urls="a")
    ended = await end_of(supervised(network))
    assert (ended.reason, ended.detail) == (LOST.reason, LOST.detail)


@pytest.mark.asyncio
async def test_somebody_who_comes_back_soon_is_waited_for() -> None:
    network = Network({"ends": LOST}, {}, urls="a")
    asyncio.get_running_loop().call_later(0.02, network.aside.clear)
    await works_on(supervised(network), network, 2)
    assert network.asked == "aa"


@pytest.mark.asyncio
async def test_a_first_start_tries_everybody_once_and_waits_for_nobody() -> None:
    failing = {"ends": LOST, "starts": False}
    network = Network(failing, failing, failing)
    ended = await end_of(supervised(network))
    assert network.asked == "abc"
    assert ended.reason is EndReason.NO_ORCHESTRATOR
    assert ended.detail.count(LOST.detail) == 3


@pytest.mark.asyncio
async def test_too_many_swaps_end_the_stream_with_the_first_cause() -> None:
    network = Network({"ends": LOST}, {"ends": Ended(EndReason.PAYMENT_REFUSED, "403")}, urls="abc")
    ended = await end_of(supervised(network, max_swaps=1))
    assert ended.reason is EndReason.SWAPS_EXHAUSTED
    assert "orchestrator_lost: its channels closed" in ended.detail
    assert len(network.jobs) == 2


@pytest.mark.asyncio
async def test_candidates_without_room_do_not_use_swaps_up() -> None:
    full = {"ends": NoRoom(EndReason.ORCHESTRATOR_LOST, "HTTP 503"), "starts": False}
    network = Network({"ends": LOST}, full, full, {}, urls="abcd")
    await works_on(supervised(network, max_swaps=1), network, 4)
    assert isinstance(network.aside["b"], NoRoom)


@pytest.mark.asyncio
async def test_a_silent_publisher_is_not_given_a_new_job_and_blames_nobody() -> None:
    network, publisher = Network({"ends": LOST}, {}), Publisher()
    supervisor = supervised(network, publisher)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: network.jobs, every=0)
    publisher.silence = 5.0
    await eventually(lambda: publisher.failures, every=0)
    await asyncio.sleep(0.1)  # twice as long as a sending publisher's stream would wait
    assert len(network.jobs) == 1
    assert network.aside == {}
    assert not running.done()
    publisher.silence = 0.0
    await eventually(lambda: len(network.jobs) == 2, every=0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(EndReason.PUBLISHER_LEFT)


@pytest.mark.asyncio
async def test_a_job_that_sends_nothing_back_is_replaced() -> None:
    network = Network({}, {"ends": Ended(EndReason.SPEND_LIMIT, "enough")})
    assert (await end_of(supervised(network, output_timeout=0.05))).reason is EndReason.SPEND_LIMIT
    assert "no picture came back" in network.aside["a"].detail


@pytest.mark.asyncio
async def test_sound_alone_does_not_make_up_for_pictures() -> None:
    network = Network({}, {"ends": Ended(EndReason.SPEND_LIMIT, "enough")})
    running = asyncio.get_running_loop().create_task(end_of(supervised(network, output_timeout=0.05)))
    await eventually(lambda: network.jobs and network.jobs[0].live, every=0)

    async def replaced() -> bool:
        network.jobs[0].sink(OpusPacket(b"sound", 0))
        return len(network.jobs) == 2

    await eventually(replaced, every=0.005, what="the replacement of a job that gives sound only")
    await running


@pytest.mark.asyncio
async def test_a_job_that_was_asked_to_pause_owes_no_picture_until_it_goes_on() -> None:
    network = Network({"paused": True}, {})
    supervisor = supervised(network, output_timeout=0.05)
    running = asyncio.get_running_loop().create_task(supervisor.run())
    await eventually(lambda: network.jobs and network.jobs[0].live, every=0)
    await asyncio.sleep(0.6)  # many times what it may be silent, and two looks at it
    assert len(network.jobs) == 1
    network.jobs[0].paused = False
    await eventually(lambda: len(network.jobs) == 2, what="the replacement of a job that is silent")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await supervisor.close(EndReason.PUBLISHER_LEFT)


@pytest.mark.asyncio
async def test_a_raised_price_is_left_for_the_streams_life_and_is_no_fault() -> None:
    raised = Ended(EndReason.PRICE_RAISED, "twice as dear")
    network = Network({"ends": raised}, {"ends": LOST}, urls="ab")
    asyncio.get_running_loop().call_later(0.02, network.aside.clear)
    network.script.append({"ends": Ended(EndReason.TIME_LIMIT, "over")})
    assert (await end_of(supervised(network))).reason is EndReason.TIME_LIMIT
    assert network.asked == "abb"


@pytest.mark.asyncio
async def test_the_account_sums_all_jobs_and_rounds_once() -> None:
    network = Network({"ends": LOST}, {"ends": LOST}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 3)
    status = supervisor.status()
    assert status.segments == 15
    assert status.payments is not None
    assert status.payments["accepted"] == 3
    assert (status.payments["credited_wei"], status.payments["owed_wei"]) == ("1", "1")


@pytest.mark.asyncio
async def test_the_replaced_one_is_no_longer_the_chosen_one() -> None:
    network = Network({"ends": LOST}, {})
    supervisor = supervised(network)
    await works_on(supervisor, network, 2)
    assert [c.json()["verdict"] for c in supervisor.candidates] == ["available", "chosen", "available"]
