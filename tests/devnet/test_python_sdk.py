"""The devnet held against a client that others wrote: the network's official Python SDK."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import BIN
from harness.waiting import within

PYTHON = Path(sys.prefix) / "sdk" / "bin" / "python"
PROGRAM = Path(__file__).with_name("sdk_program.py")


@pytest.mark.heavy
@pytest.mark.asyncio
@pytest.mark.skipif(not PYTHON.exists(), reason="the SDK needs Python 3.12, which this machine lacks")
async def test_the_official_sdk_streams_through_the_devnet_pays_and_renews_its_token() -> None:
    # tokens so short that the signer wants another within the stream
    flags = ("-orchestrators", "1", "-tokenLife", "3m4s")
    devnet = await asyncio.create_subprocess_exec(
        BIN / "livepeer-devnet", *flags, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert devnet.stdout is not None
        network = json.loads(await asyncio.wait_for(devnet.stdout.readline(), 60))
        orchestrator = network["orchestrators"][0]
        client = await asyncio.create_subprocess_exec(
            PYTHON,
            PROGRAM,
            orchestrator["addr"],
            network["signer"],
            "14",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(client.communicate(), 60)
        seen = json.loads(out)
        assert seen["frames"] > 100
        left, right = seen["halves"]
        assert right - left > 60  # the negative of a picture that is bright on its left
        async with aiohttp.ClientSession() as http, http.get(orchestrator["audit_url"], ssl=False) as answer:
            audit = await answer.json()
        assert audit["tickets"] > 60
        assert (audit["rejected"], audit["duplicate_nonces"]) == (0, 0)
        assert (audit["channels"], audit["capacity_in_use"]) == (0, 0)
    finally:
        devnet.terminate()
        await within(devnet.wait())
