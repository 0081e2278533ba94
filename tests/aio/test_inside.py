"""Which addresses are inside, and who may name them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.aio.inside import PUBLIC, LeadsInside, Reach, is_inside, literal

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "2001:0:1:2:3:4:5:6",
]


@pytest.mark.parametrize("address", INSIDE)
@pytest.mark.parametrize("reached", ["8.8.8.8", "2606:4700::1111", "10.9.9.9", "192.168.7.7"])
def test_an_address_inside_may_not_be_named_by_who_is_elsewhere(address: str, reached: str) -> None:
    assert is_inside(ip_address(address))
    with pytest.raises(LeadsInside, match="in a private network"):
        Reach.of("o.example", ip_address(reached)).check("t.example", [ip_address(address)])


@pytest.mark.parametrize("address", [one for one in INSIDE if "%" not in one])
def test_an_address_inside_may_be_named_by_who_was_reached_there(address: str) -> None:
    Reach.of("o.example", ip_address(address)).check("t.example", [ip_address(address)])


@pytest.mark.parametrize("other", ["127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "2002:7f00:1::1"])
def test_all_of_loopback_is_one_place(other: str) -> None:
    Reach.of("o.example", ip_address("127.0.0.1")).check("t.example", [ip_address(other)])


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1", "64:ff9b::1.1.1.1", "2002:101:101::1"])
def test_public_addresses_may_be_named_by_anybody(address: str) -> None:
    PUBLIC.check("t.example", [ip_address(address)])


def test_one_bad_address_of_a_name_is_enough() -> None:
    with pytest.raises(LeadsInside, match=r"10\.0\.0\.1"):
        PUBLIC.check("t.example", [ip_address("1.1.1.1"), ip_address("10.0.0.1")])


def test_the_name_by_which_somebody_was_reached_inside_may_move_there() -> None:
    Reach.of("O.example", ip_address("10.0.0.1")).check("o.example", [ip_address("10.0.0.2")])


def test_the_name_of_who_was_reached_outside_may_not_come_to_lead_inside() -> None:
    with pytest.raises(LeadsInside):
        Reach.of("o.example", ip_address("1.1.1.1")).check("o.example", [ip_address("10.0.0.2")])


@pytest.mark.parametrize("name", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1"])
def test_every_form_of_an_address_that_the_system_takes_is_one(name: str) -> None:
    assert literal(name) == ip_address("127.0.0.1")


@pytest.mark.parametrize("name", ["o.example", "", "1.2.3.4.5", "ä", "1.2.3.400"])
def test_names_are_no_addresses(name: str) -> None:
    assert literal(name) is None
