"""How a trickle channel ends for those who use it."""

from __future__ import annotations


class ChannelError(Exception):
    """The channel is of no more use; the message says why, for people."""


class ChannelClosed(ChannelError):
    """The server says that the channel is over: it was deleted, swept, or its stream ended."""


class ChannelLost(ChannelError):
    """The server cannot be reached any more, or answers nothing of use; tries are used up."""
