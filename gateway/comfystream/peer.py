"""A WebRTC connection to a ComfyStream server: frames to it, frames back, and messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.aio import tasks
from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.json_text import parse_json
from gateway.comfystream import signalling
from gateway.comfystream.channels import DataChannels, Message
from gateway.comfystream.clock import ServerClock
from gateway.comfystream.errors import ComfyStreamError
from gateway.comfystream.prompts import Wanted
from gateway.comfystream.signalling import SdpAnswer
from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame, FrameSink
from gateway.media.opus import SAMPLE_RATE
from gateway.media.rtp_h264 import packetize
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed, OfferRefused
from gateway.webrtc.ingest import IngestStats as ReceiverStats
from gateway.webrtc.publisher import Publisher as MediaReceiver
from gateway.webrtc.transport import SecureTransport
from gateway.webrtc.viewer import Viewer as MediaSender
from gateway.webrtc.viewer import ViewerStats as SenderStats

MAX_ANSWER = 1 << 20
"""Bytes of an answer to an offer."""
PROXY_FAILURES = (502, 503, 504)
"""Statuses of a proxy before the server, which may have the offer all the same."""
NEVER_WARM = "its log says whether the workflow raised while it warmed up, as such an offer is never answered"
MAX_REFUSAL = 500
"""Characters of a refusal that are passed on."""


class ServerPeer:
    """One connection. `connect`, then `send` frames; those that come back go to `sink`.

    Nothing is decoded: pictures are split into packets and put together from packets.
    """

    def __init__(
        self,
        config: WebRtcConfig,
        sink: FrameSink,
        on_key_frame_needed: Callable[[], None],
        on_text: Callable[[str], None],
        log: FilteringBoundLogger,
        timing: ServerTiming = DEFAULT_TIMING,
    ) -> None:
        self.dropped = 0
        """Pictures that were not sent, as the connection could not take more."""
        self.pending = False
        """Whether the server may have an offer whose connection is not up: see `settle`."""
        self._config = config
        self._timing = timing
        self._sink = sink
        self._on_key_frame_needed = on_key_frame_needed
        self._log = log
        self._transport = SecureTransport(
            config, None, on_rtp=self._on_rtp, on_rtcp=self._on_rtcp, on_data=self._on_data, log=log
        )
        self._channels = DataChannels(self._transport, on_text, timing)
        self._receiver: MediaReceiver | None = None
        self._sender: MediaSender | None = None
        self._waits_for_key = False
        self._offering: asyncio.Task[SdpAnswer] | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def connect(self, http: aiohttp.ClientSession, url: str, wanted: Wanted, *, audio: bool) -> None:
        """Make the offer, then ICE, DTLS and the data channels. Raises ComfyStreamError.

        After an end in the middle of it, the server is free only after `settle`.
        """
        try:
            local = await self._transport.gather()
        except OfferRefused as error:
            raise ComfyStreamError(str(error)) from error
        timeout = self._timing.offer_timeout
        offer = signalling.offer(local, audio=audio)
        self.pending = True
        # tasks of their own, as the server goes on with them after the stream's end
        self._offering = tasks.spawn(
            self._exchange(http, url, offer, wanted), name="comfystream-offer", expected=(ComfyStreamError,)
        )
        try:
            async with asyncio.timeout(timeout):
                answer = await asyncio.shield(self._offering)
        except TimeoutError:
            why = f": {NEVER_WARM}" if wanted.prompts else ""
            raise ComfyStreamError(f"it did not answer the offer in {timeout:g} s{why}") from None
        self._receiver = MediaReceiver(
            answer.receiving,
            self._config,
            self._sink,
            self._log,
            transport=self._transport,
            clock=ServerClock(),
        )
        self._sender = MediaSender(answer.sending, self._config, self._log, transport=self._transport)
        self._sender.on_key_frame_needed = self._on_key_frame_needed
        await self._connect_transport(answer)
        self._receiver.start()
        self._sender.start()
        try:
            await self._channels.open(port=answer.sctp_port, max_message=answer.max_message)
        except ConnectionError as error:
            raise ComfyStreamError(f"the connection ended at once: {error}") from error

    async def settle(self) -> None:
        """End an offer that nobody waits for any more: connect once it is answered, then close.

        The server would otherwise give the connection up by itself later, and stop the prompts of whoever
        has it by then. Where that cannot be done, wait until it has.
        """
        timeout = self._timing.abandoned
        try:
            async with asyncio.timeout(timeout):
                if self._offering is not None:
                    await self._connect_transport(await self._offering)
        except ComfyStreamError as error:
            self._log.warning("an offer that nobody waits for failed", detail=str(error))
            if self.pending:
                await asyncio.sleep(timeout)
        except TimeoutError:
            self._log.warning("an offer that nobody waits for was not answered", seconds=timeout)
        finally:
            await self.close()

    async def _connect_transport(self, answer: SdpAnswer) -> None:
        """ICE and DTLS. Raises ComfyStreamError."""
        if self._connecting is None:
            self._connecting = tasks.spawn(
                self._reach(answer), name="comfystream-connect", expected=(ComfyStreamError,)
            )
        await asyncio.shield(self._connecting)

    async def _reach(self, answer: SdpAnswer) -> None:
        try:
            await self._transport.take_answer(answer.receiving)
            await self._transport.connect()
        except ConnectFailed as failure:
            raise ComfyStreamError(str(failure)) from failure
        self.pending = False

    async def _exchange(self, http: aiohttp.ClientSession, url: str, offer: str, wanted: Wanted) -> SdpAnswer:
        """Post the offer, which is answered when the workflow is loaded. Raises ComfyStreamError."""
        body: dict[str, Any] = {"prompts": wanted.prompts, "offer": {"sdp": offer, "type": "offer"}}
        if wanted.resolution is not None:
            body["resolution"] = wanted.resolution
        try:
            async with http.post(f"{url}/offer", json=body, allow_redirects=False) as response:
                text = (await read_bounded(response, MAX_ANSWER)).decode(errors="replace")
                if response.status != 200:
                    self.pending = response.status in PROXY_FAILURES
                    raise ComfyStreamError(f"it refused the offer: {response.status} {text[:MAX_REFUSAL]}")
        except BodyTooLarge:
            raise ComfyStreamError(f"its answer is over {MAX_ANSWER} bytes") from None
        except aiohttp.ClientError as error:
            self.pending = False
            raise ComfyStreamError(f"it cannot be reached: {error}") from error
        try:
            return SdpAnswer.parse(str(parse_json(text)["sdp"]))
        except (ValueError, TypeError, KeyError):
            raise ComfyStreamError("its answer to the offer has no SDP in it") from None

    def send(self, frame: Frame) -> None:
        """Send one frame. While the connection is congested, pictures are dropped to the next key frame."""
        sender = self._sender
        if sender is None:
            return
        if not isinstance(frame, AccessUnit):
            sender.send_audio(frame.data, frame.pts * SAMPLE_RATE // TICKS_PER_SECOND)
            return
        if sender.congested():
            self._waits_for_key = True
        elif frame.key:
            self._waits_for_key = False
        if self._waits_for_key:
            self.dropped += 1
        else:
            sender.send_video(packetize(frame.nals), frame.pts, frame.key)

    def skip_to_key_frame(self) -> None:
        """Drop pictures up to the next key frame."""
        self._waits_for_key = True

    async def request(self, message: Message) -> Message:
        """Send a message and return its answer. Raises NoAnswer or TooMany."""
        return await self._channels.request(message)

    def request_key_frame(self) -> None:
        """Ask the server's encoder for a key frame."""
        if self._receiver is not None:
            self._receiver.request_key_frame()

    def sent(self) -> SenderStats | None:
        """What was sent and how it arrived; None before the connection is up."""
        return self._sender.stats() if self._sender is not None else None

    def received(self) -> ReceiverStats | None:
        """What came back; None before the connection is up."""
        return self._receiver.stats() if self._receiver is not None else None

    async def wait_closed(self) -> str:
        """Wait until the connection has ended; returns why."""
        return await self._transport.wait_closed()

    async def close(self) -> None:
        """Close sockets and end tasks. Idempotent."""
        await tasks.cancel(self._offering, self._connecting)
        self._offering = self._connecting = None  # whose errors refer to this
        await self._channels.close()
        for side in (self._sender, self._receiver):
            if side is not None:
                await side.close()
        await self._transport.close()

    def _on_rtp(self, packet: bytes) -> None:
        if self._receiver is not None:
            self._receiver.on_rtp(packet)

    def _on_rtcp(self, packet: bytes) -> None:
        if self._receiver is not None and self._sender is not None:
            self._receiver.on_rtcp(packet)
            self._sender.on_rtcp(packet)

    def _on_data(self, packet: bytes) -> None:
        self._channels.receive(packet)
