"""The Capabilities that requests to orchestrators and signer carry: live video to video, one model."""

from __future__ import annotations

from gateway.orchestrator import livepeer_pb2

LIVE_VIDEO_TO_VIDEO = 35
"""Number of the capability in the protocol."""

PIPELINE = "live-video-to-video"

VERSION = "0.9.1"
"""The go-livepeer release that this protocol is of: orchestrators compare it with their minimum."""


def capabilities(model: str) -> bytes:
    """The serialised Capabilities for `model`, for requests to orchestrators and every signing call.

    The capacity must be set: without it an orchestrator answers with its price for transcoding. The model
    need not be warm: an orchestrator that has it cold would refuse the job after it has the payment.
    """
    message = livepeer_pb2.Capabilities(version=VERSION)
    words, bit = divmod(LIVE_VIDEO_TO_VIDEO, 64)
    message.bitstring.extend([0] * words + [1 << bit])
    message.capacities[LIVE_VIDEO_TO_VIDEO] = 1
    message.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models[model].SetInParent()
    return message.SerializeToString(deterministic=True)


def discovery_filter(model: str) -> str:
    """The value of `caps` that asks a signer's discovery for orchestrators with `model`."""
    return f"{PIPELINE}/{model}"
