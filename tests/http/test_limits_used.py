"""What the operator sees of limits."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.http.limits import ClientLimits
from gateway.http.limits_used import limits_used
from gateway.payments.spending import Spending, SpendLimits
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on


@pytest.mark.asyncio
async def test_a_limit_in_dollars_without_a_rate_is_a_limit_of_nothing() -> None:
    spending = Spending(SpendLimits(hour_usd=Fraction(20)))
    rows = limits_used(ClientLimits(0, 0, 5, 0, 0, 0), registry_on(only(FakeSource())), spending)
    assert [row["most"] for row in rows] == [None, "5", "0", None]
