from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.presence import Identity, Life
from gateway.cluster.tally import BadTally, Tally, granted, tally_key

NODES = [Identity(node, run) for node in "abc" for run in "12"]
TALLIES = st.dictionaries(st.sampled_from(NODES), st.integers(1, 9)).map(lambda counts: Tally("-max", counts))


@given(TALLIES)
def test_a_key_says_what_was_written(tally: Tally) -> None:
    assert Tally.read(tally.value()) == tally


@given(TALLIES, st.sampled_from(NODES), st.integers(0, 9), st.integers(0, 9), st.integers(0, 30))
def test_nobody_is_granted_more_than_fits(
    tally: Tally, own: Identity, needed: int, more: int, maximum: int
) -> None:
    number = granted(tally, own, needed=needed, wanted=needed + more, maximum=maximum)
    if number is None:
        assert tally.others(own) + needed > maximum
    else:
        assert needed <= number <= needed + more
        assert sum(tally.having(own, number).counts.values()) <= maximum
        assert number == needed + more or tally.others(own) + number == maximum


@given(TALLIES, st.dictionaries(st.sampled_from(NODES), st.sampled_from(Life)))
def test_only_who_is_dead_for_sure_does_not_count(tally: Tally, lives: dict[Identity, Life]) -> None:
    def judge(node: Identity) -> Life:
        return lives.get(node, Life.ALIVE)

    living = tally.living(judge)
    assert {one for one in tally.counts if judge(one) is not Life.DEAD} == set(living.counts)
    assert living.is_unsure(judge) == any(judge(one) is Life.UNSURE for one in tally.counts)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        json.dumps({"v": 2, "limit": "-max", "counts": []}).encode(),
        json.dumps({"v": 1, "limit": "-max", "counts": [["a", "1", 0]]}).encode(),
        json.dumps({"v": 1, "limit": "-max", "counts": [["a", "1", True]]}).encode(),
        json.dumps({"v": 1, "limit": "-max", "counts": [["a", 1, 1]]}).encode(),
        json.dumps({"v": 1, "limit": "-max", "counts": [["a", "1", 1]] * 40_000}).encode(),
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(BadTally):
        Tally.read(value)


def test_keys_are_of_one_token_and_do_not_tell_what_is_counted() -> None:
    assert tally_key("-max", "2001:db8::1") != tally_key("-max", "2001:db8::2") != tally_key("-max2", "")
    assert tally_key("-max", "\N{SNOWMAN}" * 1000).isalnum()
