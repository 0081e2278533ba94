"""The chaos run: its accounting, and a minute of it without a broken promise."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.__main__ import CANDIDATES, chaos
from benchmarks.chaos.books import Entry, Life, faults_in, handed_out_again, most_stolen, stolen, unexplained
from benchmarks.chaos.discovery import lies_about
from benchmarks.chaos.faults import FAULTS, RUNNER_FAULTS
from gateway.runner.offer import offers_in

AUDIT = {"rejected": 0, "duplicate_nonces": 0, "stale_params": 0, "min_balance_wei": "5"}
CREDITED = Entry("0xa", Fraction(7), delivered=20, credited=21, refused=False, unknown=False, closed=True)
PERHAPS = replace(CREDITED, value=Fraction(3), delivered=22, credited=None, unknown=True)
REFUSED = replace(CREDITED, value=Fraction(5), credited=None, refused=True)


def life(credited: int, *, began: int = 10, asked: int = 30) -> Life:
    return Life("0xA", began, asked, asked + 1, {"credited_wei": str(credited)})


def test_what_the_audit_and_the_ledger_agree_on_is_explained() -> None:
    assert unexplained([CREDITED, REFUSED], [life(7)]) == 0


def test_a_payment_without_an_outcome_may_have_been_credited_or_not() -> None:
    for credited in (7, 10):
        assert unexplained([CREDITED, PERHAPS], [life(credited)]) == 0


def test_what_a_killed_process_may_have_credited_the_next_one_may_refuse() -> None:
    again = replace(REFUSED, unknown=True)
    for credited in (0, 5):
        assert unexplained([again], [life(credited)]) == 0
    assert unexplained([again], [life(6)]) == 1
    assert handed_out_again([again, CREDITED, REFUSED], "0xA") == 1
    assert faults_in({**AUDIT, "rejected": 1}, 1) == {}
    assert faults_in({**AUDIT, "rejected": 2}, 1) == {"rejected": 2}


def test_what_only_the_ledger_or_only_the_audit_has_is_unexplained() -> None:
    assert unexplained([CREDITED], [life(5)]) == 2
    assert unexplained([CREDITED], [life(11)]) == 4
    assert unexplained([CREDITED], [life(0)]) == 7
    assert unexplained([CREDITED, REFUSED], [life(12)]) == 5


def test_a_process_accounts_for_its_own_lifetime_only() -> None:
    assert unexplained([CREDITED], [life(0, began=21)]) == 0, "paid to the one before it"
    assert unexplained([CREDITED], [life(7), life(0, began=31, asked=40)]) == 0
    assert unexplained([CREDITED], [life(0, asked=19)]) == 0, "paid after it was asked"
    assert unexplained([replace(CREDITED, address="0xb")], [life(0)]) == 0


def test_a_payment_that_was_never_delivered_is_unexplained_until_its_session_is_closed() -> None:
    lost: dict[str, Any] = {"delivered": None, "credited": None}
    assert unexplained([replace(CREDITED, **lost, closed=False)], []) == 7
    assert unexplained([replace(CREDITED, **lost)], []) == 0


def test_what_was_handed_to_others_than_the_honest_is_stolen() -> None:
    handed_out = replace(REFUSED, address="0xthief")
    withheld = replace(handed_out, delivered=None)
    assert stolen([CREDITED, PERHAPS, handed_out, withheld], {"0xa"}) == 5
    assert stolen([CREDITED, PERHAPS], set()) == 10


@pytest.mark.parametrize(
    ("seconds", "starts"), [(0, 1), (29, 1), (30, 2), (89, 2), (90, 3), (210, 4), (3600, 7), (86_400, 12)]
)
def test_a_thief_may_take_a_start_and_one_more_for_each_back_off_in_the_run(
    seconds: float, starts: int
) -> None:
    assert most_stolen(3, seconds, start=60) == 3 * 60 * starts


def test_a_clean_audit_has_no_faults() -> None:
    assert faults_in(AUDIT) == {}
    assert faults_in({**AUDIT, "rejected": 2, "min_balance_wei": "-1"}) == {
        "rejected": 2,
        "min_balance_wei": -1,
    }
    assert faults_in({**AUDIT, "min_balance_wei": "-2"}, debt=2) == {}
    assert faults_in({**AUDIT, "min_balance_wei": "-3"}, debt=2) == {"min_balance_wei": -3}


def test_what_is_told_falsely_of_a_live_runner_changes_its_offer() -> None:
    price = {"price": 10**15, "currency": "wei", "unit": "seconds"}
    runner = {"url": "http://a.example/apps/1/session", "app": "echo", "price_info": price}
    runner |= {"capacity": 1, "capacity_available": 1}
    told = [offers_in([{"runners": [{**runner, **lie}]}], "") for lie in ({}, *lies_about(runner))]
    assert all(told) and all(false != told[0] for false in told[1:])
    assert sum(0 < (false[0].price or 0) < 10**15 for false in told) == 2, "it lures by its price"


@pytest.mark.alone
@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    ("minutes", "seed", "runners", "kinds"),
    [
        pytest.param(1, 179, 0, 6, id="a minute that begins with one fault of each kind"),
        pytest.param(3, 7, 0, len(FAULTS), id="three minutes", marks=pytest.mark.long),
        pytest.param(
            3,
            397,
            CANDIDATES // 2,
            len((*FAULTS, *RUNNER_FAULTS)) - 1,
            id="three minutes where half of the candidates are live runners, in a node's dialect",
            marks=pytest.mark.long,
        ),
    ],
)
@pytest.mark.asyncio
async def test_faults_break_no_promise(
    minutes: int, seed: int, runners: int, kinds: int, tmp_path: Path
) -> None:
    summary = await chaos(minutes, seed, tmp_path, runners=runners)
    assert summary["broken"] == []
    assert summary["faults"] >= 6 * minutes
    assert len(summary["faults_by_name"]) >= kinds
    assert summary["stolen_s_per_hour"] > 0, "half of the orchestrators cheat"
    assert summary["audits_checked"] >= 6, "each honest orchestrator's"
    assert summary["audits_read"] > 12, "those of processes before they were killed among them"
