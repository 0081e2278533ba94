"""A runner over HTTP and trickle, as an orchestrator uses it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from gateway.aio import tasks
from gateway.aio.tasks import spawn
from gateway.devnet.runner.server import Runner, RunnerConfig
from gateway.devnet.trickle_server import TrickleServer
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelError
from gateway.trickle.events import JsonSubscriber
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.subscriber import TrickleSubscriber
from harness.serving import serving
from harness.waiting import eventually
from tests.devnet.runner_kit import EXPECTED, FPS, TsSegment, look, make_segments, near

PREFIX = "/ai/trickle"


class Bench:
    """A trickle server as an orchestrator has it, a runner, and both ends of a job's channels."""

    def __init__(self, http: aiohttp.ClientSession, trickle: TrickleServer, runner: Runner, url: str) -> None:
        self.http, self.trickle, self.runner, self.url = http, trickle, runner, url

    def make_channels(self, mid: str) -> None:
        self.trickle.create(mid)
        self.trickle.create(f"{mid}-out")
        self.trickle.create(f"{mid}-control", content_type="application/json")
        self.trickle.create(f"{mid}-events", content_type="application/json")

    def body(self, mid: str, **more: Any) -> dict[str, Any]:
        return {
            "model_id": "comfystream",
            "params": {},
            "subscribe_url": f"{self.url}/{mid}",
            "publish_url": f"{self.url}/{mid}-out",
            "control_url": f"{self.url}/{mid}-control",
            "events_url": f"{self.url}/{mid}-events",
            "gateway_request_id": f"request-{mid}",
            "manifest_id": mid,
            "stream_id": f"stream-{mid}",
            **more,
        }

    async def post(self, body: Any) -> int:
        async with self.http.post(f"{self.runner.url}/live-video-to-video", json=body) as answer:
            return answer.status

    async def jobs(self) -> list[dict[str, Any]]:
        async with self.http.get(f"{self.runner.url}/devnet/jobs") as answer:
            return list(await answer.json())


class JobEnds:
    """What a gateway has of one job: input to publish, output, events and control."""

    def __init__(self, bench: Bench, mid: str) -> None:
        self.mid = mid
        self.segments: list[bytes] = []
        self.events: list[dict[str, Any]] = []
        self.closed: set[str] = set()
        self.input = TricklePublisher(bench.http, f"{bench.url}/{mid}", max_buffer=20_000_000)
        self.control = JsonPublisher(bench.http, f"{bench.url}/{mid}-control")
        self._output = TrickleSubscriber(bench.http, f"{bench.url}/{mid}-out", start=0)
        self._events = JsonSubscriber(bench.http, f"{bench.url}/{mid}-events")

    async def publish(self, segment: TsSegment, pace: float = 0.0) -> None:
        """Send a segment frame by frame, `pace` seconds apart."""
        writer = self.input.open_segment()
        for frame in segment.frames:
            writer.write(frame)
            await asyncio.sleep(pace)
        writer.close()
        await writer.wait_delivered()

    def output(self) -> bytes:
        return b"".join(self.segments)

    def statuses(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == "status"]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[JobEnds]:
        running = [
            spawn(self._quietly("input", self.input.run()), name="test-input"),
            spawn(self._quietly("control", self.control.run()), name="test-control"),
            spawn(self._quietly("output", self._read_output()), name="test-output"),
            spawn(self._quietly("events", self._read_events()), name="test-events"),
        ]
        try:
            yield self
        finally:
            await tasks.cancel(*running)

    async def _quietly(self, what: str, work: Any) -> None:
        with suppress(ChannelError):
            await work
        self.closed.add(what)

    async def _read_output(self) -> None:
        try:
            async for segment in self._output.segments():
                self.segments.append(b"")
                async for chunk in segment.chunks():
                    self.segments[-1] += chunk
        finally:
            await self._output.close()

    async def _read_events(self) -> None:
        async for event in self._events:
            self.events.append(event)


@asynccontextmanager
async def bench(effect: str = "negative") -> AsyncIterator[Bench]:
    trickle = TrickleServer(prefix=PREFIX)
    runner = Runner(RunnerConfig(effect=effect, start_pause=0.01))
    async with serving(*trickle.routes()) as url:
        await runner.start()
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                yield Bench(http, trickle, runner, url + PREFIX)
        finally:
            await trickle.shutdown()
            await runner.stop()


@asynccontextmanager
async def started(made: Bench, mid: str = "job", **more: Any) -> AsyncIterator[JobEnds]:
    """A job that the runner has taken."""
    made.make_channels(mid)
    assert await made.post(made.body(mid, **more)) == 200
    async with JobEnds(made, mid).connected() as ends:
        yield ends


@pytest.mark.asyncio
async def test_what_is_published_comes_back_changed_with_its_times() -> None:
    source = make_segments(2)
    async with bench() as made, started(made) as job:
        for segment in source:
            await job.publish(segment, pace=1 / FPS)
        made.trickle.terminate("job")
        await eventually(lambda: "output" in job.closed)
        pictures = look(job.output())
    assert pictures.pts == source[0].pts + source[1].pts
    assert all(near(pixels, EXPECTED["negative"]) for pixels in pictures.pixels)


@pytest.mark.asyncio
async def test_the_first_picture_is_back_before_its_segment_has_ended() -> None:
    source = make_segments(1)[0]
    async with bench() as made, started(made) as job:
        writer = job.input.open_segment()
        for frame in source.frames[:5]:
            writer.write(frame)
        await eventually(lambda: len(job.output()) > 188 * 3)


@pytest.mark.asyncio
async def test_without_an_effect_the_very_bytes_come_back_and_their_hashes_are_shown() -> None:
    source = make_segments(3, sound=True)
    async with bench() as made, started(made, params={"effect": "none"}) as job:
        for segment in source:
            await job.publish(segment)
        expected = b"".join(segment.data for segment in source)
        await eventually(lambda: job.output() == expected)
        made.trickle.terminate("job")
        await eventually(lambda: "output" in job.closed)
        shown = (await made.jobs())[0]
    assert job.segments[:3] == [segment.data for segment in source]
    assert shown["vcl_sha256"] == [digest for segment in source for digest in segment.hashes]
    assert (shown["segments"], shown["frames_in"]) == (3, 90)
    assert shown["audio_in"] > 80


@pytest.mark.asyncio
async def test_a_control_message_changes_the_effect_and_keep_alives_do_not() -> None:
    source = make_segments(2)
    async with bench() as made, started(made) as job:
        await job.publish(source[0])
        await eventually(job.statuses)
        job.control.publish({"keep": "alive"})
        job.control.publish({"effect": "mirror", "strength": 3})
        await eventually(lambda: job.statuses()[-1]["inference_status"]["effect"] == "mirror")
        await job.publish(source[1])
        made.trickle.terminate("job")
        await eventually(lambda: "output" in job.closed)
        shown = (await made.jobs())[0]
        pixels = look(job.output()).pixels
    assert near(pixels[-1], EXPECTED["mirror"])
    assert shown["params"] == {"effect": "mirror", "strength": 3}


@pytest.mark.asyncio
async def test_a_control_message_is_the_whole_set_of_parameters() -> None:
    async with bench() as made, started(made, params={"effect": "grey", "seed": 7}) as job:
        await eventually(job.statuses)
        job.control.publish({"strength": 3})
        await eventually(lambda: job.statuses()[-1]["inference_status"]["effect"] == "negative")
        assert (await made.jobs())[0]["params"] == {"strength": 3}


@pytest.mark.asyncio
async def test_an_unknown_effect_is_told_as_an_error_and_changes_nothing() -> None:
    async with bench() as made, started(made) as job:
        await eventually(job.statuses)
        job.control.publish({"effect": "sepia", "seed": 7})
        await eventually(lambda: any(event["type"] == "error" for event in job.events))
        error = next(event for event in job.events if event["type"] == "error")
        assert "sepia" in error["message"]
        shown = (await made.jobs())[0]
        assert (shown["effect"], shown["params"]) == ("negative", {})


@pytest.mark.asyncio
async def test_a_status_comes_at_once_and_says_what_goes_on() -> None:
    async with bench(effect="grey") as made, started(made) as job:
        await eventually(job.statuses)
        assert job.statuses()[0]["state"] == "LOADING"
        await job.publish(make_segments(1)[0], pace=1 / FPS)
        await eventually(lambda: job.statuses()[-1]["state"] == "ONLINE")
        status = job.statuses()[-1]
        assert status["input_status"]["fps"] > 0
        assert status["inference_status"]["fps"] > 0
        assert status["inference_status"]["effect"] == "grey"


@pytest.mark.asyncio
async def test_the_end_of_the_input_ends_the_job_and_leaves_nothing_behind() -> None:
    async with bench() as made:
        async with started(made) as job:
            await job.publish(make_segments(1)[0])
            made.trickle.terminate("job")
            await eventually(lambda: {"output", "events"} <= job.closed)
            assert made.trickle.names() == ["job-control"]
        await eventually(lambda: not [name for name in _threads() if name.startswith("job ")])
        await eventually(lambda: not [name for name in _tasks() if name.startswith(("runner", "job"))])
        shown = (await made.jobs())[0]
        assert "closed" in shown["ended"]


@pytest.mark.asyncio
async def test_a_runner_that_stops_ends_its_jobs_and_their_threads() -> None:
    async with bench() as made, started(made) as job:
        writer = job.input.open_segment()
        writer.write(make_segments(1)[0].frames[0])
        await eventually(lambda: [name for name in _threads() if name.startswith("job ")])
        await made.runner.stop()
        # a thread says that it is over as the last thing it does
        await eventually(lambda: not [name for name in _threads() if name.startswith("job ")])
        await eventually(lambda: {"output", "events"} <= job.closed)


@pytest.mark.asyncio
async def test_a_broken_stream_does_not_touch_the_one_beside_it() -> None:
    source = make_segments(2)
    async with bench() as made, started(made, "good") as good, started(made, "bad") as bad:
        await bad.publish(TsSegment(frames=[b"no transport stream" * 200]))
        await good.publish(source[0])
        made.trickle.terminate("bad-out")
        await eventually(lambda: "events" in bad.closed)
        await good.publish(source[1])
        made.trickle.terminate("good")
        await eventually(lambda: "output" in good.closed)
        assert look(good.output()).pts == source[0].pts + source[1].pts


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change",
    [
        {"subscribe_url": ""},
        {"publish_url": "ftp://somewhere/job-out"},
        {"params": ["negative"]},
        {"stream_id": 7},
    ],
)
async def test_a_job_that_cannot_be_done_is_refused(change: dict[str, Any]) -> None:
    async with bench() as made:
        assert await made.post(made.body("job") | change) == 400
        assert await made.post(["not", "an", "object"]) == 400
        assert await made.jobs() == []


@pytest.mark.asyncio
async def test_parameters_that_cannot_be_used_are_tried_ten_times_and_refused_without_the_reason() -> None:
    async with bench() as made:
        body = made.body("job") | {"params": {"effect": "sepia"}}
        began = time.monotonic()
        async with made.http.post(f"{made.runner.url}/live-video-to-video", json=body) as answer:
            assert answer.status == 400
            assert await answer.json() == {"detail": {"msg": "Error during model execution."}}
        assert time.monotonic() - began > 9 * 0.01
        assert await made.jobs() == []


@pytest.mark.asyncio
async def test_health_is_answered() -> None:
    async with bench() as made, made.http.get(f"{made.runner.url}/health") as answer:
        assert answer.status == 200
        health = await answer.json()
        assert health.pop("instance"), "what another process in its place is told by"
        assert health == {"status": "OK", "jobs": 0}


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def _tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks()]
