"""One unary gRPC question to an orchestrator, answered in the bytes that came.

A shell around grpclib, which has three habits that must not reach the callers: it decodes what it receives,
it reads messages of any size, and it wakes callers of a lost connection by cancelling their task.
"""

from __future__ import annotations

import asyncio
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

from gateway.aio import tasks
from gateway.orchestrator.errors import BadAnswer, NoCapacity, OrchestratorError, Refused, Unreachable

GET_ORCHESTRATOR = "/net.Orchestrator/GetOrchestrator"
MAX_MESSAGE = 256 * 1024
"""The largest answer read, in bytes. An OrchestratorInfo has a few thousand."""
CAPPED = "OrchestratorCapped"
FRAME_HEADER = 5
"""Bytes before a gRPC message: a compression flag and the length."""
CLOSED_STREAMS = 100
"""Questions that a connection remembers after their answers, for frames that come late."""

# h2's own limit is 65,536: 7 MB for each orchestrator after six weeks of a question a minute.
H2Connection.MAX_CLOSED_STREAMS = CLOSED_STREAMS


class _Bytes(CodecBase):
    """Messages go out and come in as the bytes they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _Watcher(Handler):
    """Tells when a connection is gone."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def close(self) -> None:
        super().close()
        self._lost()


class _Protocol(H2Protocol):
    """Hangs up on who does not speak HTTP/2.

    A farewell in TLS reads on for half a minute: who sends without end would have the event loop for as long.
    """

    def data_received(self, data: bytes) -> None:
        transport = getattr(self.connection, "_transport", None)  # which goes when grpclib closes it
        super().data_received(data)
        if transport is not None and not hasattr(self.connection, "_transport"):
            transport.abort()


class _Watched(Channel):
    """A channel that tells when its connection is gone and that can be dropped without a farewell."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, lost: Callable[[], None]) -> None:
        window = Configuration(http2_connection_window_size=MAX_MESSAGE, http2_stream_window_size=MAX_MESSAGE)
        super().__init__(host, port, ssl=context, codec=_Bytes(), config=window)
        self._lost = lost

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(_Watcher(self._connection_lost), self._config, self._h2_config)

    def _connection_lost(self) -> None:
        self._lost()

    def drop(self) -> None:
        """Give the descriptor back now: a TLS farewell would wait for a peer that may be gone."""
        self._lost = lambda: None
        transport = self._protocol.connection._transport if self._protocol and self._connected else None
        self.close()
        if transport is not None:
            transport.abort()


class GrpcCaller:
    """Open connections to orchestrators, one for each address, kept between calls.

    `on_lost` is called with the address whenever a connection that was open is gone.
    """

    def __init__(self, context: ssl.SSLContext, on_lost: Callable[[str], None] = lambda addr: None) -> None:
        self.on_lost = on_lost
        self._context = context
        self._channels: dict[str, _Watched] = {}

    async def ask(self, addr: str, host: str, port: int, request: bytes, timeout: float) -> bytes:
        """Ask GetOrchestrator and return the message as it came. Raises OrchestratorError.

        `timeout` (seconds) covers connection and answer. After a time-out the connection is given up, with
        any other question on it: it may be to a machine that is gone.
        """
        channel = self._channels.get(addr)
        if channel is None:
            channel = self._channels[addr] = _Watched(host, port, self._context, lambda: self.on_lost(addr))
        # grpclib's wake-up calls must not be mistaken for a cancellation of the caller: a task of its own.
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
        return answer

    def forget(self, addr: str) -> None:
        """Close the connection to an address, if there is one."""
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
        if "Protocol error" in str(error):
            return BadAnswer("it does not speak HTTP/2")
        return Unreachable(f"the connection was lost: {error}")
    except ssl.SSLCertVerificationError as error:
        return Unreachable(f"its certificate does not verify: {error.verify_message}")
    except OSError as error:
        return Unreachable(error.strerror or str(error) or type(error).__name__)
    except Exception as error:
        # grpclib and h2 answer malformed frames with whatever their internals stumble over.
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
        raise BadAnswer("it answered nothing")
    if header[0]:
        raise BadAnswer("its answer is compressed, which was not asked for")
    return bytes(message)


def _translated(error: GRPCError) -> OrchestratorError:
    message = error.message or ""
    if CAPPED in message:
        return NoCapacity("no free capacity for the model")
    if error.status is Status.UNAVAILABLE:
        return Unreachable(message or "unavailable")
    if error.status is Status.UNIMPLEMENTED:
        return BadAnswer("it is no orchestrator: GetOrchestrator is unknown there")
    return Refused(None, f"{error.status.name}: {message}"[:200])
