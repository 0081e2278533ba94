"""A publisher and a viewer behind a lossy link: `lossy LOSS SECONDS`. The scenario checks itself."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.gateway import GatewayProcess, gateway_process
from tests.e2e.test_loop import ended
from tests.link.network import NEAR, link

DELAY, JITTER = 0.01, 0.03
KEY_FRAME_EVERY = 1.0
SLACK = 1.0
"""Seconds for decoders and a busy machine, on top of a key frame's and the round trips'."""
MOST_HELD = 4 << 20
FEWEST_SHOWN = 0.6
"""Share of the pictures sent that are shown: a lost one takes the others up to the next key frame with it."""


async def run(loss: float, seconds: float) -> None:
    flags = ("-effect", "none", "-orchestrators", "1", "-livePaymentInterval", "1s")
    listening = ("-httpAddr", f"{NEAR}:0", "-cliAddr", f"{NEAR}:0")
    with tempfile.TemporaryDirectory() as folder, link(seed=int(loss * 1000)) as path:
        async with gateway_process(Path(folder), *flags, *listening) as gateway:
            command = path.far(sys.executable, "-m", "tests.link.far_client", gateway.url, str(seconds))
            client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            assert client.stdout is not None
            try:
                assert await client.stdout.readline() == b"up\n"
                path.conditions.delay, path.conditions.jitter = DELAY, JITTER
                path.conditions.loss = loss
                reading = asyncio.ensure_future(client.stdout.readline())  # noqa: TID251
                states, status = await watch(gateway, reading)
                seen = json.loads(await reading)
                path.conditions.loss = 0.0
                await client.wait()
            finally:
                if client.returncode is None:
                    client.kill()
                    await client.wait()
            last = await ended(gateway, "cam")
        print(json.dumps({"loss": loss, "dropped": path.dropped, **seen, "ingest": status["ingest"]}))
        check(seen, status, states)
        assert path.dropped > 0
        assert last["ended"]["reason"] in ("publisher_left", "deleted")


async def watch(
    gateway: GatewayProcess, reading: asyncio.Future[bytes]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the gateway holds, once a second while the client is at it, and its last status."""
    states: list[dict[str, Any]] = []
    status: dict[str, Any] = {}
    while not reading.done():
        state, now = await gateway.get("debug/state"), await gateway.status("cam")
        if not reading.done():
            states.append(state)
            status = now
        await asyncio.wait([reading], timeout=1)
    return states, status


def check(seen: dict[str, Any], status: dict[str, Any], states: list[dict[str, Any]]) -> None:
    assert status["state"] == "live"
    assert status["error"] is None
    assert status["output"]["gaps"] == 0
    # sequence numbers began just below their wrap
    assert seen["frames_sent"] > 100
    assert seen["frames_shown"] > FEWEST_SHOWN * seen["frames_sent"]
    assert seen["longest_freeze_s"] < KEY_FRAME_EVERY + 4 * (DELAY + JITTER) + SLACK
    assert seen["times_rise"]
    assert max(state["held_bytes"] for state in states) < MOST_HELD
    assert max(state["tasks_total"] for state in states) <= states[0]["tasks_total"] + 5
    assert max(state["fds"] for state in states) <= states[0]["fds"] + 5


if __name__ == "__main__":
    asyncio.run(run(float(sys.argv[1]), float(sys.argv[2])))
