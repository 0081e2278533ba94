"""The output of a stream that is published here, as other nodes get it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from gateway.aio.tasks import spawn
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterError
from gateway.cluster.leases import Leases
from gateway.cluster.wire import (
    BadMediaMessage,
    Held,
    MessageKind,
    decode_ask,
    encode,
    encode_held,
    messages_of,
)
from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit, Frame

log = structlog.get_logger("relay")

MAX_BACKLOG = 4 << 20
"""Bytes waiting to be sent to NATS above which a stream's frames are dropped up to the next key frame."""
MAX_HELD = 3 << 20
"""Limit in bytes of the held pictures that a node gets; above it, that node waits for the next key frame."""


class SharedOutput:
    """Answers nodes that ask for the output, and sends its frames while any does.

    `epoch_of` gives a number for the right to the name, higher than each former owner's; 0: it is not, or no
    more, this node's. `close` follows in every case.
    """

    def __init__(
        self,
        name: str,
        output: Fanout,
        bus: Bus,
        *,
        epoch_of: Callable[[], int],
        request_key_frame: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leases = Leases(clock)
        self.dropped = 0
        """Frames and messages that were not sent, since NATS did not take them in time."""
        self._name = name
        self._output: Fanout | None = output
        self._bus = bus
        self._epoch_of = epoch_of
        self._epoch = 0
        """That of the newest answer."""
        self._request_key_frame = request_key_frame
        self._sequence = 0
        self._waits_for_key = False
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued = 0
        self._more = asyncio.Event()
        self._closed = False
        self._frames_subject = bus.subjects.frames(name)
        self._ask_subject = bus.subjects.ask_for_frames(name)
        spawn(self._run(), name=f"relay-send {name}")

    def shares(self, output: Fanout) -> bool:
        """Whether it is this one's frames that it sends."""
        return self._output is output

    def close(self) -> None:
        """The name is published here no more."""
        self._detach()
        self._output = None
        self._closed = True
        self._more.set()

    # the tap of the output

    def on_frame(self, frame: Frame) -> None:
        """Send it on while any node wants it."""
        if not self.leases:
            self._detach()
            return
        congested = self._congested
        if isinstance(frame, AccessUnit):
            self._waits_for_key = congested or (self._waits_for_key and not frame.key)
        if congested or (self._waits_for_key and isinstance(frame, AccessUnit)):
            self.dropped += 1
            return
        try:
            messages = messages_of(frame, self._epoch, self._sequence)
        except BadMediaMessage:
            self.dropped += 1
            self._waits_for_key = True
            return
        self._sequence += len(messages)
        for message in messages:
            self._send(self._frames_subject, message)

    def on_clear(self) -> None:
        """Tell that the stream ended."""
        self._send(self._frames_subject, encode(MessageKind.ENDED, self._epoch, self._sequence))

    # requests

    def _on_ask(self, message: BusMessage) -> None:
        output = self._output
        try:
            ask = decode_ask(message.data)
        except BadMediaMessage as error:
            log.warning("a node asks for a stream in a way that cannot be read", detail=str(error))
            return
        epoch = self._epoch_of()
        if output is None or epoch == 0 or ask.epoch > epoch:
            return
        self._epoch = epoch
        if ask.viewers == 0:
            self._take_leave(ask.node, message.reply)
            return
        self.leases.renew(ask.node, ask.viewers)
        if self not in output.taps:
            output.taps.append(self)
            self._sequence += 1  # who had the stream before has missed what came meanwhile
            self._waits_for_key = False
        if message.reply:
            held = ask.held and output.held_bytes <= MAX_HELD and not self._congested
            frames = output.held_frames() if held else []
            self._send(message.reply, encode_held(Held(self._epoch, self._sequence, frames)))
        if ask.key_frame:
            self._request_key_frame(self._name)

    def _take_leave(self, node: str, reply: str) -> None:
        """A node wants the stream no more; where it expects an answer, only to know whether it is here."""
        if reply:
            self._send(reply, encode_held(Held(self._epoch, self._sequence, [])))
        else:
            self.leases.release(node)

    @property
    def _congested(self) -> bool:
        return self._queued + self._bus.backlog > MAX_BACKLOG

    def _detach(self) -> None:
        if self._output is not None and self in self._output.taps:
            self._output.taps.remove(self)

    # what is sent

    def _send(self, subject: str, data: bytes) -> None:
        self._queue.append((subject, data))
        self._queued += len(data)
        self._more.set()

    async def _run(self) -> None:
        """Tell that the stream is here, send what there is to send, until the end."""
        asks = await self._bus.subscribe(self._ask_subject, self._on_ask)
        try:
            self._epoch = self._epoch_of()
            if self._epoch:
                self._send(self._frames_subject, encode(MessageKind.BEGAN, self._epoch, self._sequence))
            while self._queue or not self._closed:
                await self._more.wait()
                self._more.clear()
                while self._queue:
                    subject, data = self._queue.popleft()
                    self._queued -= len(data)
                    await self._send_now(subject, data)
        finally:
            await asks.close()

    async def _send_now(self, subject: str, data: bytes) -> None:
        try:
            await self._bus.answer(subject, data)  # in pieces where it is an answer that is too large
        except ClusterError as error:
            # who gets the stream sees by the numbers that messages are missing
            self.dropped += len(self._queue) + 1
            self._queue.clear()
            self._queued = 0
            self._waits_for_key = True
            log.debug("output not sent to other nodes", stream=self._name, detail=str(error))
