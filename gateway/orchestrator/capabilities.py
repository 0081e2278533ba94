"""What is asked of an orchestrator: live video to video with one model."""

from __future__ import annotations

from gateway.orchestrator import livepeer_pb2

LIVE_VIDEO_TO_VIDEO = 35
"""The capability's number on the network."""

PIPELINE = "live-video-to-video"

VERSION = "0.9.1"
"""The go-livepeer release whose protocol is spoken: orchestrators compare it with their minimum."""


def capabilities(model: str) -> bytes:
    """The serialised Capabilities for `model`: they go to the orchestrator and with every signing call.

    Without the capacity of one, an orchestrator would answer with its price for transcoding.
    """
    message = livepeer_pb2.Capabilities(version=VERSION)
    words, bit = divmod(LIVE_VIDEO_TO_VIDEO, 64)
    message.bitstring.extend([0] * words + [1 << bit])
    message.capacities[LIVE_VIDEO_TO_VIDEO] = 1
    message.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models[model].warm = True
    return message.SerializeToString(deterministic=True)


def discovery_filter(model: str) -> str:
    """How a signer's discovery is asked for orchestrators with `model`."""
    return f"{PIPELINE}/{model}"
