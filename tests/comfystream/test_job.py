"""A job on a server: pauses, workflows that fail, texts, messages during the warm-up, and ends in it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.comfystream.job import ComfyJob
from gateway.comfystream.nodes import FAILED
from gateway.comfystream.peer import NEVER_WARM
from gateway.comfystream.resources import ComfyResources
from gateway.comfystream.servers import SETTLING, ComfyServers
from gateway.comfystream.source import ComfySource
from gateway.comfystream.timing import ServerTiming
from gateway.devnet.comfystream.server import ComfyStream, ComfyStreamConfig
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.media.h264 import split_annex_b
from gateway.reason import EndReason
from gateway.stream.params import WorkerParams
from gateway.stream.seam import Json, PublishRequest, UpdateRefused
from gateway.webrtc.config import WebRtcConfig
from harness.waiting import eventually, within
from harness.webrtc import FPS, encoded_pattern

QUICK = ServerTiming(rest=0.05, workflow_check=0.1, workflow_recheck=0.05, abandoned=5.0)
TEXT = {"2": {"class_type": "SaveTextTensor", "inputs": {"data": "a cat"}}}
RAISING = {"8": {"class_type": "Raise", "inputs": {}}}
UNKNOWN = {"7": {"class_type": "DepthAnything", "inputs": {}}}


def effect(name: str) -> dict[str, Any]:
    return {"1": {"class_type": "Effect", "inputs": {"effect": name}}}


class Ledger:
    async def open_session(self, _: object) -> str:
        return "1"

    async def close_session(self, *_: object) -> None: ...


class Host:
    """A stream whose publisher sends a key frame when it is asked for one, and the first of its pictures."""

    audio_agreed = False
    size = (320, 240)
    last_update = None

    def __init__(self) -> None:
        self.params: Mapping[str, Any] = {}
        self.errors: list[str] = []
        self.back: list[AccessUnit] = []
        self.held = GopBuffer()
        self.key_frames_asked = 0
        self.sends_key_frames = True

    def report_error(self, detail: str) -> None:
        self.errors.append(detail)

    def keep_params(self, params: Mapping[str, Any]) -> None:
        self.params = WorkerParams.of(self.params).updated(params).values

    def on_worker_event(self, event: dict[str, Any]) -> None: ...

    def on_started(self) -> GopBuffer:
        return self.held

    def on_output(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self.back.append(frame)

    def can_be_replaced(self) -> bool:
        return False

    def request_key_frame(self) -> None:
        self.key_frames_asked += 1

    def limit_bitrate(self, bits_per_second: int | None) -> None: ...


class Site:
    """A server, and a job on it that gets the pattern at its pace."""

    def __init__(self, http: aiohttp.ClientSession, server: ComfyStream, timing: ServerTiming) -> None:
        self.http = http
        self.server = server
        self.host = Host()
        self.servers = ComfyServers([server.url], http, timing)
        ledger, webrtc = cast(Any, Ledger()), WebRtcConfig()
        self.source = ComfySource(ComfyResources(http, self.servers, ledger, webrtc, None, 0.0, timing))
        self.job = self.opened()
        self.running: asyncio.Task[Any] | None = None

    def opened(self) -> ComfyJob:
        request = PublishRequest("cam", "cam", "1", "m")
        (candidate,) = self.source.candidates(request)
        return self.source.open(candidate, request, self.host, structlog.get_logger("test"))

    def start(self, *prompts: dict[str, Any]) -> None:
        if prompts:
            self.host.params = {"prompts": list(prompts)}
        self.running = spawn(self.job.run(), name="test job")

    async def up(self) -> None:
        await eventually(lambda: self.job.started and len(self.host.back) > 3, what="pictures")

    async def end(self) -> None:
        await cancel(self.running)
        await self.job.close(EndReason.DELETED)

    async def state(self) -> Any:
        async with self.http.get(f"{self.server.url}/devnet/state") as response:
            return await response.json()

    async def send(self) -> None:
        units = [split_annex_b(unit) for unit in encoded_pattern()]
        for number in itertools.count():
            pts = number * TICKS_PER_SECOND // FPS
            host = self.host
            key = number == 0 or (host.sends_key_frames and host.key_frames_asked > 0)
            if key:
                host.key_frames_asked = 0
            place = 0 if key else 1 + number % (len(units) - 1)
            self.job.push(AccessUnit(units[place], pts, pts, key))
            await asyncio.sleep(1 / FPS)

    def worker(self) -> Json:
        return dict(self.job.status().worker["comfystream"])


@asynccontextmanager
async def site(timing: ServerTiming = QUICK, **config: Any) -> AsyncIterator[Site]:
    server = ComfyStream(ComfyStreamConfig(**config))
    await server.start()
    async with aiohttp.ClientSession() as http:
        one = Site(http, server, timing)
        watching = spawn(one.servers.run(), name="test watch")
        await eventually(lambda: not one.servers.reasons_not_ready(), what="a server that is well")
        sending = spawn(one.send(), name="test pattern")
        try:
            yield one
        finally:
            await cancel(sending)
            await one.end()
            await cancel(watching)
            await server.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("halt", ["pause", "stop"])
async def test_a_server_that_is_paused_gets_no_pictures_and_a_key_frame_when_it_goes_on(halt: str) -> None:
    async with site() as one:
        one.start(effect("negative"))
        await one.up()
        await one.job.update({halt: True})
        assert one.worker()["state"] == "paused"
        kept = (await one.state())["pictures_kept"]
        await asyncio.sleep(10 / FPS)
        still_kept = (await one.state())["pictures_kept"]
        assert still_kept <= kept + 1
        one.host.sends_key_frames = False
        one.host.back.clear()
        assert (await one.job.update({"resume": True}))["answers"][0]["success"]
        await eventually(lambda: one.host.key_frames_asked, what="a request for a key frame")
        await asyncio.sleep(5 / FPS)
        # pictures before the key frame are of no use to the server: what comes back is what it still had
        assert len(one.host.back) <= still_kept
        one.host.sends_key_frames = True
        await eventually(lambda: len(one.host.back) > 5, what="pictures after the pause")
        assert (await one.state())["pictures_kept"] <= kept + 5


@pytest.mark.asyncio
async def test_a_workflow_that_cannot_run_is_an_error_and_an_update_with_it_is_refused() -> None:
    async with site() as one:
        one.start(UNKNOWN)
        await one.up()
        await eventually(lambda: one.host.errors, what="the error")
        assert one.host.errors[0] == FAILED == one.worker()["workflow_error"]
        await one.job.update({"prompts": effect("grey")})
        assert one.worker()["workflow_error"] is None
        with pytest.raises(UpdateRefused, match="could not run the workflow") as refused:
            await one.job.update({"prompts": UNKNOWN})
        assert refused.value.code == "worker_refused"
        assert (await one.state())["effect"] == "grey", "the former prompts go on"
        assert one.host.params == {"prompts": effect("grey")}
        one.host.errors.clear()
        # one that fails later
        one.server.fall_back()
        await eventually(lambda: one.worker()["workflow_error"], what="the later error")
        assert one.host.errors


@pytest.mark.asyncio
async def test_an_update_whose_workflow_raises_is_refused() -> None:
    async with site() as one:
        one.start(effect("grey"))
        await one.up()
        with pytest.raises(UpdateRefused, match="could not run the workflow"):
            await one.job.update({"prompts": RAISING})
        assert (await one.state())["effect"] == "grey", "the former prompts go on"


@pytest.mark.asyncio
async def test_a_workflow_that_raises_while_it_warms_up_ends_the_job_with_where_to_look() -> None:
    async with site(ServerTiming(rest=0.05, offer_timeout=0.5, abandoned=0.1)) as one:
        one.start({**effect("grey"), **RAISING})
        assert one.running is not None
        await asyncio.wait([one.running])
        assert NEVER_WARM in str(one.running.exception())


@pytest.mark.asyncio
async def test_first_prompts_that_cannot_run_are_refused_and_the_picture_goes_on_without_any() -> None:
    async with site() as one:
        one.start()
        await one.up()
        with pytest.raises(UpdateRefused, match="could not run the workflow"):
            await one.job.update({"prompts": UNKNOWN})
        assert one.worker()["prompts"] == 0
        assert not one.host.params["prompts"]
        one.host.back.clear()
        await eventually(lambda: len(one.host.back) > 3, what="pictures")


@pytest.mark.asyncio
async def test_texts_that_come_with_an_update_come_over_a_new_connection() -> None:
    async with site() as one:
        one.start(effect("negative"))
        await one.up()
        assert await one.job.update({"prompts": {**effect("grey"), **TEXT}}) == {
            "answers": [{"type": "prompts_updated", "success": True}]
        }
        await eventually(lambda: "a cat" in one.worker()["texts"], what="the text")
        state = await one.state()
        assert (state["offers"], state["effect"], state["running"]) == (2, "grey", True)
        await one.job.update({"prompts": {**effect("mirror"), **TEXT}})
        assert (await one.state())["offers"] == 2, "this connection has texts already"


@pytest.mark.asyncio
async def test_during_the_warm_up_a_question_waits_and_all_else_is_done_after_it() -> None:
    async with site(warm_up=0.5) as one:
        one.start(effect("negative"))
        await eventually(lambda: one.worker()["state"] == "warming_up", every=0.01, what="the warm-up")
        assert await one.job.update({"type": "update_prompts", "prompts": [effect("grey")]}) == {}
        assert await one.job.update({"type": "pause_prompts"}) == {}
        (nodes,) = (await within(one.job.update({"type": "get_nodes"})))["answers"]
        assert nodes["nodes"]["0"]["1"]["class_type"] == "Effect"
        await eventually(lambda: one.worker()["state"] == "paused", what="the pause")
        assert (await one.state())["effect"] == "grey"
        assert one.host.params == {"prompts": [effect("grey")], "pause": True}, "no type among them"
        with pytest.raises(UpdateRefused, match="a workflow is an object"):
            await one.job.update({"prompts": 5})


@pytest.mark.asyncio
async def test_a_stream_that_ends_during_the_warm_up_keeps_its_server_until_the_offer_is_over() -> None:
    async with site(warm_up=0.5) as one:
        one.start(effect("negative"))
        await eventually(lambda: one.worker()["state"] == "warming_up", every=0.01, what="the warm-up")

        async def offered() -> bool:
            return bool((await one.state())["offers"])

        await eventually(offered, every=0.01, what="the offer")
        await one.end()
        (candidate,) = one.servers.candidates()
        assert (candidate.usable, candidate.detail) == (False, SETTLING)
        await eventually(lambda: not one.servers.reasons_not_ready(), what="the free server")
        state = await one.state()
        assert (state["offers"], state["connections"], state["prompts"]) == (1, 0, [])
        # nothing is left that could end the next stream's prompts
        one.job = one.opened()
        one.start(effect("grey"))
        await one.up()
        assert (await one.state())["running"]


@pytest.mark.asyncio
async def test_an_offer_that_is_never_answered_keeps_its_server_for_a_limited_time() -> None:
    timing = ServerTiming(rest=0.01, abandoned=0.3)
    async with site(timing, warm_up=600) as one:
        one.start(effect("negative"))
        await eventually(lambda: one.worker()["state"] == "warming_up", every=0.01, what="the warm-up")
        await one.end()
        assert not one.servers.candidates()[0].usable
        await eventually(lambda: one.servers.candidates()[0].usable, what="the free server")
