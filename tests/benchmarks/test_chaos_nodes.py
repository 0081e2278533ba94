"""The chaos run on nodes: how it judges names and sessions, and a minute of it without a broken promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.chaos.cluster_ledger import Signed, signed_by_two
from benchmarks.chaos.name_history import Gap, Written, taken_from_the_living, taken_over
from benchmarks.chaos.nodes import nodes_chaos

S = 10**9
OWNED = Written("cam", revision=7, replaces=0, node="a", incarnation="1", left=False, at=10 * S)
TAKEN = Written("cam", revision=9, replaces=7, node="b", incarnation="1", left=False, at=20 * S)
SIGNED = Signed(session=1, number=1, writer="a", owner="a", epoch=1)


@pytest.mark.parametrize(
    ("gaps", "wrong"),
    [
        ([], True),
        ([Gap("a", 19 * S, over=True)], False),
        ([Gap("b", 19 * S, over=True)], True),
        ([Gap("a", 9 * S, over=True)], True),
        ([Gap("a", 21 * S, over=True)], True),
        ([Gap("a", 15 * S, over=False)], False),
        ([Gap("a", 15 * S, over=False, ended=19 * S + S // 2)], False),
        ([Gap("a", 15 * S, over=False, ended=18 * S)], True),
        ([Gap("a", 20 * S - S // 2, over=False)], True),
    ],
)
def test_a_name_may_be_taken_from_a_run_that_is_over_or_halted(gaps: list[Gap], wrong: bool) -> None:
    assert bool(taken_from_the_living([OWNED, TAKEN], gaps)) is wrong


def test_a_name_that_was_left_or_given_back_or_is_written_again_is_not_taken() -> None:
    assert taken_over([replace(OWNED, left=True), TAKEN]) == []
    assert taken_over([OWNED, replace(TAKEN, replaces=0)]) == []
    assert taken_over([OWNED, replace(TAKEN, node="a")]) == []
    assert taken_over([OWNED, replace(TAKEN, name="other")]) == []
    assert len(taken_over([OWNED, replace(TAKEN, node="a", incarnation="2")])) == 1


def test_each_session_is_signed_for_by_who_has_it() -> None:
    on = replace(SIGNED, number=2, writer="b", owner="b", epoch=2)
    assert signed_by_two([SIGNED, on, replace(SIGNED, session=2)]) == []
    assert len(signed_by_two([replace(SIGNED, writer="b")])) == 1
    assert len(signed_by_two([SIGNED, replace(on, epoch=1)])) == 1
    assert len(signed_by_two([on, replace(SIGNED, number=3)])) == 1
    assert len(signed_by_two([SIGNED, replace(on, number=1)])) == 1


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(420)
@pytest.mark.asyncio
async def test_faults_of_nodes_and_engines_break_no_promise(tmp_path: Path) -> None:
    summary = await nodes_chaos(1, 3, tmp_path, nodes=3)
    assert summary["broken"] == []
    assert summary["faults"] >= 4
    assert summary["payments"] > 0
