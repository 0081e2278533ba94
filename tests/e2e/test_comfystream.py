"""Own ComfyStream servers: a stream through one, nothing paid."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.comfystream.nodes import FAILED
from gateway.stream.swap import SwapTiming
from harness.browser import chromium
from harness.gateway import BIN, GatewayProcess, gateway_process
from harness.processes import line, program
from harness.waiting import SLACK, eventually
from harness.webrtc import Refused, WhepViewer, WhipPublisher, longest_gap
from tests.e2e.test_browser import CORRELATION, shows_the_negative
from tests.e2e.test_loop import ended

PATIENCE = SwapTiming.patience
"""Seconds that a stream waits for a server where there are several."""


def effect(name: str) -> dict[str, Any]:
    return {"1": {"class_type": "Effect", "inputs": {"effect": name}}}


@asynccontextmanager
async def comfystream_processes(count: int, *, port: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
    """The devnet's ComfyStream servers by themselves: `url` and `pid` of each."""
    command = (BIN / "livepeer-devnet", "comfystream", f"-addr=127.0.0.1:{port}")
    output = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(program(*command, **output)) for _ in range(count)]
        yield [{**json.loads(await line(process)), "pid": process.pid} for process in processes]


@asynccontextmanager
async def own_gateway(
    folder: Path, count: int = 1, *flags: str
) -> AsyncIterator[tuple[GatewayProcess, list[dict[str, Any]]]]:
    async with comfystream_processes(count) as servers:
        urls = ",".join(server["url"] for server in servers)
        arguments = ("-comfyStreamUrl", urls, "-dataDir", str(folder / "data"), *flags)
        async with gateway_process(folder, *arguments, devnet=False) as gateway:
            yield gateway, servers


def with_params(gateway: GatewayProcess, name: str, params: object) -> str:
    return str(aiohttp.client.URL(gateway.live(f"{name}/whip")).with_query(params=json.dumps(params)))


async def update(gateway: GatewayProcess, name: str, body: object) -> tuple[int, dict[str, Any]]:
    async with gateway.http.post(gateway.live(f"{name}/update"), json=body) as response:
        return response.status, await response.json(content_type=None)


def answered(answer: str) -> tuple[int, dict[str, Any]]:
    return 200, {"status": "ok", "answers": [{"type": answer, "success": True}]}


@pytest.mark.asyncio
async def test_a_stream_is_changed_updated_and_free_of_charge(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with own_gateway(tmp_path) as (gateway, servers):
        before = await gateway.holds()
        prompts = [{**effect("negative"), "2": {"class_type": "SaveTextTensor", "inputs": {"data": "a cat"}}}]
        async with (
            WhepViewer(http, gateway.live("cam/whep"), audio=True) as viewer,
            WhipPublisher(http, with_params(gateway, "cam", {"prompts": prompts}), audio=True) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            await eventually(lambda: viewer.sound > 20, what="the sound")
            server = await gateway.fetch(f"{servers[0]['url']}/devnet/state")
            assert server["resolution"] == {"width": 320, "height": 240}
            status = await gateway.status("cam")
            assert status["orchestrator"]["url"] == servers[0]["url"]
            assert status["orchestrator"]["price_wei_per_second"] == "0"
            assert status["payments"] is None
            assert [one["verdict"] for one in status["candidates"]] == ["chosen"]

            async def text() -> bool:
                return "a cat" in (await worker(gateway))["texts"]

            await eventually(text, what="the text result in the status")
            asked = time.monotonic()
            assert await update(gateway, "cam", {"prompts": effect("none")}) == answered("prompts_updated")
            await eventually(lambda: viewer.shows_original, every=0.005, what="the update")
            assert time.monotonic() - asked < SLACK
            await publisher.stop()
        assert (await ended(gateway, "cam"))["ended"]["reason"] == "deleted"

        await gateway.given_back(before)
    with sqlite3.connect(tmp_path / "data" / "ledger.sqlite3") as ledger:
        rows = ledger.execute("SELECT orchestrator_url, price, reason FROM sessions").fetchall()
        payments = ledger.execute("SELECT * FROM payments").fetchall()
    assert rows == [(servers[0]["url"], "0", "deleted")]
    assert payments == []


async def worker(gateway: GatewayProcess) -> dict[str, Any]:
    """What the status says of the stream's server; empty before there is one."""
    return dict((await gateway.get("live/video-to-video/cam/status")).get("comfystream", {}))


@pytest.mark.asyncio
async def test_without_prompts_the_picture_passes_through_until_some_come(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    template = tmp_path / "workflow.json"
    template.write_text(json.dumps({"1": {"class_type": "Effect", "inputs": {"effect": "{prompt}"}}}))
    async with (
        own_gateway(tmp_path, 1, "-comfyWorkflow", str(template)) as (gateway, _),
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):
        await eventually(lambda: viewer.frames > 30, what="the picture")
        assert viewer.shows_original
        # words go into the workflow's text node
        assert await update(gateway, "cam", {"prompt": "negative"}) == answered("prompts_updated")
        await eventually(lambda: viewer.shows_negative, what="the first prompt")
        assert await update(gateway, "cam", {"pause": True}) == answered("prompts_paused")
        assert (await worker(gateway))["state"] == "paused"
        assert await update(gateway, "cam", {"resume": True}) == answered("prompts_resumed")
        assert await update(gateway, "cam", {"resolution": {"width": 512, "height": 512}}) == answered(
            "resolution_updated"
        )
        status, problem = await update(gateway, "cam", {"prompts": [effect("none"), effect("grey")]})
        assert (status, problem["code"]) == (422, "worker_refused")
        assert "must match the number" in problem["detail"]
        # a server halts its prompts over an update that it refuses: the former ones go on all the same
        frames = viewer.frames
        await eventually(lambda: viewer.frames > frames + 30, what="pictures after a refused update")
        assert viewer.shows_negative
        status, problem = await update(gateway, "cam", {"nothing": "known"})
        assert (status, problem["code"]) == (422, "worker_refused")
        status, nodes = await update(gateway, "cam", {"type": "get_nodes"})
        assert nodes["answers"][0]["nodes"]["0"]["1"]["inputs"]["effect"]["value"] == "negative"
        status, problem = await update(gateway, "cam", {"type": "dance"})
        assert (status, problem["code"]) == (504, "worker_silent")


@pytest.mark.asyncio
async def test_a_workflow_that_raises_after_its_warm_up_passes_the_picture_through_and_is_an_error(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:

    def raising(run: int) -> dict[str, Any]:
        return {"2": {"class_type": "Raise", "inputs": {"run": run}}}

    async with (
        own_gateway(tmp_path) as (gateway, _),
        WhepViewer(http, gateway.live("cam/whep")) as viewer,
        WhipPublisher(http, with_params(gateway, "cam", {"prompts": {**effect("negative"), **raising(40)}})),
    ):
        await eventually(lambda: viewer.negatives, what="the negative")
        await eventually(lambda: viewer.shows_original, what="the pass-through")
        assert await update(gateway, "cam", {"resume": True}) == answered("prompts_resumed")

        async def error() -> str:
            return str(((await gateway.status("cam"))["error"] or {}).get("error_message", ""))

        assert await eventually(error, deadline=60, what="the error") == FAILED
        assert (await worker(gateway))["workflow_error"] == FAILED
        status, problem = await update(gateway, "cam", {"prompts": raising(1)})
        assert (status, problem["code"], problem["detail"]) == (422, "worker_refused", FAILED)


@pytest.mark.asyncio
async def test_a_server_that_is_killed_is_swapped_and_the_newest_prompts_go_with_the_stream(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with own_gateway(tmp_path, 2) as (gateway, servers):
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, with_params(gateway, "cam", {"prompts": effect("grey")})),
        ):
            await eventually(lambda: viewer.shows_original, what="the picture in grey")
            assert await update(gateway, "cam", {"prompts": effect("negative")}) == answered(
                "prompts_updated"
            )
            await eventually(lambda: viewer.shows_negative, what="the update")
            killed = time.monotonic()
            os.kill(servers[0]["pid"], signal.SIGKILL)

            async def swapped() -> bool:
                status = await gateway.status("cam")
                return status["swaps"] == 1 and status["orchestrator"]["url"] == servers[1]["url"]

            await eventually(swapped, what="the swap")
            frames = len(viewer.negatives)
            await eventually(lambda: len(viewer.negatives) > frames + 30, what="the negative after the swap")
            longest = longest_gap(moment for moment in viewer.negatives if moment > killed - 0.1)
            assert longest < 2
            assert all(after > before for before, after in pairwise(viewer.pts))
        await ended(gateway, "cam")


@pytest.mark.asyncio
async def test_the_only_server_restarts_and_goes_on_with_the_stream(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with own_gateway(tmp_path) as (gateway, servers):
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, with_params(gateway, "cam", {"prompts": effect("negative")})),
        ):
            await eventually(lambda: viewer.shows_negative, what="the negative")
            os.kill(servers[0]["pid"], signal.SIGKILL)
            await asyncio.sleep(PATIENCE + 1)
            status = await gateway.status("cam")
            assert (status["state"], status["ended"]) == ("swapping", None)
            assert "cannot be reached" in status["error"]["error_message"]
            async with comfystream_processes(1, port=aiohttp.client.URL(servers[0]["url"]).port or 0):
                frames = len(viewer.negatives)
                await eventually(lambda: len(viewer.negatives) > frames + 30, what="the negative again")
                assert (await gateway.status("cam"))["swaps"] == 1
        await ended(gateway, "cam")


@pytest.mark.asyncio
async def test_a_server_takes_one_stream_and_what_it_cannot_read_is_said_at_once(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with own_gateway(tmp_path) as (gateway, servers):
        with pytest.raises(Refused) as words:
            await WhipPublisher(http, with_params(gateway, "b", {"prompt": "a cat"})).__aenter__()
        assert (words.value.status, words.value.problem["code"]) == (400, "bad_params")
        assert "-comfyWorkflow" in str(words.value.problem["detail"])
        async with (
            WhepViewer(http, gateway.live("a/whep")) as viewer,
            WhipPublisher(http, gateway.live("a/whip")),
        ):
            await eventually(lambda: viewer.frames > 0, what="the picture")
            with pytest.raises(Refused) as full:
                await WhipPublisher(http, gateway.live("b/whip")).__aenter__()
        assert full.value.status == 503
        assert full.value.problem["candidates"] == [
            {
                "url": servers[0]["url"],
                "kind": "comfystream",
                "price_wei_per_second": "0",
                "verdict": "no_capacity",
                "detail": "it has a stream, and takes one only",
            }
        ]


@pytest.mark.asyncio
async def test_a_stream_may_choose_and_the_network_takes_what_the_own_servers_cannot(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    flags = ("-comfyStream", "1", "-comfyStreamFallback", "network", "-comfyStreamWarmUp", "1s")
    async with gateway_process(tmp_path, *flags) as gateway:
        own = (await gateway.devnet())["comfystreams"][0]["url"]
        chosen = with_params(gateway, "cam", {"prompts": effect("negative")}) + "&orchestrator=comfystream"
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as first,
            WhipPublisher(http, chosen),
        ):

            async def warming_up() -> bool:
                return (await worker(gateway)).get("state") == "warming_up"

            await eventually(warming_up, every=0.02, what="the warm-up in the status")
            assert (await gateway.status("cam"))["state"] == "starting"
            async with (
                WhepViewer(http, gateway.live("two/whep")) as second,
                WhipPublisher(http, gateway.live("two/whip")),
            ):
                await eventually(lambda: first.shows_negative, what="the own server's picture")
                await eventually(lambda: second.shows_negative, what="the network's picture")
                status = await gateway.status("two")
                verdicts = {one["url"]: one["verdict"] for one in status["candidates"]}
                assert verdicts[own] == "no_capacity"
                assert verdicts[status["orchestrator"]["url"]] == "chosen"
                assert int(status["orchestrator"]["price_wei_per_second"]) > 0
                assert (await gateway.status("cam"))["orchestrator"]["url"] == own


@pytest.mark.asyncio
async def test_the_page_switches_to_the_own_server_and_back(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with gateway_process(tmp_path, "-comfyStream", "1") as gateway, chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 1400})
        await page.goto(gateway.url)
        await page.select_option("#source", "camera")
        await page.select_option("#resolution", "640x360")
        await page.fill("#stream-name", "cam")
        await page.click("#more summary")
        await page.select_option("#through", "comfystream")
        await page.select_option("#effect", "negative")
        await page.click("#start")
        await eventually(lambda: shows_the_negative(page), deadline=40, what="the own server's negative")
        own = (await gateway.devnet())["comfystreams"][0]["url"]
        assert (await gateway.status("cam"))["orchestrator"]["url"] == own
        await page.select_option("#effect", "none")

        async def as_it_was() -> bool:
            return bool((await page.evaluate(CORRELATION))["correlation"] > 0.8)

        await eventually(as_it_was, what="the update in mid-stream")
        await page.click("#stop")
        await ended(gateway, "cam")
        assert (await gateway.signer_audit())["signings"] == 0

        await page.select_option("#through", "network")
        await page.select_option("#effect", "negative")
        await page.click("#start")
        await eventually(lambda: shows_the_negative(page), deadline=40, what="the network's negative")
        assert (await gateway.status("cam"))["payments"]["accepted"] > 0
        await page.click("#stop")
        await ended(gateway, "cam")


@pytest.mark.asyncio
async def test_in_chromium_no_prompts_pass_through_and_the_picture_outlives_a_killed_server(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with own_gateway(tmp_path, 2) as (gateway, servers), chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 1400})
        await page.goto(gateway.url)
        await page.select_option("#source", "camera")
        await page.select_option("#resolution", "640x360")
        await page.fill("#stream-name", "cam")
        await page.fill("#params", "{}")
        await page.click("#start")

        async def as_it_was() -> bool:
            return bool((await page.evaluate(CORRELATION))["correlation"] > 0.8)

        await eventually(as_it_was, deadline=40, what="the picture as it was")
        assert (await worker(gateway))["prompts"] == 0
        asked = time.monotonic()
        assert await update(gateway, "cam", {"prompts": effect("negative")}) == answered("prompts_updated")
        await eventually(lambda: shows_the_negative(page), every=0.02, what="the first prompts' negative")
        assert time.monotonic() - asked < SLACK
        os.kill(servers[0]["pid"], signal.SIGKILL)

        async def swapped() -> bool:
            status = await gateway.status("cam")
            return status["swaps"] == 1 and status["orchestrator"]["url"] == servers[1]["url"]

        await eventually(swapped, what="the swap")
        shown = "document.getElementById('result-video').getVideoPlaybackQuality().totalVideoFrames"
        frames = await page.evaluate(shown)

        async def goes_on() -> bool:
            return bool(await page.evaluate(shown) > frames + 30)

        await eventually(goes_on, what="pictures after the swap")
        assert (await worker(gateway))["prompts"] == 1
        # the camera moves and its negative comes later, so that a single look may find them far apart
        await eventually(lambda: shows_the_negative(page), what="the negative after the swap")
        asked = time.monotonic()
        assert await update(gateway, "cam", {"prompts": effect("none")}) == answered("prompts_updated")
        await eventually(as_it_was, every=0.02, what="the update in mid-stream")
        assert time.monotonic() - asked < SLACK
        await page.click("#stop")
        await ended(gateway, "cam")
