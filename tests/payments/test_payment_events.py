"""Which events of payments there are, and who gets them."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from gateway.payments.payment_events import NearLimits
from gateway.payments.spending import PublisherBudget, Spending, SpendLimits
from gateway.telemetry.events import EventHub, StreamKey

CAM = StreamKey("cam", "cam", "r1", "token 1", "ann")


@pytest.mark.asyncio
async def test_who_watches_a_stream_is_told_of_its_own_limit_and_not_of_what_its_publisher_spent() -> None:
    hub, spending = EventHub(), Spending(SpendLimits(hour=100, day=100))
    budget = PublisherBudget("token 1", hour=100, day=100)
    spending.hold("cam", Fraction(90), 100, budget)
    with hub.reading(None, "", lambda: None) as operator, hub.reading("cam", "", lambda: None) as viewer:
        NearLimits(hub, spending).check(CAM, "cam", 100, budget, 0)
        live = [await operator.take(1), await viewer.take(1)]
    with (
        hub.reading(None, "all", lambda: None) as operator,
        hub.reading("cam", "all", lambda: None) as viewer,
    ):
        assert [await operator.take(1), await viewer.take(1)] == live, "who comes later gets the same"
    told = [
        [json.loads(line[6:])["data"]["limit"] for line in (text or b"").splitlines() if line[:5] == b"data:"]
        for text in live
    ]
    assert told == [["stream", "publisher_hour", "publisher_day", "hour", "day"], ["stream"]]
