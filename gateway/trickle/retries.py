"""When a channel's failing connection has failed often enough to call the channel lost."""

from __future__ import annotations

import errno

import aiohttp

from gateway.trickle.errors import ChannelLost

MAX_FAILURES = 6
RETRY_DELAY = 0.3
"""Seconds between two tries."""
REFUSED_COUNTS_AS = 3
"""A refused connection says that nobody listens there: the channels were in that process's memory."""
REFUSED_DELAY = 0.05
"""Seconds after a refused connection: time for a process that dies to be gone altogether."""
FORGIVEN_AFTER = 2.0
"""Seconds that an attempt lived after which the failures before it are forgotten."""

NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Time spent on these was not the life of a connection."""


class Retries:
    """Counts failures in a row of one channel's requests."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, why: Exception, *, lived: float = 0.0) -> float:
        """Note that an attempt failed after `lived` seconds; the answer is how long to wait before the next.

        The first in a row is repeated at once, so that a server that died is known in one delay. Raises
        ChannelLost when it was one too many.
        """
        why.__traceback__ = None  # frames of aiohttp that are in it hold it, and so would keep ours in memory
        if lived > FORGIVEN_AFTER and not isinstance(why, NEVER_CONNECTED):
            self._failures = 0
        first = self._failures == 0
        refused = _refused(why)
        self._failures += REFUSED_COUNTS_AS if refused else 1
        if self._failures >= MAX_FAILURES:
            raise ChannelLost(f"{self._url}: {describe(why)}") from why
        if first:
            return 0.0
        return REFUSED_DELAY if refused else RETRY_DELAY


def _refused(why: Exception) -> bool:
    return isinstance(why, aiohttp.ClientConnectorError) and why.errno == errno.ECONNREFUSED


def describe(error: Exception) -> str:
    """An error in words, its kind where it has none."""
    return str(error) or type(error).__name__


class BadAnswer(Exception):
    """The server answered with something that the protocol does not know there."""
