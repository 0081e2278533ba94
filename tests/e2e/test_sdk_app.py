"""A stream through an app that others wrote: made with the network's official SDK, described by a profile."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import gateway_process
from harness.ledger import credited, verify
from harness.waiting import eventually, within
from harness.webrtc import WhepViewer, WhipPublisher
from tests.devnet.live_kit import SECRET, live
from tests.devnet.test_python_sdk import PYTHON
from tests.devnet.test_python_sdk_live import program
from tests.e2e.test_loop import ended

APP = "tests/invert"
PROFILE = f"""
app = "{APP}"

[start]
path = "/echo"
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the SDK needs Python 3.12")


@pytest.mark.asyncio
async def test_a_stream_goes_through_an_app_that_the_sdk_registered(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    profiles, ledger = tmp_path / "profiles", tmp_path / "ledger.sqlite3"
    profiles.mkdir()
    (profiles / "invert.toml").write_text(PROFILE)
    async with live("go", monotonic_ns=time.monotonic_ns, debit_interval=None) as at:
        app = await program("app", at.url, SECRET)
        try:
            assert app.stdout is not None
            assert await within(app.stdout.readline()) == b"registered\n"
            where = ("-remoteSignerUrl", at.signer.url, "-orchAddr", at.url, "-maxPricePerUnit", "0.002ETH")
            flags = (*where, "-app", APP, "-appProfiles", str(profiles), "-ledger", str(ledger))
            async with gateway_process(tmp_path, *flags, devnet=False) as gateway:
                async with (
                    WhepViewer(http, gateway.live("cam/whep")) as viewer,
                    WhipPublisher(http, gateway.live("cam/whip")) as publisher,
                ):
                    await eventually(lambda: viewer.shows_negative, what="the inverted picture")
                    frames = viewer.frames
                    await eventually(lambda: viewer.frames > frames + 30, what="more of them")

                    async def paid_again() -> bool:
                        return int((await gateway.status("cam"))["payments"]["accepted"]) >= 2

                    await eventually(paid_again, every=0.1, what="a second payment")
                    status = await gateway.status("cam")
                    assert (status["orchestrator"]["app"], status["swaps"]) == (APP, 0)
                    await publisher.stop(resume=False)
                last = await ended(gateway, "cam")
                assert last["ended"]["reason"] == "deleted"
            audit = await at.audit()
        finally:
            app.kill()
            await within(app.wait())
    assert (audit["rejected"], audit["duplicate_nonces"], audit["capacity_in_use"]) == (0, 0, 0)
    assert int(audit["credited_wei"]) == credited(ledger) == int(last["payments"]["credited_wei"])
    await verify(ledger)
