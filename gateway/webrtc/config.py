"""What an operator decides about WebRTC."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.udp_mux import UdpMux


@dataclass(frozen=True)
class WebRtcConfig:
    loopback: bool = True
    """Offer 127.0.0.1 too, for browsers and tools on the same machine."""
    ice: IceSettings = field(default_factory=IceSettings)
    mux: UdpMux | None = None
    """The sockets that all peers share, where one port is for all."""
    gather_timeout: float = 1.0
    """Seconds that an answer may wait for those servers."""
    handshake_timeout: float = 10.0
    """Seconds for ICE and DTLS together."""
    silence_timeout: float = 15.0
    """Seconds without any datagram from a peer, checks of its ICE included, after which it is gone."""
    start_bitrate_kbps: int = 2500
    """What a publishing browser is told to begin with."""
    max_bitrate_kbps: int = 8000
    """What a publishing browser is told to stay under, where it asks for an estimate (REMB)."""
