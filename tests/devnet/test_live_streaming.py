"""A stream through the devnet's app behind live runners, with a plain client and the signer."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.devnet.app.config import AppConfig
from gateway.devnet.app.server import EchoApp
from gateway.devnet.app.server import serve as serve_app
from gateway.devnet.live_runners.price import usd_per_hour
from harness.waiting import eventually, within
from tests.devnet.live_kit import SECRET, WEI_PER_SECOND, Live, live
from tests.devnet.runner_kit import NEGATIVE, look, make_segments, near

pytestmark = pytest.mark.heavy


async def app_at(at: Live, **settings: Any) -> EchoApp:
    from fractions import Fraction

    return await serve_app(
        AppConfig(
            orchestrator=at.url, secret=SECRET, price=usd_per_hour(Fraction(WEI_PER_SECOND)), **settings
        )
    )


@pytest.mark.parametrize("dialect", ["go", "node"])
@pytest.mark.asyncio
async def test_pictures_come_back_changed_and_the_session_is_paid(dialect: str) -> None:
    async with live(dialect, monotonic_ns=time.monotonic_ns, debit_interval=None) as at:
        app = await app_at(at, text=True)
        try:
            session, challenge, signed = await at.reserve()
            started = await at.post(session["app_url"] + "/echo", json={"mode": "invert"})
            assert started.status == 200, started
            urls = started.json
            assert urls["session"] == session["session_id"]
            assert set(urls) == {"session", "in", "out", "text"}
            segments = make_segments(3)
            assert (await at.post(f"{urls['in']}/0", data=segments[0].data)).status == 200
            async with at.http.get(f"{urls['out']}/0") as first:
                shown = await within(first.content.readany())
                for number, segment in enumerate(segments[1:], start=1):
                    assert (await at.post(f"{urls['in']}/{number}", data=segment.data)).status == 200
                assert (await at.call("DELETE", urls["in"])).status == 200  # its end is the output's
                shown += await within(first.read())
            assert near(look(shown).pixels[0], NEGATIVE)
            assert (await at.post(session["app_url"] + "/update", json={"mode": "gray"})).status == 200
            paid = await at.pay(challenge["payment_url"], await at.signed(challenge, signed["state"]))
            assert paid.status == 200
            stopped = await at.post(session["control_url"] + "/stop")
            assert stopped.status == {"go": 204, "node": 200}[dialect]
            audit = await at.audit()
            assert (audit["payments"], audit["rejected"], audit["capacity_in_use"]) == (2, 0, 0)
            assert int(audit["credited_wei"]) >= 11 * WEI_PER_SECOND
            await eventually(lambda: app.sessions == 0)
            assert (await at.audit())["channels"] == 0
        finally:
            await app.stop()
