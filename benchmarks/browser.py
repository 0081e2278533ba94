"""What a browser sends while a core is busy: width, frames and bits a second, second by second."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.browser import PUBLISH, SENT, chromium, noisy_camera
from harness.gateway import gateway_process

SECONDS = 60
WIDTH = 1280
LEAST_BPS = 1_500_000


async def measure(folder: Path) -> AsyncIterator[dict[str, Any]]:
    camera = await asyncio.to_thread(noisy_camera, folder / "noise.y4m")
    series: list[dict[str, Any]] = []
    async with (
        gateway_process(folder, "-effect", "none", "-v", "3") as gateway,
        chromium(f"--use-file-for-fake-video-capture={camera}") as browser,
        busy_core(),
    ):
        page = await browser.new_page()
        await page.goto(gateway.url + "healthz")
        wanted = {"profile": "42e01f", "audio": False, "width": WIDTH, "height": 720, "fps": 30}
        status = await page.evaluate(PUBLISH, {"url": gateway.live("busy/whip"), **wanted})
        assert status == 201
        began, former, before = time.monotonic(), 0, time.monotonic()
        while time.monotonic() - began < SECONDS:
            await asyncio.sleep(1)
            sent, now = await page.evaluate(SENT), time.monotonic()
            if not sent:
                continue
            rate = (sent["bytes"] - former) * 8 / (now - before)
            former, before = sent.pop("bytes"), now
            row = {"second": round(now - began), "bps": int(rate), **sent}
            series.append(row)
            yield {"figure": "series", **row}
    later = [row for row in series if row["second"] >= 2]
    yield {
        "figure": "share of seconds at full width from the second on",
        "value": round(sum(row["width"] == WIDTH for row in later) / max(1, len(later)), 2),
        "aim": 1,
    }
    # A browser that gets too little of the machine sends fewer pictures, however much it is allowed.
    for name, key in (("sent", "bps"), ("allowed by the browser's congestion control", "target")):
        yield {
            "figure": f"lowest bits a second {name}, from the second on",
            "value": int(min((row[key] or 0 for row in later), default=0)),
            "aim": LEAST_BPS,
        }
    yield {
        "figure": "frames a second, median",
        "value": statistics.median(row["fps"] or 0 for row in later) if later else 0,
    }


@asynccontextmanager
async def busy_core() -> AsyncIterator[None]:
    """A process that computes all the time."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        yield
    finally:
        process.kill()
        await process.wait()
