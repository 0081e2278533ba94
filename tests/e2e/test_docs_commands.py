"""The commands of the documents that start a gateway or ask one, run as they stand.

Only names that stand for somebody else's machine are replaced, and the ports, so that tests can run at once.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest

from harness.devnet import devnet_process
from harness.gateway import GatewayProcess, gateway_process
from harness.waiting import eventually
from harness.webrtc import WhipPublisher
from tests.docs.documents import BLOCKS, ROOT, Document

STARTS = [block for block in BLOCKS if block.is_run and block.starts_a_gateway]
ASKS = [block for block in BLOCKS if block.is_run and block.asks_a_gateway]
ONLY_BY_FLAGS = {("GET", "/chain"), ("GET", "/chain/luck.svg"), ("POST", "/live/video-to-video")}
"""Routes that a gateway has with a chain, or with tokens for its API."""


def in_place(command: str) -> tuple[str, ...]:
    """The program that runs `command`, with further flags, in the project's folder and in its own place."""
    return ("bash", "-c", f'cd "{ROOT}" && exec {command} "$@"', "bash")


async def told(gateway: GatewayProcess, folder: Path, commands: str) -> str:
    """What the commands print that ask the gateway; any refusal fails."""
    (folder / ".curlrc").write_text("fail\nshow-error\nmax-time = 30\n")
    environment = {**os.environ, "CURL_HOME": str(folder), "LP_DATADIR": str(folder / "data")}
    asking = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-c", commands.replace("http://127.0.0.1:9935/", gateway.url)),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(asking.communicate(), 60)
    assert asking.returncode == 0, commands
    return said.decode()


async def served(gateway: GatewayProcess) -> set[tuple[str, str]]:
    paths = (await gateway.get("openapi.json"))["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def documented() -> set[tuple[str, str]]:
    cells = [row[0].strip("`").partition(" ") for row in Document("docs/api.md").table("route")]
    return {(method, path) for method, _, path in cells}


@pytest.mark.asyncio
async def test_the_first_command_serves_a_stream_that_the_others_can_ask_about(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    first, *_ = STARTS
    flags = ("-dataDir", str(tmp_path / "data"))
    async with (
        gateway_process(tmp_path, *flags, devnet=False, program=in_place(first.commands)) as gateway,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):

        async def paid() -> bool:
            status = await gateway.status("cam")
            return status["state"] == "live" and status["payments"]["accepted"] > 0

        await eventually(paid, what="a payment")
        for block in ASKS:
            assert await told(gateway, tmp_path, block.commands), block
        assert documented() - ONLY_BY_FLAGS == await served(gateway)


@pytest.mark.asyncio
async def test_every_other_gateway_that_they_start_becomes_ready(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret")
    async with devnet_process(tmp_path, "-orchestrators", "2", "-comfyStream", "1") as devnet:
        one, two = (orchestrator["addr"] for orchestrator in devnet["orchestrators"])
        here = {
            "https://signer.example": devnet["signer"],
            "orchestrator-1.example:8935": one,
            "orchestrator-2.example:8935": two,
            "http://gpu-box:8889": devnet["comfystreams"][0]["url"],
            "publish.tokens": str(tokens),
        }
        for number, block in enumerate(STARTS[1:]):
            folder = tmp_path / str(number)
            folder.mkdir()
            command = block.commands
            for elsewhere, place in here.items():
                command = command.replace(elsewhere, place)
            async with gateway_process(folder, devnet=False, program=in_place(command)) as gateway:
                async with gateway.http.get(f"{gateway.url}readyz") as answer:
                    assert answer.status == 200, block
                assert await gateway.stop() == 0, block
