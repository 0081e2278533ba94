"""Settings of WebRTC peers."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.public_addresses import PublicAddresses
from gateway.webrtc.udp_mux import UdpMux


@dataclass(frozen=True)
class WebRtcConfig:
    loopback: bool = True
    """Offer 127.0.0.1 too, for browsers and tools on the same machine."""
    ice: IceSettings = field(default_factory=IceSettings)
    public: PublicAddresses | None = None
    """Where `ice.public_ips` has names: the addresses that they have now."""
    mux: UdpMux | None = None
    """The shared sockets of `-iceUdpMuxPort`; None: each peer has its own."""
    gather_timeout: float = 1.0
    """Time limit in seconds for answers of STUN and TURN servers."""
    handshake_timeout: float = 10.0
    """Time limit in seconds for ICE and DTLS together."""
    silence_timeout: float = 15.0
    """Close a peer after this many seconds without any datagram from it, ICE checks included."""
    start_bitrate_kbps: int = 2500
    """The bit rate that a publishing browser is asked to start with."""
    max_bitrate_kbps: int = 8000
    """Upper limit of the rate in REMB."""

    @property
    def public_ips(self) -> tuple[str, ...]:
        """The public addresses that peers are offered now."""
        return self.ice.public_ips if self.public is None else self.public.now
