"""Payments over a network that loses, delays and replaces answers: no gap, and a correct ledger."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from harness.devnet import devnet_process
from harness.fault_proxy import Fault, fault_proxy
from harness.gateway import gateway_process
from harness.ledger import credited, verify
from harness.waiting import SLACK, eventually
from harness.webrtc import WhepViewer, WhipPublisher, longest_gap
from tests.e2e.test_loop import ended

QUIET = 2.5
"""Seconds without faults at the end, so that what was lost last is asked for once more."""


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.long)])
async def test_a_stream_over_a_bad_network_keeps_its_picture_and_the_ledger_equals_the_audits(
    seconds: int, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with (
        devnet_process(tmp_path, "-preload", "10s") as devnet,
        fault_proxy(devnet, seed=seconds, share=0.3) as proxy,
        gateway_process(
            tmp_path,
            *("-remoteSignerUrl", proxy.signer_url, "-orchAddr", proxy.addr, "-maxPricePerUnit", "0.001ETH"),
            *("-livePaymentInterval", "200ms", "-ledger", str(ledger)),
            devnet=False,
        ) as gateway,
    ):
        async with (
            WhepViewer(http, gateway.live("cam/whep")) as viewer,
            WhipPublisher(http, gateway.live("cam/whip")) as publisher,
        ):
            await eventually(lambda: viewer.shows_negative, what="the changed picture")
            since = time.monotonic()
            await asyncio.sleep(seconds)  # the stream's length, not a wait for something
            proxy.share = 0
            await asyncio.sleep(QUIET)
            changed = [moment for moment in viewer.negatives if moment > since]
            assert len(changed) > 15 * seconds
            assert longest_gap(changed) < SLACK
            await publisher.stop()
            status = await ended(gateway, "cam")
        audit = await gateway.fetch(devnet["orchestrators"][0]["audit_url"])
        signer = await gateway.fetch(devnet["signer_audit_url"])
        async with http.get(gateway.live("cam/payments")) as response:
            (told,) = (await response.json())["sessions"]
    summary = await verify(ledger)

    print(dict(proxy.faults), file=sys.stderr)  # noqa: T201 (what the seed made, where the test fails)
    assert status["ended"]["reason"] == "deleted"
    assert status["swaps"] == 0
    if seconds >= 60:
        drawn = {what.removeprefix("signing: ") for what in proxy.faults if what.startswith("signing: ")}
        assert drawn == set(Fault)
    assert {k: audit[k] for k in ("rejected", "duplicate_nonces", "stale_params")} == {
        "rejected": 0,
        "duplicate_nonces": 0,
        "stale_params": 0,
    }
    assert audit["redelivered"] == proxy.faults[f"payment: {Fault.DROP_ANSWER}"] > 0
    assert signer["null_states"] == 1 + proxy.lost_null_states
    assert signer["stale_states"] == proxy.lost_states
    assert signer["overlapping"] == 0
    assert int(audit["min_balance_wei"]) >= 0
    total = int(audit["credited_wei"])
    assert credited(ledger) == int(status["payments"]["credited_wei"]) == total
    assert (summary["credited_wei"], summary["uncertain_wei"]) == (str(total), "0")
    assert told["credited_wei"] == str(total)
    outcomes = Counter(payment["outcome"] for payment in told["payments"])
    # one at most is signed and never sent: a call that was under way when the stream ended
    assert outcomes.pop("unspent", 0) <= 1
    assert outcomes == {"credited": status["payments"]["accepted"]}
