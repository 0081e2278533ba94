"""How often a channel's requests are repeated before the channel counts as lost."""

from __future__ import annotations

import errno

import aiohttp

from gateway.trickle.errors import ChannelLost

MAX_FAILURES = 6
RETRY_DELAY = 0.3
"""Seconds between two attempts."""
REFUSED_COUNTS_AS = 3
"""A refused connection means that nobody listens: the channels went with that process's memory."""
REFUSED_DELAY = 0.05
"""Seconds after a refused connection: enough for a dying process to be gone."""
FORGIVEN_AFTER = 2.0
"""An attempt that lasted this many seconds sets the count of failures back."""

OWN_FAULTS = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL})
"""No connection was tried, as this machine has no way there: no failure of the server."""

NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Errors of attempts that never had a connection, however long they took."""


class Retries:
    """Counts failures in a row of one channel's requests; `delay` is in seconds."""

    def __init__(self, url: str, delay: float = RETRY_DELAY) -> None:
        self.delay = delay
        self._url = url
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, why: Exception, *, lived: float = 0.0) -> float:
        """Note that an attempt failed after `lived` seconds; gives the seconds to wait before the next.

        The first in a row is repeated at once, so that a dead server is noticed within one delay. Raises
        ChannelLost when the limit is reached.
        """
        # the frames in it refer to it, and to those that called them: ours would stay in memory
        why.__traceback__ = None
        if why.__cause__ is not None:
            why.__cause__.__traceback__ = None
        if isinstance(why, OSError) and why.errno in OWN_FAULTS:
            return self.delay
        if lived > FORGIVEN_AFTER and not isinstance(why, NEVER_CONNECTED):
            self._failures = 0
        first = self._failures == 0
        refused = _refused(why)
        self._failures += REFUSED_COUNTS_AS if refused else 1
        if self._failures >= MAX_FAILURES:
            raise ChannelLost(f"{self._url}: {describe(why)}") from why
        if first:
            return 0.0
        return REFUSED_DELAY if refused else self.delay


def _refused(why: Exception) -> bool:
    return isinstance(why, aiohttp.ClientConnectorError) and why.errno == errno.ECONNREFUSED


def describe(error: Exception) -> str:
    """The error's text, or its class name where it has none."""
    return str(error) or type(error).__name__


class UnexpectedAnswer(Exception):
    """The server gave an answer that the protocol does not allow there."""
