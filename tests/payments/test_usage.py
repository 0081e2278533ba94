"""Who used how much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payments.books import day_of
from gateway.payments.customer import Customer
from gateway.payments.ledger import Clocks, Ledger
from gateway.payments.steps import Outcome
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.usage import SPENT, Every, Period, UsageOwner, UsedBy, sums
from gateway.reason import EndReason
from harness.payment_models import PRICE
from tests.payments.ledgers import pay, payment, record

DAY = 24 * 3600 * 10**9
MIDNIGHT = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp()) * 10**9

session = st.fixed_dictionaries(
    {
        "session": st.integers(1, 20),
        "publisher": st.sampled_from(["customer ann", "customer bob", "token abc", "address 192.0.2.1", ""]),
        "customer": st.sampled_from(["ann", "bob", ""]),
        "markup": st.none() | st.fractions(Fraction(1, 100), 100),
        "app": st.sampled_from(["", "a/b"]),
        "orchestrator_address": st.sampled_from(["0xAA", "0xBB"]),
        "stream_id": st.sampled_from(["one", "two"]),
        "request_id": st.sampled_from(["r1", "r2", "r3"]),
    }
)
paid_day = st.builds(
    lambda of, day, payments, units: {**of, "day": day, "payments": payments, **units},
    session,
    st.sampled_from(["2026-01-31", "2026-02-01"]),
    st.integers(0, 5),
    st.fixed_dictionaries({outcome.value: st.integers(0, 10**90) for outcome in Outcome}),
)
ended = st.builds(
    lambda of, at, price, owed: {**of, "closed_wall_ns": at, "price": price, "owed": owed},
    session,
    st.integers(MIDNIGHT - DAY, MIDNIGHT + DAY),
    st.fractions(0, 10**15),
    st.none() | st.fractions(0, 10**18),
)


@given(st.lists(paid_day), st.lists(ended), st.sampled_from(UsedBy), st.sampled_from(Every))
def test_however_it_is_grouped_nothing_is_lost_and_nothing_counts_twice(
    days: list[dict[str, Any]], ends: list[dict[str, Any]], by: UsedBy, every: Every
) -> None:
    rows = sums(days, ends, by, every)
    spent = sum(day[outcome.value] for day in days for outcome in SPENT)
    assert sum(row.units for row in rows) == spent
    assert sum(row.payments for row in rows) == sum(day["payments"] for day in days)
    seconds = sum(end["owed"] / end["price"] for end in ends if end["owed"] is not None and end["price"])
    assert sum(row.seconds for row in rows) == seconds
    assert len({(row.period, row.key) for row in rows}) == len(rows)
    assert sum((row.wei for row in rows), Fraction(0)) == Fraction(spent, MAX_WIN_PROB)


@given(
    st.lists(paid_day), st.sampled_from(UsedBy), st.sampled_from(Every), st.fractions(Fraction(1, 100), 100)
)
def test_each_session_is_charged_by_its_own_mark_up_exactly(
    days: list[dict[str, Any]], by: UsedBy, every: Every, markup: Fraction
) -> None:
    rows = sums(days, [], by, every)
    charged = sum(
        Fraction(sum(day[outcome.value] for outcome in SPENT), MAX_WIN_PROB)
        * (markup if day["markup"] is None else day["markup"])
        for day in days
    )
    assert sum((row.charged(markup) for row in rows), Fraction(0)) == charged
    assert all(int(row.row(markup)["charged_wei"]) == row.charged(markup) // 1 for row in rows)


def test_what_is_charged_is_exact_and_rounded_once() -> None:
    day = {
        "session": 1,
        "publisher": "token a",
        "customer": "ann",
        "markup": None,
        "app": "",
        "orchestrator_address": "0xAA",
    }
    day |= {"stream_id": "one", "request_id": "r1", "day": "2026-02-01", "payments": 1}
    day |= {outcome.value: 0 for outcome in Outcome} | {"credited": 10 * MAX_WIN_PROB + 1, "refused": 5}
    (row,) = sums([day], [], UsedBy.CUSTOMER, Every.DAY)
    told = row.row(Fraction("1.25"))
    assert (told["key"], told["spent_wei"], told["charged_wei"]) == ("ann", "10", "12")


@pytest.mark.asyncio
async def test_it_is_read_by_customer_and_day(where: str) -> None:
    at = MIDNIGHT - 10 * 10**9
    ledger = await Ledger.open(where, clocks=Clocks(wall_ns=lambda: at))
    one = replace(record("one").job, customer=Customer("ann"))
    ann = await ledger.open_session(replace(record("one"), job=one, publisher="token ann"))
    await pay(ledger, ann, 1, payment(1, 1, 60), "delivered", "credited")
    other = await ledger.open_session(replace(record("two", "0xBB"), publisher="token abc"))
    await pay(ledger, other, 1, payment(2, 1, 60), "delivered", "refused")
    at = MIDNIGHT + 10**9
    await pay(ledger, ann, 2, payment(1, 61, 2), "delivered", "unknown")
    await ledger.close_session(ann, EndReason.PUBLISHER_LEFT, owed=Fraction(11 * PRICE))
    used = await ledger.reader.usage(UsedBy.CUSTOMER, Every.DAY, Period())
    assert [(row.period, row.key, row.wei, row.seconds) for row in used] == [
        ("2026-01-31", "", 0, 0),
        ("2026-01-31", "ann", 60 * PRICE, 0),
        ("2026-02-01", "ann", 2 * PRICE, 11),
    ]
    month = await ledger.reader.usage(UsedBy.ORCHESTRATOR, Every.MONTH, Period(date(2026, 2, 1)))
    assert [(row.period, row.key, len(row.streams)) for row in month] == [("2026-02", "0xAA", 1)]
    before = await ledger.reader.usage(UsedBy.TOKEN, Every.ALL, Period(None, date(2026, 1, 31)))
    assert [(row.period, row.key) for row in before] == [("", "abc"), ("", "ann")]
    own = await ledger.reader.usage(UsedBy.CUSTOMER, Every.ALL, Period(), UsageOwner("token abc", ""))
    assert [(row.key, row.sessions, row.seconds) for row in own] == [("", {2}, 0)]
    own = await ledger.reader.usage(UsedBy.CUSTOMER, Every.ALL, Period(), UsageOwner("token no", "ann"))
    assert [(row.key, row.sessions, row.seconds) for row in own] == [("ann", {1}, 11)]
    assert await ledger.reader.usage(UsedBy.TOKEN, Every.ALL, Period(), UsageOwner("token no")) == []
    assert day_of(at) == "2026-02-01"
    await ledger.close()
