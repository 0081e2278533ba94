"""The network's job and the ComfyStream job compared, with the same stream."""

from __future__ import annotations

import asyncio
import fractions
import json
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import psutil

from harness.devnet import EQUAL_PRICES
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import FPS, PatternTrack, WhepViewer, WhipPublisher, longest_gap

SIZE = (1280, 720)
SECONDS = 15.0
POLL = 0.002
UPDATES = 10
KILLS = 5
EVERY = 1.0
"""Seconds between two of them, a little more each time: they come anywhere in a group of pictures."""
MANY_SWAPS = ("-maxSwaps", "100")


def effect(relay: str, name: str) -> dict[str, Any]:
    """Parameters that make a relay show an effect."""
    if relay == "network":
        return {"effect": name}
    return {"prompts": {"1": {"class_type": "Effect", "inputs": {"effect": name}}}}


def flashes(size: tuple[int, int] = SIZE) -> list[bytes]:
    """Two seconds at 30 a second whose bright half changes its side with each key frame, once a second."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = fractions.Fraction(FPS), fractions.Fraction(1, FPS)
    encoder.bit_rate = 2_500_000
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": f"keyint={FPS}:min-keyint={FPS}:scenecut=0:repeat-headers=1",
    }
    width, height = size
    noise = np.random.default_rng(1).integers(0, 30, (height // 8, width // 8, 3), np.uint8)
    units = []
    for number in range(2 * FPS):
        picture = np.roll(noise, number, axis=1).repeat(8, axis=0).repeat(8, axis=1) + np.uint8(30)
        bright = slice(0, width // 2) if number < FPS else slice(width // 2, width)
        picture[:, bright] += 170
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts = number
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return units


class FlashTrack(PatternTrack):
    """Notes when each flash was handed to the sender."""

    def __init__(self, units: list[bytes]) -> None:
        super().__init__(units)
        self.flashed: list[float] = []

    async def recv(self) -> av.Packet[Any]:
        packet = await super().recv()
        if (self._number - 1) % FPS == 0:
            self.flashed.append(time.monotonic())
        return packet


async def measure(folder: Path) -> AsyncIterator[dict[str, Any]]:
    units = await asyncio.to_thread(flashes)
    flags = ("-comfyStream", "1", "-v", "3")
    async with aiohttp.ClientSession() as http, gateway_process(folder, *flags) as gateway:
        for relay in ("network", "comfystream"):
            yield {
                "figure": "one 720p30 stream with one viewer",
                **await one_stream(gateway, http, units, relay),
            }
    servers = str(KILLS + 2)
    flags = ("-comfyStream", servers, "-orchestrators", servers, *EQUAL_PRICES, *MANY_SWAPS, "-v", "3")
    async with aiohttp.ClientSession() as http, gateway_process(folder, *flags) as gateway:
        for relay in ("network", "comfystream"):
            yield {
                "figure": "from new parameters to the first picture that shows them",
                **await updated(gateway, http, relay),
                "aim_ms": 1000,
            }
    for relay, standby, aim in (("network", False, 2), ("network", True, 0.3), ("comfystream", False, 2)):
        async with aiohttp.ClientSession() as http, gateway_process(folder, *flags) as gateway:
            yield {
                "figure": "seconds without the effect when the server in use is killed",
                **await swapped(gateway, http, relay, standby=standby),
                "aim_s": aim,
            }


async def one_stream(
    gateway: GatewayProcess, http: aiohttp.ClientSession, units: list[bytes], relay: str
) -> dict[str, Any]:
    """Delay from the publisher's encoder to the viewer's decoded picture, and CPU by process."""
    url = publish_url(gateway, relay, relay)
    async with WhepViewer(http, gateway.live(f"{relay}/whep")) as viewer:
        await eventually(lambda: viewer.peer.connectionState == "connected", what="the viewer")
        publisher = WhipPublisher(http, url, units=units)
        track = FlashTrack(units)
        publisher.peer.getSenders()[0].replaceTrack(track)
        posted = time.monotonic()
        async with publisher:
            await eventually(lambda: viewer.frames > 0, every=POLL, what="the first picture")
            first = time.monotonic() - posted
            await eventually(lambda: viewer.frames > 3 * FPS, what="a settled stream")
            before = await cpu(gateway, relay)
            frames, began = viewer.frames, time.monotonic()
            seen = await changes(viewer, SECONDS)
            took = time.monotonic() - began
            after = await cpu(gateway, relay)
            output = (await gateway.status(relay))["output"]
            delays = [min(at - flash for flash in track.flashed if flash < at) for at in seen]
            return {
                "relay": relay,
                "first_picture_s": round(first, 2),
                "delay_ms_median": round(1000 * statistics.median(delays)),
                "delay_ms_max": round(1000 * max(delays)),
                "relay_fps": round(output["fps"], 1),
                "viewer_fps": round((viewer.frames - frames) / took, 1),
                "cpu_percent": {name: round(100 * (after[name] - before[name]) / took, 1) for name in after},
            }


def publish_url(gateway: GatewayProcess, name: str, relay: str, *, standby: bool = False) -> str:
    query = {"orchestrator": relay, "params": json.dumps(effect(relay, "negative"))}
    if standby:
        query["standby"] = "true"
    return str(aiohttp.client.URL(gateway.live(f"{name}/whip")).with_query(query))


async def updated(gateway: GatewayProcess, http: aiohttp.ClientSession, relay: str) -> dict[str, Any]:
    """From an update's request to the first decoded picture that shows it."""
    name = f"{relay}-updated"
    async with (
        WhepViewer(http, gateway.live(f"{name}/whep")) as viewer,
        WhipPublisher(http, publish_url(gateway, name, relay)),
    ):
        await eventually(lambda: viewer.frames > FPS and viewer.shows_negative, what="a settled stream")
        took = []
        for number in range(UPDATES):
            await asyncio.sleep(EVERY * (1 + number / UPDATES))
            shown, wanted = viewer.shows_negative, "grey" if viewer.shows_negative else "negative"
            asked = time.monotonic()
            async with http.post(gateway.live(f"{name}/update"), json=effect(relay, wanted)) as response:
                assert response.status == 200, await response.text()
            await eventually(lambda was=shown: viewer.shows_negative != was, every=POLL, what="the update")
            took.append(viewer.times[-1] - asked)
        return {
            "relay": relay,
            "updates": UPDATES,
            "ms_median": round(1000 * statistics.median(took)),
            "ms_max": round(1000 * max(took)),
        }


async def swapped(
    gateway: GatewayProcess, http: aiohttp.ClientSession, relay: str, *, standby: bool
) -> dict[str, Any]:
    """The longest time between two decoded pictures that show the effect, over a kill -9 of the server."""
    name = f"{relay}-swapped"
    url = publish_url(gateway, name, relay, standby=standby)
    async with WhepViewer(http, gateway.live(f"{name}/whep")) as viewer, WhipPublisher(http, url):
        gaps = []
        for number in range(KILLS):

            async def settled(swaps: int = number) -> bool:
                status = await gateway.status(name)
                spare = not standby or status["standby"]["state"] == "ready"
                return bool(status["swaps"] == swaps and status["state"] == "live" and spare)

            await eventually(settled, what="a job at work")
            frames = len(viewer.negatives)
            await eventually(lambda was=frames: len(viewer.negatives) > was + 2 * FPS, what="its pictures")
            await asyncio.sleep(EVERY * number / KILLS)
            in_use = (await gateway.status(name))["orchestrator"]["url"]
            killed = time.monotonic()
            os.kill(await server_pid(gateway, relay, in_use), signal.SIGKILL)
            frames = len(viewer.negatives)
            await eventually(
                lambda was=frames: len(viewer.negatives) > was + FPS, what="the picture's return"
            )
            gaps.append(longest_gap(at for at in viewer.negatives if at > killed - 1))
        return {
            "relay": relay,
            "standby": standby,
            "kills": KILLS,
            "gap_s_median": round(statistics.median(gaps), 2),
            "gap_s_max": round(max(gaps), 2),
        }


async def server_pid(gateway: GatewayProcess, relay: str, url: str) -> int:
    devnet = await gateway.devnet()
    servers = devnet["comfystreams" if relay == "comfystream" else "orchestrators"]
    return int(next(server["pid"] for server in servers if server["url"] == url))


async def changes(viewer: WhepViewer, seconds: float) -> list[float]:
    """When the picture's bright half was seen to change its side."""
    found: list[float] = []
    until = time.monotonic() + seconds
    side = viewer.shows_negative
    while time.monotonic() < until:
        await asyncio.sleep(POLL)
        if viewer.shows_negative != side:
            side = viewer.shows_negative
            found.append(time.monotonic())
    return found


async def cpu(gateway: GatewayProcess, relay: str) -> dict[str, float]:
    """Seconds of CPU used so far by the processes that the relay uses."""
    devnet = await gateway.devnet()
    pids = {"gateway": gateway.pid}
    if relay == "comfystream":
        pids["comfystream"] = devnet["comfystreams"][0]["pid"]
    else:
        pids |= {"runner": devnet["runner_pid"], "orchestrator": devnet["orchestrators"][0]["pid"]}
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: float(one.user + one.system) for name, one in times.items()}
