"""Base class of publishers and viewers: answers an offer, connects, reports, closes."""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from typing import ClassVar

from structlog.typing import FilteringBoundLogger

from gateway.aio import tasks
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed, OfferRefused
from gateway.webrtc.ice import IceConnection
from gateway.webrtc.negotiation import Negotiation, RtpSource
from gateway.webrtc.sdp import Fragment
from gateway.webrtc.transport import SecureTransport

live: set[Peer] = set()
"""Every peer whose sockets are open."""


class Peer(ABC):
    """One WebRTC peer that made an offer. `answer` is the SDP for it.

    A peer that sends and receives is two of these on one `transport`; its owner passes packets to both.
    """

    PUBLISHING: ClassVar[bool]
    TICK: ClassVar[float]
    """Seconds between the times at which reports are sent."""

    def __init__(
        self,
        negotiation: Negotiation,
        config: WebRtcConfig,
        log: FilteringBoundLogger,
        *,
        transport: SecureTransport | None = None,
    ) -> None:
        self.answer = ""
        self.etag = f'"{secrets.token_hex(8)}"'
        """Names the ICE session (RFC 9725, 4.3.1), quoted as the header wants it."""
        self._negotiation = negotiation
        self._config = config
        self._log = log
        self._ticker: asyncio.Task[None] | None = None
        self._transport = transport or SecureTransport(
            config, negotiation, on_rtp=self.on_rtp, on_rtcp=self.on_rtcp, log=log
        )
        live.add(self)

    async def open(self) -> None:
        """Open the sockets and make the answer. Raises OfferRefused, with nothing left behind."""
        try:
            local = await self._transport.gather()
            self.answer = self._negotiation.answer(
                local, start_bitrate_kbps=self._config.start_bitrate_kbps, sources=self._sources()
            )
        except BaseException:
            await self.close()
            raise

    def _sources(self) -> dict[str, RtpSource]:
        """The RTP streams that the gateway sends, by kind."""
        return {}

    async def connect(self) -> None:
        """Wait for ICE and DTLS. Raises ConnectFailed with a sentence that says what to open."""
        try:
            await self._transport.connect()
        except ConnectFailed as failure:
            self._log.warning("peer did not connect", detail=str(failure))
            raise
        self.start()

    def start(self) -> None:
        """Start the reports, on a transport that is connected."""
        self._connected(time.monotonic())
        self._ticker = tasks.spawn(self._keep_reporting(), name=f"{type(self).__name__.lower()} reports")

    async def trickle(self, fragment: str) -> None:
        """Take candidates that come after the offer (RFC 9725, 4.3.2).

        Raises OfferRefused: `bad_sdp` for garbage, `ice_restart` for credentials of another ICE session.
        """
        parsed = Fragment.parse(fragment)
        if parsed.username is not None and parsed.username != self._negotiation.ice.username:
            raise OfferRefused("ice_restart", "ICE restarts are not supported: make a new session")
        for candidate in parsed.candidates:
            await self._transport.add_candidate(candidate)

    @property
    def ice(self) -> IceConnection:
        """The connection under it."""
        return self._transport.ice

    @property
    def last_received(self) -> float:
        """When the last datagram came, ICE checks included, in seconds of the monotonic clock."""
        return self._transport.last_received

    async def wait_closed(self) -> str:
        """Wait until the peer has gone. Returns why, in words."""
        return await self._transport.wait_closed()

    async def close(self) -> None:
        """Close sockets and end tasks. Idempotent."""
        ticker, self._ticker = self._ticker, None
        await tasks.cancel(ticker)
        await self._transport.close()
        live.discard(self)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(self.TICK)
            now = time.monotonic()
            silence = now - self._transport.last_received
            if silence > self._config.silence_timeout:
                self._transport.report_closed(f"nothing came from the peer for {silence:.0f} s")
                return
            self._tick(now)

    @abstractmethod
    def _connected(self, now: float) -> None: ...

    @abstractmethod
    def _tick(self, now: float) -> None: ...

    @abstractmethod
    def on_rtp(self, data: bytes) -> None:
        """Take one packet, unprotected, in the datagram callback."""

    @abstractmethod
    def on_rtcp(self, data: bytes) -> None:
        """Take one compound packet, unprotected, in the datagram callback."""
