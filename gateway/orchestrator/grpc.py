"""The unary gRPC call to an orchestrator; it returns the answer's bytes as received.

A wrapper around grpclib, which by itself decodes what it receives, reads messages of any size, and cancels
the caller's task when the connection is lost.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from grpclib.client import Channel, Handler
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.connection import H2Connection
from h2.events import UnknownFrameReceived
from typing_extensions import override

from gateway.aio import tasks
from gateway.aio.http_client import peer_address
from gateway.aio.inside import LOOPBACK, PUBLIC, Reach, leads_inside, literal
from gateway.orchestrator.errors import BadAnswer, NoCapacity, OrchestratorError, Refused, Unreachable
from gateway.orchestrator.http2 import FrameBudget
from gateway.orchestrator.urls import GrpcTarget

GET_ORCHESTRATOR = "/net.Orchestrator/GetOrchestrator"
MAX_MESSAGE = 256 * 1024
"""Limit in bytes of an answer. An OrchestratorInfo has a few thousand."""
MAX_SAID = 200
"""Limit of characters of an error's text that are kept."""
FLOOD = "more HTTP/2 frames or bytes than are taken in a second"
CAPPED = "OrchestratorCapped"
FRAME_HEADER = 5
"""Bytes before a gRPC message: a compression flag and the length."""
CLOSED_STREAMS = 100
"""Limit of finished calls that a connection remembers, for frames that arrive late."""

# h2's default is 65,536: 7 MB for each orchestrator after six weeks of one call a minute.
H2Connection.MAX_CLOSED_STREAMS = CLOSED_STREAMS


class PlainBytes(CodecBase):
    """Sends and receives messages as plain bytes."""

    __content_subtype__ = "proto"

    @override
    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    @override
    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _LostHandler(Handler):
    """Calls `lost` when the connection is closed."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    @override
    def close(self) -> None:
        super().close()
        self._lost()


class _Http2Protocol(H2Protocol):
    """Aborts the connection of a peer that does not speak HTTP/2, or sends more frames than a budget has.

    An orderly TLS close goes on reading for half a minute, so a peer that sends without end would keep the
    event loop busy for as long.
    """

    def __init__(self, flooded: Callable[[], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._flooded = flooded
        self._budget = FrameBudget()
        self._aborted = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # grpclib fails at what has to be ignored (RFC 9113, 4.1)
        self.processor.processors[UnknownFrameReceived] = lambda event: None

    @override
    def data_received(self, data: bytes) -> None:
        transport = getattr(self.connection, "_transport", None)  # grpclib deletes it on close
        if transport is None or transport.is_closing():
            return
        if not self._budget.allows(data):
            self._aborted = True
            self.processor.close(FLOOD)
            transport.abort()
            self._flooded()
            return
        super().data_received(data)
        if not hasattr(self.connection, "_transport"):
            transport.abort()

    @override
    def connection_lost(self, error: BaseException | None) -> None:
        if not self._aborted:  # else calls would end with another reason
            super().connection_lost(error)


class _Channel(Channel):
    """A channel that reports when its connection is lost, and that can be closed without TLS shutdown."""

    def __init__(
        self,
        target: GrpcTarget,
        context: ssl.SSLContext,
        lost: Callable[[], None],
        flooded: Callable[[], None],
        *,
        may_be_inside: bool,
    ) -> None:
        window = Configuration(http2_connection_window_size=MAX_MESSAGE, http2_stream_window_size=MAX_MESSAGE)
        tls = context if target.tls else None
        super().__init__(target.host, target.port, ssl=tls, codec=PlainBytes(), config=window)
        self._lost = lost
        self._flooded = flooded
        self._may_be_inside = may_be_inside
        self.reach = PUBLIC
        """Where the URLs of who answers may lead."""

    @override
    def _protocol_factory(self) -> H2Protocol:
        lost = _LostHandler(self._connection_lost)
        return _Http2Protocol(self._flood_came, lost, self._config, self._h2_config)

    @override
    async def _create_connection(self) -> H2Protocol:
        """Connects to the first address that may be and can be. Raises OSError."""
        protocol = await self._connect()
        address = peer_address(protocol.connection._transport)
        self.reach = Reach.of(self._host, address)
        return protocol

    async def _connect(self) -> H2Protocol:
        found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        error: OSError = ConnectionError(f"{self._host} has no address")
        for *_, (host, *_) in found:
            address = literal(str(host).partition("%")[0])
            if address is None or not (self._may_be_inside or PUBLIC.allows(self._host, address)):
                error = leads_inside(self._host, address or LOOPBACK)
                continue
            try:
                _, protocol = await self._loop.create_connection(
                    self._protocol_factory,
                    str(host),
                    self._port,
                    ssl=self._ssl,
                    server_hostname=self._host if self._ssl is not None else None,
                )
                return protocol
            except OSError as failure:
                error = failure
        try:
            raise error
        finally:
            del error

    def _connection_lost(self) -> None:
        self._lost()

    def _flood_came(self) -> None:
        self._flooded()

    def drop(self) -> None:
        """Free the descriptor now: a TLS shutdown would wait for a peer that may be gone."""
        self._lost = self._flooded = lambda: None
        transport = self._protocol.connection._transport if self._protocol and self._connected else None
        self.close()
        if transport is not None:
            transport.abort()


class GrpcCaller:
    """Open connections to orchestrators, one for each address, kept between calls.

    `on_lost` is called with the address whenever an open connection is lost, `on_flood` where it was aborted
    because too much came; `may_be_inside` is asked
    whether an address may lead into a private network, as the operator has named it.
    """

    def __init__(self, context: ssl.SSLContext, on_lost: Callable[[str], None] = lambda addr: None) -> None:
        self.on_lost = on_lost
        self.on_flood: Callable[[str], None] = lambda addr: None
        self.may_be_inside: Callable[[str], bool] = lambda addr: True
        self._context = context
        self._channels: dict[str, _Channel] = {}

    async def ask(self, addr: str, target: GrpcTarget, request: bytes, timeout: float) -> tuple[bytes, Reach]:
        """Call GetOrchestrator; returns the message's bytes, and where its URLs may lead.

        Raises OrchestratorError.

        `timeout` (seconds) covers connection and answer. A time-out closes the connection and fails other
        calls on it: the machine may be gone.
        """
        channel = self._channels.get(addr)
        if channel is None:
            channel = self._channels[addr] = _Channel(
                target,
                self._context,
                lambda: self.on_lost(addr),
                lambda: self.on_flood(addr),
                may_be_inside=self.may_be_inside(addr),
            )
        # In a task of its own: grpclib cancels the task when the connection is lost.
        call = tasks.spawn(_outcome(channel, request), name=f"grpc {addr}")
        try:
            done, _ = await asyncio.wait({call}, timeout=timeout)
        finally:
            await tasks.cancel(call)
        if not done:
            if self._channels.get(addr) is channel:
                self.forget(addr)
            raise Unreachable(f"no answer within {timeout:g} s")
        answer: bytes | OrchestratorError = call.result()
        if isinstance(answer, OrchestratorError):
            raise answer
        return answer, channel.reach

    def forget(self, addr: str) -> None:
        """Close the connection to `addr`, if there is one."""
        channel = self._channels.pop(addr, None)
        if channel is not None:
            channel.drop()

    def close(self) -> None:
        for addr in list(self._channels):
            self.forget(addr)


async def _outcome(channel: Channel, request: bytes) -> bytes | OrchestratorError:
    try:
        return await _call(channel, request)
    except OrchestratorError as error:
        return error
    except GRPCError as error:
        return _translated(error)
    except StreamTerminatedError as error:
        if FLOOD in str(error):
            return BadAnswer(f"it sent {FLOOD}")
        if "Protocol error" in str(error):
            return BadAnswer("it does not speak HTTP/2")
        return Unreachable(f"the connection was lost: {error}")
    except ssl.SSLCertVerificationError as error:
        return Unreachable(f"its certificate does not verify: {error.verify_message}")
    except OSError as error:
        return Unreachable(error.strerror or str(error) or type(error).__name__)
    except Exception as error:
        # Malformed frames make grpclib and h2 raise all kinds of exceptions.
        return BadAnswer(f"it does not speak gRPC: {type(error).__name__}")


async def _call(channel: Channel, request: bytes) -> bytes:
    stream = channel.request(GET_ORCHESTRATOR, Cardinality.UNARY_UNARY, bytes, bytes)
    async with stream:
        await stream.send_message(request, end=True)
        await stream.recv_initial_metadata()
        with stream._wrapper:
            header = await stream._stream.recv_data(FRAME_HEADER)
            length = int.from_bytes(header[1:], "big")
            if length > MAX_MESSAGE:
                raise BadAnswer(f"its answer of {length} bytes is over the limit of {MAX_MESSAGE}")
            message = await stream._stream.recv_data(length)
    if not header:
        raise BadAnswer("its answer is empty")
    if header[0]:
        raise BadAnswer("its answer is compressed, without being asked to")
    return bytes(message)


def _translated(error: GRPCError) -> OrchestratorError:
    message = "".join(c if c.isprintable() else " " for c in error.message or "")
    if CAPPED in message:
        return NoCapacity("no free capacity for the model")
    if error.status is Status.UNAVAILABLE:
        return Unreachable("it is unavailable", said=message[:MAX_SAID])
    if error.status is Status.UNIMPLEMENTED:
        return BadAnswer("it is not an orchestrator: it does not know GetOrchestrator")
    return Refused(None, f"it answers {error.status.name}", said=message[:MAX_SAID])
