from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from gateway.trickle.errors import ChannelLost
from gateway.trickle.retries import FORGIVEN_AFTER, MAX_FAILURES, RETRY_DELAY, Retries, UnexpectedAnswer

REFUSED = aiohttp.ClientConnectorError(
    cast(Any, SimpleNamespace(host="x", port=1, ssl=True)), OSError(errno.ECONNREFUSED, "refused")
)


def test_the_first_failure_is_repeated_at_once_and_later_ones_after_a_while() -> None:
    retries = Retries("channel")
    delays = [retries.failed(UnexpectedAnswer("no")) for _ in range(MAX_FAILURES - 1)]
    assert delays == [0.0] + [RETRY_DELAY] * (MAX_FAILURES - 2)
    with pytest.raises(ChannelLost, match="channel: no"):
        retries.failed(UnexpectedAnswer("no"))


def test_two_refused_connections_are_enough() -> None:
    retries = Retries("channel")
    retries.failed(REFUSED)
    with pytest.raises(ChannelLost):
        retries.failed(REFUSED)


def test_a_process_that_died_is_known_within_a_tenth_of_a_second() -> None:
    retries = Retries("channel")
    delays = [retries.failed(ConnectionResetError()), retries.failed(REFUSED)]
    assert sum(delays) < 0.1
    with pytest.raises(ChannelLost):
        retries.failed(REFUSED)


def test_success_and_a_long_life_forgive() -> None:
    retries = Retries("channel")
    for _ in range(3 * MAX_FAILURES):
        retries.failed(ConnectionResetError())
        retries.succeeded()
        retries.failed(ConnectionResetError(), lived=FORGIVEN_AFTER + 1)


def test_the_time_that_connecting_took_forgives_nothing() -> None:
    retries = Retries("channel")
    with pytest.raises(ChannelLost):
        for _ in range(MAX_FAILURES):
            retries.failed(aiohttp.ConnectionTimeoutError(), lived=FORGIVEN_AFTER + 1)


def test_an_error_of_our_own_network_is_no_failure_of_the_server() -> None:
    retries = Retries("u")
    for _ in range(20):
        assert retries.failed(OSError(errno.ENETUNREACH, "no way there")) == retries.delay
