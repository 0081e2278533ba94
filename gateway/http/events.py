"""Events as server-sent events (WHATWG HTML, 9.2): of all streams, or of one for those who watch it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route, Token
from gateway.http.sessions import STREAM
from gateway.telemetry.events import EventHub, TooManyReaders

EVENT_STREAM = "text/event-stream"
KEEP_ALIVE = 15.0
"""Seconds after which a comment is sent, so that nothing on the way takes the connection for dead."""
RETRY_MS = 2000
"""After how many milliseconds a browser is to come back."""
MAX_ID = 64

_ANSWERS = {200: "events, as they come", 429: "too many connections read events"}
_QUERY = {
    "after": "the id of the last event that was read, as the header Last-Event-ID; `all` for the last ones"
}


class EventRoutes:
    """For those who may watch a stream: its events, and what its worker says."""

    def __init__(self, hub: EventHub, stream_name: Callable[[str], str]) -> None:
        self._hub = hub
        self._stream_name = stream_name

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                STREAM + "/events",
                self.events,
                "a stream's events and what its worker says, as they come; before it is published, too",
                _ANSWERS,
                gives=EVENT_STREAM,
                token=Token.PLAY,
                by_id=True,
                query=_QUERY,
            )
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        return await send_events(request, self._hub, self._stream_name(request.match_info["stream"]))


class OperatorEventRoutes:
    """For the operator: the events of all streams."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub

    def routes(self) -> list[Route]:
        summary = "the events of all streams, as they come"
        return [
            Route("GET", "/events", self.events, summary, _ANSWERS, gives=EVENT_STREAM, query=_QUERY),
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        return await send_events(request, self._hub, None)


async def send_events(request: web.Request, hub: EventHub, stream: str | None) -> web.StreamResponse:
    """Answer with events until the client goes, reads too slowly, or the gateway stops."""
    after = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    response = web.StreamResponse(
        headers={
            "Content-Type": EVENT_STREAM,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )

    def abort() -> None:
        if request.transport is not None:
            request.transport.abort()

    try:
        with hub.reading(stream, after[:MAX_ID], abort) as reader:
            async with _other_nodes(hub, stream):
                await response.prepare(request)
                if request.method == "HEAD":
                    return response
                await response.write(f"retry: {RETRY_MS}\n\n".encode())
                while (message := await reader.take(KEEP_ALIVE)) is not None:
                    await response.write(message or b": \n\n")
    except TooManyReaders as error:
        headers = {"Retry-After": "5"}
        raise Problem(429, ProblemCode.LIMIT_REACHED, str(error), headers=headers, limit="events") from error
    except ConnectionError:
        return response  # the client has gone
    return response


@asynccontextmanager
async def _other_nodes(hub: EventHub, stream: str | None) -> AsyncIterator[None]:
    """Get the stream's events from the node that has it."""
    if stream is None or hub.remote is None:
        yield
        return
    await hub.remote.watch(stream)
    try:
        yield
    finally:
        await hub.remote.unwatch(stream)
