"""The errors with which a trickle channel ends."""

from __future__ import annotations


class ChannelError(Exception):
    """The channel cannot be used any more; the message says why, for people."""


class ChannelClosed(ChannelError):
    """The server ended the channel: it was deleted, swept, or its stream ended."""


class ChannelLost(ChannelError):
    """The server cannot be reached or gives no useful answer, after all attempts."""
