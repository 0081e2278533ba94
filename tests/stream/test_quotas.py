from __future__ import annotations

import pytest

from gateway.stream.quotas import Claim, LimitReached, Quotas


def test_a_place_is_free_again_once_it_is_given_back() -> None:
    places = Quotas()
    lease = places.take([Claim("-max", 1)])
    with pytest.raises(LimitReached, match=r"-max \(1\)"):
        places.take([Claim("-max", 1)])
    lease.release()
    lease.release()
    places.take([Claim("-max", 1)])
    with pytest.raises(LimitReached):
        places.take([Claim("-max", 1)])


def test_each_counts_for_itself() -> None:
    places = Quotas()
    places.take([Claim("-maxPerAddress", 1, "a")])
    places.take([Claim("-maxPerAddress", 1, "b")])
    with pytest.raises(LimitReached) as refused:
        places.take([Claim("-maxPerAddress", 1, "a")])
    assert refused.value.claim.key == "a"


def test_all_claims_are_granted_or_none() -> None:
    places = Quotas()
    places.take([Claim("-small", 1)])
    with pytest.raises(LimitReached):
        places.take([Claim("-big", 2), Claim("-small", 1)])
    places.take([Claim("-big", 2)])
    places.take([Claim("-big", 2)])


def test_zero_lifts_a_limit() -> None:
    places = Quotas()
    for _ in range(1000):
        places.take([Claim("-max", 0)])


def test_nothing_is_remembered_of_those_who_left() -> None:
    places = Quotas()
    for lease in [places.take([Claim("-max", 9, str(number))]) for number in range(5)]:
        lease.release()
    assert len(places) == 0
