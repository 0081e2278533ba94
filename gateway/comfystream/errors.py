"""What can go wrong with a ComfyStream server; the texts are for its operator."""

from __future__ import annotations


class ComfyStreamError(Exception):
    """The server cannot be used now: unreachable, refused, gone, or its answer makes no sense."""


class BadParams(ValueError):
    """Parameters without usable prompts, resolution or action; the text says what is accepted."""


class NoAnswer(Exception):
    """A message to the server got no answer in time."""


class TooMany(Exception):
    """Too many messages wait for their answers already."""
