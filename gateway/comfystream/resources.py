"""What all jobs on the operator's own servers share."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from gateway.comfystream.prompts import Template
from gateway.comfystream.servers import ComfyServers
from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from gateway.payments.ledger import Ledger
from gateway.webrtc.config import WebRtcConfig


@dataclass(frozen=True)
class ComfyResources:
    """The servers, and what is needed to talk to them."""

    http: aiohttp.ClientSession
    servers: ComfyServers
    ledger: Ledger
    webrtc: WebRtcConfig
    template: Template | None
    """The workflow that a prompt in words is put into."""
    restart: float = 0.0
    """Seconds that a stream waits for the only server to restart."""
    timing: ServerTiming = DEFAULT_TIMING
