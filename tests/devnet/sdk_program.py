"""The network's official Python SDK as a gateway of the devnet: starts a job, sends pictures, pays, watches.

Arguments: the orchestrator's address, the signer's URL, seconds. Prints the number of frames that came back
and the mean luma of the newest one's left and right half, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from fractions import Fraction

import av
import numpy as np
from livepeer_gateway.lv2v import StartJobRequest, start_lv2v
from livepeer_gateway.media_publish import MediaPublishConfig

FPS = 30


async def main(orchestrator: str, signer: str, seconds: float) -> None:
    request = StartJobRequest(model_id="comfystream", request_id="sdk", stream_id="sdk")
    job = start_lv2v(f"https://{orchestrator}", request, signer_url=signer)
    media, output = job.start_media(MediaPublishConfig()), job.media_output(start_seq=-1)
    seen: dict[str, object] = {"frames": 0}

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
        await media.write_frame(frame)
        await asyncio.sleep(1 / FPS)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await output.close()
    await job.close()
    sys.stdout.write(json.dumps(seen))


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
