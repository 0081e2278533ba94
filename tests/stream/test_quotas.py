from __future__ import annotations

import pytest

from gateway.stream.quotas import Claim, LimitReached, Quotas


def test_a_place_is_free_again_once_it_is_given_back() -> None:
    quotas = Quotas()
    reservation = quotas.take([Claim("-max", 1)])
    with pytest.raises(LimitReached, match=r"-max \(1\)"):
        quotas.take([Claim("-max", 1)])
    reservation.release()
    reservation.release()
    quotas.take([Claim("-max", 1)])
    with pytest.raises(LimitReached):
        quotas.take([Claim("-max", 1)])


def test_each_counts_for_itself() -> None:
    quotas = Quotas()
    quotas.take([Claim("-maxPerAddress", 1, "a")])
    quotas.take([Claim("-maxPerAddress", 1, "b")])
    with pytest.raises(LimitReached) as refused:
        quotas.take([Claim("-maxPerAddress", 1, "a")])
    assert refused.value.claim.key == "a"


def test_all_claims_are_granted_or_none() -> None:
    quotas = Quotas()
    quotas.take([Claim("-small", 1)])
    with pytest.raises(LimitReached):
        quotas.take([Claim("-big", 2), Claim("-small", 1)])
    quotas.take([Claim("-big", 2)])
    quotas.take([Claim("-big", 2)])


def test_zero_lifts_a_limit() -> None:
    quotas = Quotas()
    for _ in range(1000):
        quotas.take([Claim("-max", 0)])


def test_nothing_is_remembered_of_those_who_left() -> None:
    quotas = Quotas()
    for reservation in [quotas.take([Claim("-max", 9, str(number))]) for number in range(5)]:
        reservation.release()
    assert len(quotas) == 0
