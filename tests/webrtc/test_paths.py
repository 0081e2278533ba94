"""Which addresses are a peer's, and how much others get that it only names."""

from __future__ import annotations

import pytest

from gateway.webrtc.paths import (
    CHECKS_AT_ONCE,
    CHECKS_PER_SECOND,
    MAX_ADDRESSES,
    MAX_CLAIMS,
    MAX_HELD,
    Paths,
    may_try,
)
from gateway.webrtc.sdp import parse_candidate

HERE, THERE = ("192.0.2.1", 1000), ("192.0.2.2", 1000)


def test_what_comes_from_an_address_waits_until_that_has_answered() -> None:
    paths = Paths()
    paths.hold(HERE, b"from a stranger")
    assert paths.validate(THERE) == []
    paths.claim(HERE)
    for number in range(2 * MAX_HELD):
        paths.hold(HERE, bytes([number]))
    paths.hold(HERE, bytes(5000))
    assert HERE not in paths
    assert paths.validate(HERE) == [bytes([number]) for number in range(MAX_HELD)]
    assert HERE in paths


def test_no_number_of_addresses_takes_more_than_its_room() -> None:
    paths = Paths()
    for port in range(1000):
        paths.claim(("192.0.2.1", port))
        paths.hold(("192.0.2.1", port), b"x")
        paths.may_check(("192.0.2.1", port))
    assert sum(len(paths.validate(("192.0.2.1", port))) for port in range(1000)) <= min(MAX_CLAIMS, MAX_HELD)
    assert sum(("192.0.2.1", port) in paths for port in range(1000)) == MAX_ADDRESSES


def test_an_address_that_has_not_answered_gets_few_checks() -> None:
    now = 0.0
    paths = Paths(lambda: now)
    assert sum(paths.may_check(HERE) for _ in range(100)) == CHECKS_AT_ONCE
    now = 3.0
    assert sum(paths.may_check(HERE) for _ in range(100)) == 3 * CHECKS_PER_SECOND
    paths.claim(HERE)
    assert sum(paths.may_check(HERE) for _ in range(100)) == 1, "one for each of the peer's own"
    assert paths.may_check(THERE)
    paths.validate(HERE)
    assert all(paths.may_check(HERE) for _ in range(100))


@pytest.mark.parametrize(
    ("ours", "theirs", "tried"),
    [
        ("192.0.2.1", "192.0.2.2", True),
        ("10.0.0.1", "10.0.0.2", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("192.0.2.1", "127.0.0.1", False),
        ("127.0.0.1", "192.0.2.2", False),
        ("192.0.2.1", "169.254.169.254", False),
        ("127.0.0.1", "169.254.169.254", False),
        ("169.254.0.1", "169.254.0.2", True),
        ("2001:db8::1", "fe80::1", False),
        ("2001:db8::1", "::1", False),
    ],
)
def test_this_machine_and_this_link_are_tried_only_from_there(ours: str, theirs: str, tried: bool) -> None:
    local = parse_candidate(f"1 1 udp 1 {ours} 9 typ host")
    remote = parse_candidate(f"1 1 udp 1 {theirs} 9 typ host")
    assert local is not None
    assert remote is not None
    assert may_try(local, remote) is tried
