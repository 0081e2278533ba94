"""The network's official Python SDK with live runners, as an app or as a client of one.

`app ORCHESTRATOR SECRET` registers an app that inverts pictures; it prints a line when it is registered and
runs until it is killed. `client ORCHESTRATOR SIGNER SECONDS` reserves, pays and streams through the first
app; it prints the number of frames that came back and the mean luma of the newest one's halves, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from fractions import Fraction

import aiohttp
import av
import numpy as np
from aiohttp import web
from livepeer_gateway.live_runner import register_runner
from livepeer_gateway.media_output import MediaOutput
from livepeer_gateway.media_publish import MediaPublish, MediaPublishConfig
from livepeer_gateway.selection import reserve_session

FPS = 30


async def app(orchestrator: str, secret: str) -> None:
    async def start(request: web.Request) -> web.Response:
        wanted = [{"name": name, "mime_type": "video/mp2t"} for name in ("in", "out")]
        channels = await registration.create_trickle_channels(request, wanted)
        urls = {channel["name"]: channel["url"] for channel in channels}
        work.append(asyncio.get_running_loop().create_task(invert(urls["in"], urls["out"])))
        return web.json_response({"session": request.headers["Livepeer-Session-Id"], **urls})

    work: list[asyncio.Task[None]] = []
    server = web.Application()
    server.router.add_post("/echo", start)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    registration = await register_runner(
        orchestrator, secret=secret, runner_url=url, app="tests/invert", price=7200, auto_detect_gpu=False
    )
    sys.stdout.write("registered\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def invert(source: str, target: str) -> None:
    output, publish = MediaOutput(source, start_seq=0), MediaPublish(target, config=MediaPublishConfig())
    async for decoded in output.frames():
        if decoded.kind == "video":
            picture = 255 - decoded.frame.to_ndarray(format="rgb24")
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = decoded.frame.pts, decoded.frame.time_base
            await publish.write_frame(frame)
    await publish.close()


async def client(orchestrator: str, signer: str, seconds: float) -> None:
    session = await reserve_session(orchestrators=[orchestrator], signer_url=signer)
    seen: dict[str, object] = {"frames": 0}
    start = f"{session.app_url}/echo"
    async with (
        aiohttp.ClientSession() as http,
        http.post(start, json={"mode": "invert"}, ssl=False) as answer,
    ):
        urls = await answer.json()
    publish, output = (
        MediaPublish(urls["in"], config=MediaPublishConfig()),
        MediaOutput(urls["out"], start_seq=0),
    )

    async def watch() -> None:
        async for decoded in output.frames():
            if decoded.kind == "video":
                luma = decoded.frame.to_ndarray(format="gray")
                middle = luma.shape[1] // 2
                seen["frames"] = int(str(seen["frames"])) + 1
                seen["halves"] = [float(luma[:, :middle].mean()), float(luma[:, middle:].mean())]

    watching = asyncio.get_running_loop().create_task(watch())
    picture = np.full((240, 320, 3), 40, np.uint8)
    picture[:, :160] = 210
    for number in range(int(seconds * FPS)):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = number * 3000, Fraction(1, 90_000)
        await publish.write_frame(frame)
        await asyncio.sleep(1 / FPS)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await publish.close()
    await output.close()
    await session.aclose()
    sys.stdout.write(json.dumps(seen))


if sys.argv[1] == "app":
    asyncio.run(app(*sys.argv[2:]))
else:
    asyncio.run(client(sys.argv[2], sys.argv[3], float(sys.argv[4])))
