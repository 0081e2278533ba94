"""An orchestrator at an address that is not ours, whose service URI points at our loopback: run by a test.

Runs in a network namespace of its own (`tests.link.network.run_inside`), where an address is easily had.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from pathlib import Path

from harness.devnet import devnet_process
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from tests.e2e.sessions import PUBLISH, SDP

ELSEWHERE = "203.0.113.7"


async def run(folder: Path) -> None:
    async with devnet_process(folder) as devnet:
        host, port = devnet["orchestrators"][0]["addr"].split(":")

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_reader, to_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer), return_exceptions=True)

        server = await asyncio.start_server(relay, ELSEWHERE, 0)
        orchestrator = f"{ELSEWHERE}:{server.sockets[0].getsockname()[1]}"
        flags = ("-remoteSignerUrl", devnet["signer"], "-orchAddr", orchestrator, "-maxPricePerUnit", "1ETH")
        async with gateway_process(folder, *flags, devnet=False, wait_ready=False) as gateway:
            await _is_passed_over(gateway)
        server.close()


async def _is_passed_over(gateway: GatewayProcess) -> None:
    await gateway.listening()

    async def judged() -> bool:
        (listed,) = (await gateway.get("orchestrators"))["orchestrators"]
        return listed["verdict"] == "bad_answer" and "points to 127.0.0.1" in listed["detail"]

    await eventually(judged, what="the verdict")
    async with gateway.http.post(gateway.live("cam/whip"), data=PUBLISH, headers=SDP) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (503, "no_orchestrator")
        assert problem["candidates"][0]["verdict"] == "bad_answer"
    await gateway.given_back()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", f"{ELSEWHERE}/32", "dev", "lo"], check=True)
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(run(Path(made)))
