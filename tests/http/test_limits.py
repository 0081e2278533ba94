from __future__ import annotations

import pytest

from gateway.http import limits
from gateway.http.limits import RequestRate
from gateway.settings import read_flags, settings_from


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_ask_at_its_rate_and_no_faster() -> None:
    clock = Clock()
    rate = RequestRate(10, clock=clock)
    assert [rate.allow("a") for _ in range(11)] == [True] * 10 + [False]
    clock.now = 0.5
    assert [rate.allow("a") for _ in range(6)] == [True] * 5 + [False]
    clock.now = 100
    assert [rate.allow("a") for _ in range(11)] == [True] * 10 + [False]


def test_one_address_does_not_use_up_anothers_rate() -> None:
    rate = RequestRate(1, clock=Clock())
    assert rate.allow("a")
    assert not rate.allow("a")
    assert rate.allow("b")


def test_addresses_are_forgotten_beyond_a_bound() -> None:
    rate = RequestRate(1, clock=Clock())
    for number in range(limits.MAX_ADDRESSES + 10):
        rate.allow(str(number))
    assert len(rate) == limits.MAX_ADDRESSES


def test_the_defaults_leave_one_address_room() -> None:
    settings = settings_from(read_flags(["-devnet"], {}))
    settings.remove_temporary_data()
    chosen = settings.http.limits
    assert min(chosen.streams, chosen.streams_per_address) >= 64
    assert min(chosen.viewers, chosen.viewers_per_stream, chosen.viewers_per_address) >= 200
    assert chosen.requests_per_address >= 100


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_the_addresses_of_one_ipv6_customer_count_as_one(address: str, counted_as: str) -> None:
    assert limits.client_key(address) == counted_as
