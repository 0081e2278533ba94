"""The data channels of a connection (RFC 8831): aiortc's SCTP over the gateway's own transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiortc import RTCDataChannel, RTCDataChannelParameters, RTCSctpTransport
from aiortc.rtcsctptransport import RTCSctpCapabilities

from gateway.aio import tasks
from gateway.aio.json_text import parse_json_leniently
from gateway.comfystream.errors import NoAnswer, TooMany
from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from gateway.webrtc.transport import SecureTransport

ANSWERS = {
    "get_nodes": "nodes_info",
    "update_prompts": "prompts_updated",
    "update_resolution": "resolution_updated",
    "pause_prompts": "prompts_paused",
    "resume_prompts": "prompts_resumed",
    "stop_prompts": "prompts_stopped",
}
"""The type of each message that ComfyStream answers, and of its answer."""
MAX_WAITING = 8
"""Messages that may wait to be sent or answered."""
MAX_PACKETS = 256
"""SCTP packets that may wait to be read; the peer sends those again that are dropped."""

Message = dict[str, Any]


class _Carrier:
    """The part of aiortc's DTLS transport that its SCTP uses."""

    state = "connected"

    def __init__(self, transport: SecureTransport) -> None:
        self._transport = transport

    @property
    def _role(self) -> str:
        return "server" if self._transport.is_dtls_server else "client"

    def _register_data_receiver(self, receiver: object) -> None:
        """Packets are handed over in `DataChannels.receive`."""

    def _unregister_data_receiver(self, receiver: object) -> None:
        """Nothing is registered."""

    async def _send_data(self, data: bytes) -> None:
        self._transport.send_data(data)


class DataChannels:
    """The channel `control`, for messages and their answers, and `data`, for texts.

    `open` when the transport is connected; `receive` takes each SCTP packet.
    """

    def __init__(
        self,
        transport: SecureTransport,
        on_text: Callable[[str], None],
        timing: ServerTiming = DEFAULT_TIMING,
    ) -> None:
        self._transport = transport
        self._on_text = on_text
        self._timing = timing
        self._packets: asyncio.Queue[bytes] = asyncio.Queue(MAX_PACKETS)
        self._sctp: RTCSctpTransport | None = None
        self._reader: asyncio.Task[None] | None = None
        self._control: RTCDataChannel | None = None
        self._opened = asyncio.Event()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._expected: tuple[str, asyncio.Future[Message]] | None = None

    def receive(self, packet: bytes) -> None:
        """Take one SCTP packet; called for each datagram."""
        if not self._packets.full():
            self._packets.put_nowait(packet)

    async def open(self, *, port: int, max_message: int) -> None:
        """Open both channels; `port` and `max_message` are the peer's."""
        sctp = RTCSctpTransport(_Carrier(self._transport))  # type: ignore[arg-type]
        self._sctp = sctp
        self._control = control = RTCDataChannel(sctp, RTCDataChannelParameters(label="control"))
        data = RTCDataChannel(sctp, RTCDataChannelParameters(label="data"))
        control.on("open", self._opened.set)
        control.on("message", self._answered)
        data.on("message", self._text_came)
        self._reader = tasks.spawn(self._read(sctp), name="comfystream sctp")
        await sctp.start(RTCSctpCapabilities(maxMessageSize=max_message), port)

    async def request(self, message: Message) -> Message:
        """Send a message on `control` and wait for its answer.

        One message at a time, in order. Raises TooMany, or NoAnswer, also for types that are never answered.
        """
        if self._waiting >= MAX_WAITING:
            raise TooMany(f"{MAX_WAITING} messages wait for the server's answers already")
        kind, timing = message.get("type"), self._timing
        timeout = timing.loading_timeout if kind == "update_prompts" else timing.answer_timeout
        self._waiting += 1
        try:
            async with asyncio.timeout(timing.loading_timeout), self._turn:
                return await self._ask(message, timeout)
        except TimeoutError:
            raise NoAnswer(f"the server gave no answer to {kind!r} in {timeout:g} s") from None
        finally:
            self._waiting -= 1

    async def _ask(self, message: Message, timeout: float) -> Message:
        async with asyncio.timeout(timeout):
            await self._opened.wait()
            control = self._control
            if control is None or control.readyState != "open":
                raise NoAnswer("the server's control channel is closed")
            answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            self._expected = (ANSWERS.get(str(message.get("type")), ""), answer)
            try:
                control.send(json.dumps(message))
                return await answer
            except ValueError as error:  # aiortc's, for a message above what the peer takes
                raise NoAnswer(f"the message cannot be sent: {error}") from error
            finally:
                self._expected = None

    async def close(self) -> None:
        """End the SCTP association. Idempotent."""
        self._control = None
        sctp, self._sctp = self._sctp, None
        if sctp is not None:
            await sctp.stop()
        reader, self._reader = self._reader, None
        await tasks.cancel(reader)

    async def _read(self, sctp: RTCSctpTransport) -> None:
        while True:
            await sctp._handle_data(await self._packets.get())

    def _answered(self, text: str | bytes) -> None:
        message = _json(text)
        if self._expected is None or message is None:
            return
        kind, answer = self._expected
        if message.get("type") == kind and not answer.done():
            answer.set_result(message)

    def _text_came(self, text: str | bytes) -> None:
        message = _json(text)
        if message is not None and message.get("type") == "text" and isinstance(message.get("data"), str):
            self._on_text(message["data"])


def _json(text: str | bytes) -> Message | None:
    try:
        message = parse_json_leniently(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
