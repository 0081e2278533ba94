"""Serves requests that other nodes send on: through this node's own application, on a socket of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import aiohttp
import structlog
from yarl import URL

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.tasks import spawn
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterError, NoAnswerInTime
from gateway.cluster.pieces import MAX_BYTES, Pieces
from gateway.cluster.requests import BadNodeMessage, ForwardedAnswer, ForwardedRequest

log = structlog.get_logger("cluster")

MAX_AT_ONCE = 256
"""Requests that are served at once, or whose pieces are coming; further ones are not answered."""
PIECES_TIMEOUT = 5.0
SERVE_TIMEOUT = 60.0
MAX_ANSWER = MAX_BYTES - 512 * 1024
"""Bytes of an answer's body; its head has to fit in the message too."""
NOT_SENT_ON = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "vary"}
)
"""Headers of an answer that the node makes itself which the client asked; lower case."""


class Responder:
    """`serve` takes requests of other nodes; each gets the answer of the application on `socket`."""

    def __init__(self, bus: Bus, socket: Path) -> None:
        self._bus = bus
        self._client = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket), limit=MAX_AT_ONCE),
            timeout=aiohttp.ClientTimeout(total=SERVE_TIMEOUT),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._coming: dict[str, Pieces] = {}
        """By reply subject: requests of which pieces are missing."""
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Responder:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._client.close()

    def serve(self, message: BusMessage) -> None:
        """Take one message, a whole request or a piece of one."""
        if not message.reply or len(self._serving) + len(self._coming) >= MAX_AT_ONCE:
            return
        pieces = self._coming.pop(message.reply, None)
        first = pieces is None
        pieces = pieces or Pieces()
        try:
            whole = pieces.add(message.headers, message.data)
        except NoAnswerInTime as error:
            log.warning("a request of another node was dropped", error=str(error))
            return
        if whole is not None:
            task = spawn(self._answer(message.reply, whole), name="cluster request")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            return
        self._coming[message.reply] = pieces
        if first:
            asyncio.get_running_loop().call_later(PIECES_TIMEOUT, self._forget, message.reply, pieces)

    def _forget(self, reply: str, pieces: Pieces) -> None:
        if self._coming.get(reply) is pieces:
            del self._coming[reply]

    async def _answer(self, reply: str, data: bytes) -> None:
        with suppress(ClusterError):  # who asked has its own time limits
            if not data:
                await self._bus.answer(reply, b"")
                return
            await self._bus.acknowledge(reply)
            try:
                answer = await self._ask_application(ForwardedRequest.decode(data))
            except (BadNodeMessage, BodyTooLarge, aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("a request of another node failed", error=str(error) or type(error).__name__)
                return
            await self._bus.answer(reply, answer.encode())

    async def _ask_application(self, request: ForwardedRequest) -> ForwardedAnswer:
        headers = [
            *request.headers,
            ("Host", request.host),
            ("X-Forwarded-For", request.client),
            ("X-Forwarded-Proto", request.scheme),
            ("X-Forwarded-Host", request.host),
            *([("X-Forwarded-Prefix", request.prefix)] if request.prefix else []),
        ]
        url = URL(f"http://node{request.target}", encoded=True)
        async with self._client.request(
            request.method, url, headers=headers, data=request.body or None, allow_redirects=False
        ) as response:
            body = await read_bounded(response, MAX_ANSWER)
            kept = tuple(
                (name, value)
                for name, value in response.headers.items()
                if name.lower() not in NOT_SENT_ON and not name.lower().startswith("access-control-")
            )
            return ForwardedAnswer(response.status, kept, body)
