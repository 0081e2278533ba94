"""One peer's transport: ICE, DTLS and SRTP, from a datagram to a plain RTP packet in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pylibsrtp
from aioice import Candidate
from structlog.typing import FilteringBoundLogger

from gateway.webrtc.arrival import arrival_of_last
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.dtls import DtlsRefused, DtlsSession
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.ice import IceConnection
from gateway.webrtc.negotiation import Local, Negotiation
from gateway.webrtc.srtp import MAX_BURST, Packet
from gateway.webrtc.udp import address, ignore

MAX_EARLY = 16
"""Limit of DTLS datagrams kept until ICE is done on our side."""
MAX_UNSENT = 256 * 1024
"""Bytes waiting in the socket above which a peer counts as congested."""

PacketHandler = Callable[[bytes], None]


class SecureTransport:
    """Carries RTP and RTCP to and from one peer.

    `on_rtp` and `on_rtcp` are called with each packet as it comes, unprotected, in the datagram callback:
    without a queue or task between; `on_data` with the SCTP packets of data channels. `close` leaves no
    socket, task or timer. Where the gateway makes the offer there is no negotiation before the answer:
    `take_answer` brings it.
    """

    def __init__(
        self,
        config: WebRtcConfig,
        negotiation: Negotiation | None,
        *,
        on_rtp: PacketHandler,
        on_rtcp: PacketHandler,
        log: FilteringBoundLogger,
        on_data: PacketHandler | None = None,
    ) -> None:
        self.rejected = 0
        """Packets that SRTP did not take: garbage, replays, wrong keys."""
        self._config = config
        self._negotiation = negotiation
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        self._log = log
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._early: list[bytes] = []
        self._ice_done = False
        self.ice = IceConnection(
            config,
            negotiation.ice if negotiation is not None else None,
            on_datagram=self.receive,
            on_closed=self.report_closed,
        )
        self._dtls = DtlsSession(send=self.ice.send_datagram, on_closed=self.report_closed, on_data=on_data)

    async def gather(self) -> Local:
        """Open the sockets. Returns what the answer or offer needs."""
        if self._negotiation is not None:
            await self._add_candidates(self._negotiation)
        await self.ice.gather_candidates()
        return Local(
            username=self.ice.local_username,
            password=self.ice.local_password,
            fingerprint=self._dtls.fingerprint,
            candidates=self.ice.local_candidates,
        )

    async def take_answer(self, answer: Negotiation) -> None:
        """Take the peer's answer to the gateway's offer."""
        self._negotiation = answer
        self.ice.set_remote(answer.ice)
        await self._add_candidates(answer)

    async def _add_candidates(self, negotiation: Negotiation) -> None:
        for candidate in negotiation.candidates:
            await self.ice.add_remote_candidate(candidate)

    async def add_candidate(self, candidate: Candidate) -> None:
        """Try a remote candidate that came after the offer (RFC 8838)."""
        await self.ice.add_remote_candidate(candidate)

    async def connect(self) -> None:
        """Run ICE and DTLS. Raises ConnectFailed with a sentence that says what to open."""
        own = self.ice.local_candidates
        negotiation = self._negotiation
        assert negotiation is not None, "an offer is answered before its peer is connected to"
        try:
            async with asyncio.timeout(self._config.handshake_timeout):
                await self.ice.connect()
                self._ice_done = True
                self._dtls.start(server=negotiation.dtls_server, fingerprints=negotiation.fingerprints)
                for datagram in self._early:
                    self._dtls.receive(datagram)
                self._early.clear()
                await self._dtls.done
        except TimeoutError:
            raise ConnectFailed(self._what_is_missing(own)) from None
        except ConnectionError as error:
            raise ConnectFailed(f"ICE failed ({error}). {self._what_is_missing(own)}") from error
        except DtlsRefused as refusal:
            raise ConnectFailed(str(refusal)) from refusal
        self._log.info("peer connected", path=self.ice.selected)

    def send_rtp(self, packets: Sequence[Packet]) -> None:
        """Protect and send RTP packets, if there is a connection."""
        srtp = self._dtls.srtp
        if srtp is not None:
            for at in range(0, len(packets), MAX_BURST):
                self.ice.send_burst(srtp.outgoing.protect_burst(packets[at : at + MAX_BURST]))

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send one compound RTCP packet, if there is a connection."""
        srtp = self._dtls.srtp
        if srtp is not None:
            self.ice.send_datagram(srtp.outgoing.protect_rtcp(packet))

    def send_data(self, packet: bytes) -> None:
        """Send one SCTP packet. Raises ConnectionError where there is no connection."""
        self._dtls.send(packet)

    @property
    def is_dtls_server(self) -> bool:
        return self._negotiation is not None and self._negotiation.dtls_server

    @property
    def congested(self) -> bool:
        return self.ice.unsent > MAX_UNSENT

    @property
    def last_received(self) -> float:
        """When the peer's last datagram of any kind came, in seconds of the monotonic clock."""
        return self.ice.last_received

    def arrived_at(self, now: float) -> float:
        """When the datagram that is being handled reached this machine, in seconds of the monotonic clock."""
        sock = self.ice.receiving
        return now if sock is None else arrival_of_last(sock, now)

    async def wait_closed(self) -> str:
        """Wait until the connection ends. Returns why."""
        return await asyncio.shield(self._closed)

    def report_closed(self, why: str) -> None:
        """Make `wait_closed` return this reason; the first one counts."""
        if not self._closed.done():
            self._closed.set_result(why)

    async def close(self) -> None:
        """Close sockets and timers. Idempotent, at any stage."""
        self._dtls.close()
        self._early.clear()
        await self.ice.shut()
        self.report_closed("closed here")
        self._on_rtp = self._on_rtcp = ignore

    def receive(self, data: bytes) -> None:
        """Take one datagram that is not STUN."""
        # RFC 7983: 20 to 63 is DTLS, 128 to 191 is RTP or RTCP (RFC 5761: told apart by the second byte).
        first = data[0]
        if 127 < first < 192:
            srtp = self._dtls.srtp
            if srtp is None or len(data) < 12:
                return
            control = 192 <= data[1] <= 223
            try:
                packet = srtp.incoming.unprotect_rtcp(data) if control else srtp.incoming.unprotect(data)
            except (pylibsrtp.Error, ValueError):
                self.rejected += 1
                return
            self.ice.heard()
            if control:
                self._on_rtcp(packet)
            else:
                self._on_rtp(packet)
        elif 19 < first < 64:
            if self._ice_done:
                self._dtls.receive(data)
            elif len(self._early) < MAX_EARLY:
                self._early.append(data)

    def _what_is_missing(self, own: list[Candidate]) -> str:
        seconds = f"{self._config.handshake_timeout:g} s"
        if self._ice_done:
            path = self.ice.selected
            return f"the peer answered ICE ({path}) but did not finish the DTLS handshake in {seconds}"
        ours = ", ".join(address(candidate.host, candidate.port) for candidate in own) or "none"
        theirs = (
            ", ".join(
                f"{address(candidate.host, candidate.port)} ({candidate.type})"
                for candidate in self.ice.remote_candidates
            )
            or "none given"
        )
        return (
            f"no UDP came through between the gateway ({ours}) and the peer ({theirs}) in {seconds}: "
            f"{self._what_to_open()}"
        )

    def _what_to_open(self) -> str:
        config = self._config
        if config.mux is not None:
            ports = f"UDP port {config.ice.mux_port}"
        elif config.ice.udp_ports is not None:
            ports = "UDP ports {}-{}".format(*config.ice.udp_ports)
        else:
            ports = "UDP (any port, unless -iceUdpPortRange or -iceUdpMuxPort is set)"
        where = (
            "check that -icePublicIP is the address that the peer reaches"
            if config.ice.public_ips
            else "set -icePublicIP if the gateway is behind a NAT"
        )
        return f"let {ports} from the peer to the gateway pass firewall and NAT, and {where}"
