"""Fuzzes the running gateway over HTTP: schemathesis by its own description of its routes.

Beside it `/healthz` is asked all the time: what takes the event loop shows there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from gateway.aio import tasks
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import SLACK

ROOT = Path(__file__).parents[2]
MAX_ANSWER = 0.5 * SLACK
"""Seconds for `/healthz`, asked by a process beside a busy one."""
MAX_GROWTH = 128 * 1024 * 1024
LONGEST_END = 90.0
"""Seconds that a run may take beyond its time."""
EXPECTED = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "4xx", 503]\n'


def fuzz_http(seconds: float, seed: int) -> dict[str, Any]:
    """As `fuzz` for a target."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return asyncio.run(_run(Path(folder), seconds, seed))


async def _run(folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    async with gateway_process(folder, "-maxRequestsPerAddress", "0", "-connectTimeout", "1s") as gateway:
        memory, answers = psutil.Process(gateway.process.pid), list[float]()
        before = memory.memory_info().rss
        watching = tasks.spawn(_ask(gateway, answers), name="healthz")
        finding = await _schemathesis(folder, gateway.url, seconds, seed)
        await tasks.cancel(watching)
        grown, slowest = memory.memory_info().rss - before, max(answers, default=0.0)
        if finding is None and "request failed" in gateway.log.read_text():
            finding = "a request failed: " + gateway.log.read_text()[-2000:]
        if finding is None and slowest > MAX_ANSWER:
            finding = f"/healthz took {slowest:.1f} s"
        if finding is None and grown > MAX_GROWTH:
            finding = f"the gateway holds {grown >> 20} MiB more than before"
    return {
        "target": "http",
        "inputs": None,
        "slowest_ms": round(1000 * slowest, 1),
        "grown_mib": grown >> 20,
        "finding": finding,
    }


async def _ask(gateway: GatewayProcess, answers: list[float]) -> None:
    while True:
        before = time.monotonic()
        await gateway.get("healthz")
        answers.append(time.monotonic() - before)
        await asyncio.sleep(0.02)


async def _schemathesis(folder: Path, url: str, seconds: float, seed: int) -> str | None:
    """What it says where it found something."""
    (folder / "schemathesis.toml").write_text(EXPECTED)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "schemathesis",
        *("run", f"{url}openapi.json", "--checks", "not_a_server_error", "--phases", "fuzzing"),
        *("--max-time", str(max(1, int(seconds))), "--seed", str(seed)),
        *("--generation-database", "none", "--suppress-health-check", "all", "--no-color"),
        *("--exclude-path-regex", "/(events|drain)$"),  # the first have no end
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=os.environ
        | {
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "harness.openapi_bodies",
        },
    )
    said, _ = await asyncio.wait_for(process.communicate(), seconds + LONGEST_END)
    return said.decode()[-4000:] if process.returncode else None
