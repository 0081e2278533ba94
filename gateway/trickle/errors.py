"""How a trickle channel ends for those who use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ChannelError(Exception):
    """The channel is of no more use; the message says why, for people."""


class ChannelClosed(ChannelError):
    """The server says that the channel is over: it was deleted, swept, or its stream ended."""


class ChannelLost(ChannelError):
    """The server cannot be reached any more, or answers nothing of use; tries are used up."""


@contextmanager
def single_error() -> Iterator[None]:
    """Around a TaskGroup: when all that went wrong are channel errors, raise the first of them alone."""
    try:
        yield
    except BaseExceptionGroup as group:
        channel, rest = group.split(ChannelError)
        if channel is None or rest is not None:
            raise
        first: BaseException = channel
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
