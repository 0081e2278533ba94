"""What can go wrong with a ComfyStream server, in words for the one who runs it."""

from __future__ import annotations


class ComfyStreamError(Exception):
    """The server cannot be used now: out of reach, refused, gone, or it answered what is no answer."""


class BadParams(ValueError):
    """Parameters that are no prompts, resolution or action; the text says what is taken."""


class NoAnswer(Exception):
    """A message to the server got no answer in time."""


class TooMany(Exception):
    """Too many messages wait for their answers already."""
