"""The luck of ticket draws."""

from __future__ import annotations

import math
import random
import re
import time
from fractions import Fraction
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chain.luck import at_least, luck_of
from gateway.chain.luck_chart import luck_chart
from gateway.payments.redemptions import TicketsHandedOut, Win
from gateway.payments.ticket import MAX_WIN_PROB

ETHER = 10**18
A, B = "0x" + "Aa" * 20, "0x" + "bB" * 20
ONE_IN_100 = MAX_WIN_PROB // 100


def tickets(
    count: int, *, orchestrator: str = A, day: str = "2026-01-01", chance: int = ONE_IN_100
) -> TicketsHandedOut:
    value = count * ETHER * chance
    return TicketsHandedOut(
        orchestrator, day, count, count * chance, value, value * ETHER * (MAX_WIN_PROB - chance)
    )


def wins(count: int, *, orchestrator: str = A, day: str = "2026-01-01", known: bool = True) -> list[Win]:
    return [Win(orchestrator, day, ETHER, known)] * count


def test_expected_spread_and_redeemed_are_exact() -> None:
    (luck,) = luck_of([tickets(60), tickets(40)], wins(2))
    assert luck.tickets == 100
    assert luck.expected == 100 * ETHER * Fraction(ONE_IN_100, MAX_WIN_PROB)
    assert luck.spread == pytest.approx(ETHER * math.sqrt(100 * 0.01 * 0.99))
    assert (luck.wins, luck.redeemed) == (2, 2 * ETHER)


def test_days_and_orchestrators_are_kept_apart_whatever_the_case_of_addresses() -> None:
    handed = [
        tickets(1),
        tickets(2, orchestrator=B),
        tickets(3, day="2026-01-02"),
        tickets(4, orchestrator=A.lower()),
    ]
    rows = luck_of(handed, wins(1, orchestrator=A.upper().replace("0X", "0x")))
    assert [(row.day, row.tickets, row.wins) for row in rows] == [
        ("2026-01-01", 5, 1),
        ("2026-01-01", 2, 0),
        ("2026-01-02", 3, 0),
    ]


def test_an_orchestrator_that_redeems_too_much_is_suspicious() -> None:
    rows = luck_of([tickets(100), tickets(100, orchestrator=B)], [*wins(2), *wins(9, orchestrator=B)])
    assert [row.suspicious for row in rows] == [False, True]
    assert rows[1].row()["verdict"] == "more than chance explains"
    (impossible,) = luck_of([tickets(1)], wins(2))
    assert impossible.chance == 0


def test_redemptions_of_no_payment_here_are_told_apart() -> None:
    (luck,) = luck_of([tickets(10)], wins(3, known=False))
    assert (luck.wins, luck.unknown_wins, luck.unknown_redeemed) == (0, 3, 3 * ETHER)
    assert not luck.suspicious


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.01, 0.3, 0.5, 1.0])), max_size=3),
    st.integers(0, 20),
)
def test_the_chance_is_the_sum_over_all_outcomes(groups: list[tuple[int, float]], least: int) -> None:
    outcomes = {0: 1.0}
    for draws, probability in groups:
        for _ in range(draws):
            after: dict[int, float] = {}
            for won, chance in outcomes.items():
                after[won] = after.get(won, 0) + chance * (1 - probability)
                after[won + 1] = after.get(won + 1, 0) + chance * probability
            outcomes = after
    truth = sum(chance for won, chance in outcomes.items() if won >= least)
    assert at_least(least, groups) == pytest.approx(truth, abs=1e-9)


@given(st.integers(1, 3000), st.sampled_from([0.001, 0.01, 0.2, 0.9]))
def test_the_range_that_chance_explains_ends_where_suspicion_begins(count: int, probability: float) -> None:
    some = tickets(count, chance=int(probability * MAX_WIN_PROB))
    (luck,) = luck_of([some], [])
    least, most = (round(wei / ETHER) for wei in luck.likely)
    assert 0 <= least <= luck.expected_wins <= most + 1
    luck.wins = most
    assert not luck.suspicious
    luck.wins = most + 1
    assert luck.suspicious


def test_a_day_with_many_win_probabilities_is_computed_fast() -> None:
    handed = [tickets(192, chance=ONE_IN_100 + n * ONE_IN_100 // 90) for n in range(90)]
    began = time.process_time()
    (luck,) = luck_of(handed, wins(260))
    assert 0.3 < luck.chance < 0.7
    assert luck.likely[0] < luck.expected < luck.likely[1]
    assert time.process_time() - began < 5


def test_honest_orchestrators_are_hardly_ever_suspected() -> None:
    draw = random.Random(7)
    days = [sum(draw.random() < 0.01 for _ in range(500)) for _ in range(1000)]
    suspected = sum(at_least(won, [(500, 0.01)]) < 0.001 for won in days)
    assert suspected <= 5


def test_the_chart_is_an_svg_without_external_resources() -> None:
    chart = luck_chart(luck_of([tickets(100), tickets(9, orchestrator=B)], wins(2)))
    root = ElementTree.fromstring(chart)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"src=" not in chart
    assert b"googleapis" not in chart
    assert b"@import" not in chart
    assert b"2026-01-01 0xAaAa..AaAa" in re.sub(rb"\s+", b" ", chart)
    assert b"prefers-color-scheme: dark" in chart
    ElementTree.fromstring(luck_chart([]))
