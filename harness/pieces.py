"""An HTTP server whose answer arrives in pieces, as from a slow or distant server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from gateway.aio import tasks

PIECE = 1400
"""Bytes: about what one TCP segment carries."""
PAUSE = 0.01
"""Seconds between the first piece and the rest, so that a client reads the first one alone."""

Answer = bytes | Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def answering_in_pieces(
    answer: Answer, *, headers: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Answer every request with status 200 and a body cut every PIECE bytes; yields the server's URL.

    `answer` is the body, or makes it from the request's. `headers` are whole lines, each with its CRLF.
    """
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request = await reader.readexactly(_content_length(head))
                body = answer if isinstance(answer, bytes) else await answer(request)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode())
                for start in range(0, len(body), PIECE):
                    writer.write(body[start : start + PIECE])
                    await writer.drain()
                    if start == 0:
                        await asyncio.sleep(PAUSE)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = tasks.spawn(serve(reader, writer), name="answer in pieces")
        task.add_done_callback(lambda _: writer.close())
        serving.append(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await tasks.cancel(*serving)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0
