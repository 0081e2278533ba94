"""Dollars: exact, never more than was said, and nothing new on a rate that is too old."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.eth_rate import STALE_AFTER, WEI_PER_ETH, DollarPrice, EthRate, Usd, moving, usd_of, wei_now
from gateway.http.streams import in_usd
from gateway.payments.capability_prices import parse_capability_prices
from gateway.payments.ceiling import PriceCeiling, parse_amount, parse_limit
from gateway.payments.resources import PaymentResources
from gateway.payments.spending import (
    NO_LIMITS,
    Spending,
    SpendLimitReached,
    SpendLimits,
    StreamLimits,
)
from gateway.reason import EndReason
from gateway.stream.admission import NotAdmitted
from gateway.stream.seam import PublishRequest
from tests.e2e.sessions import PUBLISH
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on

dollars = st.fractions(0, 10**9, max_denominator=10**8)
rates = st.fractions(Fraction(1, 10**6), 10**6, max_denominator=10**8)
wei = st.integers(0, 10**24)
stream_limits = st.builds(
    StreamLimits,
    wei=st.none() | wei,
    publisher_hour=st.none() | wei,
    publisher_day=st.none() | wei,
    usd=st.none() | dollars,
    publisher_hour_usd=st.none() | dollars,
    publisher_day_usd=st.none() | dollars,
)


@given(dollars, rates)
def test_dollars_become_wei_and_dollars_again_exactly(amount: Fraction, rate: Fraction) -> None:
    assert usd_of(Usd(amount).wei(rate), rate) == amount


@given(stream_limits, rates)
def test_a_limit_in_dollars_is_the_most_whole_wei_that_it_is_worth(
    limits: StreamLimits, rate: Fraction
) -> None:
    chosen = limits.in_wei(rate)
    assert not chosen.in_usd
    for most, of_wei, of_usd in (
        (chosen.wei, limits.wei, limits.usd),
        (chosen.publisher_hour, limits.publisher_hour, limits.publisher_hour_usd),
        (chosen.publisher_day, limits.publisher_day, limits.publisher_day_usd),
    ):
        bounds = [] if of_wei is None else [of_wei]
        bounds += [] if of_usd is None else [floor(of_usd * WEI_PER_ETH / rate)]
        assert most == (min(bounds) if bounds else None)


@given(stream_limits, stream_limits, rates)
def test_lowering_first_or_later_is_the_same(one: StreamLimits, other: StreamLimits, rate: Fraction) -> None:
    both = one.in_wei(rate).lowered_by(other.in_wei(rate))
    assert one.lowered_by(other).in_wei(rate) == both


def test_without_a_rate_dollars_are_nothing_that_may_be_spent() -> None:
    assert StreamLimits(wei=5, usd=Fraction(1)).in_wei(None).wei == 0
    spending = Spending(SpendLimits(day_usd=Fraction(5)), rate=EthRate())
    with pytest.raises(SpendLimitReached):
        spending.check(Fraction(1))


@given(stream_limits, st.none() | rates)
def test_a_publish_keeps_its_limits_and_its_rate_over_a_restart(
    limits: StreamLimits, rate: Fraction | None
) -> None:
    request = PublishRequest("cam", "cam", "1", "m", limits=limits, eth_usd=rate)
    again = PublishRequest.parse(request.json())
    assert (again.limits, again.eth_usd, again.wei_limits) == (limits, rate, request.wei_limits)
    before = {name: value for name, value in request.json().items() if name != "eth_usd"}
    before["limits"] = {n: v for n, v in before["limits"].items() if "usd" not in n}
    assert PublishRequest.parse(before).limits == PublishRequest.parse(before).wei_limits


def test_who_comes_back_after_the_rate_moved_goes_on_with_its_job_and_its_limits() -> None:
    limits = StreamLimits(usd=Fraction(3))
    former = PublishRequest("cam", "cam", "1", "m", limits=limits, eth_usd=Fraction(3000))
    later = PublishRequest(
        "cam", "cam", "2", "m", limits=limits, eth_usd=Fraction(1500), wall_ns=former.wall_ns
    )
    assert later.continues(former)
    assert (former.wei_limits.wei, later.wei_limits.wei) == (10**15, 2 * 10**15)


def test_limits_on_all_streams_move_with_the_rate() -> None:
    rate = EthRate(wall=lambda: 0.0)
    spending = Spending(SpendLimits(hour=5 * 10**15, hour_usd=Fraction(3)), rate=rate)
    rate.update(Fraction(3000), 0)
    assert spending.limits == SpendLimits(hour=10**15)
    rate.update(Fraction(300), 0)
    assert spending.limits == SpendLimits(hour=5 * 10**15)


@given(dollars, rates)
def test_a_price_in_dollars_is_exact_at_any_rate(amount: Fraction, value: Fraction) -> None:
    rate = EthRate(value)
    price = moving(Usd(amount), rate)
    assert wei_now(price) == amount * WEI_PER_ETH / value
    assert wei_now(moving(Fraction(7), rate)) == 7
    assert wei_now(moving(None, rate)) is None
    assert wei_now(moving(Usd(amount), EthRate())) == 0


def test_a_rate_is_good_for_two_hours_and_known_for_longer() -> None:
    now = [1_000_000.0]
    rate = EthRate(expected=True, required=True, wall=lambda: now[0])
    refusal = rate.refusal()
    assert refusal is not None
    assert "not known yet" in refusal
    rate.update(Fraction(3000), now[0])
    now[0] += STALE_AFTER - 1
    assert (rate.refusal(), rate.current) == (None, 3000)
    now[0] += 1
    refusal = rate.refusal()
    assert refusal is not None
    assert "2 h old" in refusal
    assert (rate.current, rate.last) == (None, 3000)
    rate.update(Fraction(2500), now[0])
    assert rate.current == 2500
    assert EthRate(Fraction(2), wall=lambda: 10**12).current == 2
    with pytest.raises(ValueError, match="above 0"):
        rate.update(Fraction(0), now[0])


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("0.50USD/h", Fraction(1, 7200)),
        ("3.6usd/h", Fraction(1, 1000)),
        ("0.001USD", Fraction(1, 1000)),
    ],
)
def test_ceilings_may_be_in_dollars(text: str, per_second: Fraction) -> None:
    price = PriceCeiling.parse(text)
    assert price.price(None) == Usd(per_second)
    assert not price.is_suspiciously_low(None)
    for wrong in (price.per_second, lambda _: price.price(1)):
        with pytest.raises(ValueError):
            wrong(None)
    prices = parse_capability_prices(
        f'{{"capabilities_prices": [{{"pipeline": "live-video-to-video", "model_id": "m", '
        f'"price_per_unit": "{text}"}}]}}'
    )
    assert prices == {"m": Usd(per_second)}


def test_limits_may_be_in_dollars_and_tickets_may_not() -> None:
    assert parse_limit("5USD") == Usd(Fraction(5))
    assert parse_limit("0.333333USD") == Usd(Fraction(333333, 10**6))
    assert parse_limit("5gwei") == 5 * 10**9
    for text in ("5USD/h", "USD", "5 EUR", "-5USD", "1e9USD"):
        with pytest.raises(ValueError):
            parse_limit(text)
    with pytest.raises(ValueError, match="wei or ETH"):
        parse_amount("5USD")
    assert not NO_LIMITS.in_usd


class Priced(FakeSource):
    """Starts cost something, or nothing."""

    def __init__(self, cost: int) -> None:
        super().__init__(urls="ab", name="network")
        self.first_payment = Fraction(cost)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("required", "limits", "cost", "refused"),
    [
        (True, NO_LIMITS, 60, True),
        (False, StreamLimits(usd=Fraction(5)), 60, True),
        (False, NO_LIMITS, 60, False),
        (True, NO_LIMITS, 0, False),
    ],
)
async def test_on_a_stale_rate_nothing_starts_that_costs_something_by_it(
    required: bool, limits: StreamLimits, cost: int, refused: bool
) -> None:
    now = [0.0]
    rate = EthRate(expected=True, required=required, wall=lambda: now[0])
    rate.update(Fraction(2000), 0)
    registry = registry_on(only(Priced(cost)), rate=rate)
    request = PublishRequest("cam", "cam", "1", "m", limits=limits)
    running = await registry.publish(request, PUBLISH)
    assert running.request.eth_usd == 2000
    now[0] = STALE_AFTER
    other = PublishRequest("cam2", "cam2", "2", "m", limits=limits)
    if refused:
        with pytest.raises(NotAdmitted, match="too old") as error:
            await registry.publish(other, PUBLISH)
        assert error.value.code == "rate_unknown"
    else:
        await registry.publish(other, PUBLISH)
    assert registry.find("cam") is running
    await registry.close(EndReason.DRAINED, "the test is over")


def test_a_session_begins_with_the_ceiling_of_then_and_keeps_it() -> None:
    rate = EthRate(expected=True, wall=lambda: 0.0)
    none: Any = None
    resources = PaymentResources(none, "", none, Spending(SpendLimits()), Fraction(0), 1, none).at(
        DollarPrice(Usd(Fraction(3)), rate)
    )
    assert resources.now().ceiling == 0
    rate.update(Fraction(3000), 0)
    begun = resources.now()
    rate.update(Fraction(1500), 0)
    assert (begun.ceiling, resources.now().ceiling) == (10**15, 2 * 10**15)
    fixed = resources.at(Fraction(7))
    assert fixed.now() is fixed


def test_status_has_dollars_where_the_rate_is_known_and_something_is_paid() -> None:
    paid = {"credited_wei": "2000000000000000", "owed_wei": "1"}
    status = {"payments": paid, "orchestrator": {"price_wei_per_second": "1000000000000000/3"}}
    assert in_usd(status, Fraction(3000)) == {
        "eth_usd": "3000",
        "credited": "6",
        "owed": "0",
        "price_per_hour": "3600",
    }
    assert in_usd({**status, "orchestrator": None}, Fraction(3000)) is not None
    assert in_usd(status, None) is None
    assert in_usd({**status, "payments": None}, Fraction(3000)) is None
