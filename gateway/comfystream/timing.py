"""The time limits and intervals of the connection to a ComfyStream server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerTiming:
    """All in seconds."""

    health_interval: float = 1.0
    """Between two questions to a server that is not healthy."""
    health_timeout: float = 3.0
    """For one answer, and for the connection that watches a server to come up."""
    rest: float = 1.0
    """A server takes no stream for this long after one: that one's end stops the prompts of all."""
    offer_timeout: float = 90.0
    """For the answer to an offer: it comes when the workflow has warmed up."""
    abandoned: float = 75.0
    """For an offer whose stream has ended to be answered and its connection closed. A connection that never
    comes up fails at the server after a minute, and its end stops the prompts of whoever has it by then."""
    answer_timeout: float = 5.0
    """For the answer to a message."""
    loading_timeout: float = 60.0
    """For the answer to a message that may load a model: ComfyStream runs new prompts once before it."""
    workflow_check: float = 30.0
    """Between two checks that the server runs the workflow."""
    workflow_recheck: float = 2.0
    """Before the second check after a start or an update: a workflow fails on its first pictures."""
    report_interval: float = 1.0
    """Between two checks of what the server reports as lost."""
    key_frame_interval: float = 2.0
    """Between two key frames: ComfyStream's encoder makes one only on request."""


DEFAULT_TIMING = ServerTiming()
