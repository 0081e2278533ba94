"""Live runners of the devnet held against a client and an app that others wrote: the official Python SDK."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.devnet.app.config import AppConfig
from gateway.devnet.app.server import serve
from harness.waiting import within
from tests.devnet.live_kit import SECRET, Live, live
from tests.devnet.test_python_sdk import PYTHON

PROGRAM = Path(__file__).with_name("sdk_live_program.py")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not PYTHON.exists(), reason="the SDK needs Python 3.12, which this machine lacks"),
]


async def program(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(PYTHON, PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE)


async def streamed(at: Live) -> dict[str, Any]:
    """What the SDK's client saw of 11 s through the only app."""
    client = await program("client", at.url, at.signer.url, "11")
    out, _ = await asyncio.wait_for(client.communicate(), 60)
    seen: dict[str, Any] = json.loads(out)
    return seen


def check(seen: dict[str, Any], audit: dict[str, Any]) -> None:
    assert seen["frames"] > 100
    left, right = seen["halves"]
    assert right - left > 60  # the negative of a picture that is bright on its left
    # the opening alone would have lasted 10 s
    assert audit["payments"] > 3
    assert int(audit["min_balance_wei"]) >= 0
    assert (audit["rejected"], audit["duplicate_nonces"], audit["capacity_in_use"]) == (0, 0, 0)


@pytest.mark.asyncio
async def test_the_sdks_client_streams_through_the_devnets_app_in_nodes_dialect() -> None:
    async with live("node", monotonic_ns=time.monotonic_ns, debit_interval=None) as at:
        app = await serve(AppConfig(orchestrator=at.url, secret=SECRET, price="7200"))
        try:
            check(await streamed(at), await at.audit())
        finally:
            await app.stop()


@pytest.mark.asyncio
async def test_the_sdks_client_streams_through_an_app_made_with_the_sdk_in_go_livepeers_dialect() -> None:
    async with live("go", monotonic_ns=time.monotonic_ns, debit_interval=None) as at:
        app = await program("app", at.url, SECRET)
        try:
            assert app.stdout is not None
            assert await within(app.stdout.readline()) == b"registered\n"
            assert (await at.runner())["app"] == "tests/invert"
            check(await streamed(at), await at.audit())
        finally:
            app.kill()
            await within(app.wait())
