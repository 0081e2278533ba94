"""Trickle server: channels of numbered segments over HTTP, as routes for an aiohttp application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from aiohttp import web

from gateway.devnet.trickle_channel import Channel, Closed, Cut, NoSuchSegment, StoredSegment
from gateway.trickle import wire

MAX_BODY = 32_000_000
"""Limit in bytes of a segment."""
SWEEP_AFTER = 300.0
"""Seconds without a new segment after which a channel is closed."""
CONTINUE_INTERVAL = 10.0
"""Seconds between the interim answers to a POST without bytes."""
HANGUP_CHECK = 1.0
"""Seconds between checks that a waiting client is still connected; aiohttp does not tell handlers."""
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
INTERIM_ANSWER = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger("trickle")


class TrickleServer:
    """All channels under one path. Times are those of the running event loop's clock."""

    def __init__(
        self,
        *,
        prefix: str = "/ai/trickle",
        max_body: int = MAX_BODY,
        sweep_after: float = SWEEP_AFTER,
        continue_interval: float = CONTINUE_INTERVAL,
    ) -> None:
        self._prefix = prefix.rstrip("/")
        self._max_body = max_body
        self._sweep_after = sweep_after
        self._continue_interval = continue_interval
        self._channels: dict[str, Channel] = {}
        self._sweeps: dict[str, asyncio.TimerHandle] = {}

    def routes(self) -> list[web.RouteDef]:
        """The routes for the application."""
        channel = self._prefix + "/{name}"
        segment = channel + r"/{seq:-?\d{1,18}}"
        return [
            web.post(segment, self._post),
            web.get(channel + "/next", self._next, allow_head=False),
            web.get(segment, self._get, allow_head=False),
            web.delete(segment, self._delete_segment),
            web.delete(channel, self._delete_channel),
        ]

    def create(
        self,
        name: str,
        *,
        content_type: str = "video/MP2T",
        on_segment: Callable[[int], object] | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        """Make a channel. Raises ValueError where the name is taken.

        `on_segment` is called with a segment's number when its first bytes arrive, `on_close` once when
        the channel ends for any reason; both may call `terminate`.
        """
        if name in self._channels:
            raise ValueError(f"there is a channel {name} already")
        loop = asyncio.get_running_loop()
        self._channels[name] = Channel(
            name, content_type=content_type, now=loop.time(), on_segment=on_segment, on_close=on_close
        )
        self._sweeps[name] = loop.call_later(self._sweep_after, self._sweep, name)

    def terminate(self, name: str) -> bool:
        """End a channel: open requests are answered, later ones get 404. False where there is none."""
        channel = self._channels.pop(name, None)
        if channel is None:
            return False
        self._sweeps.pop(name).cancel()
        channel.close()
        return True

    def publish(self, name: str, message: Mapping[str, object]) -> None:
        """Write one JSON object as the next segment of a channel; nothing where there is none."""
        channel = self._channels.get(name)
        if channel is None:
            return
        now = asyncio.get_running_loop().time()
        segment = channel.open(channel.next_seq)
        channel.write(segment, json.dumps(message, separators=(",", ":")).encode(), now)
        channel.finish(segment, now)

    async def close(self, name: str) -> None:
        """End a channel, if there is one, and let its open requests finish."""
        self.terminate(name)
        await asyncio.sleep(0)

    async def shutdown(self, _: web.Application | None = None) -> None:
        """End all channels; for an application's `on_shutdown`, which waits for open requests."""
        for name in self.names():
            self.terminate(name)

    def names(self) -> list[str]:
        """The names of all channels."""
        return list(self._channels)

    def awaited(self) -> list[str]:
        """The names of the channels whose next segment a reader waits for."""
        return [name for name, channel in self._channels.items() if channel.awaited]

    def _sweep(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        due = self._channels[name].last_segment + self._sweep_after
        if loop.time() >= due:
            log.info("idle channel swept", channel=name)
            self.terminate(name)
        else:
            self._sweeps[name] = loop.call_at(due, self._sweep, name)

    def _channel(self, request: web.Request) -> Channel:
        channel = self._channels.get(request.match_info["name"])
        if channel is None:
            raise web.HTTPNotFound(text="Stream not found\n", headers=NO_SNIFFING)
        return channel

    async def _post(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel(request)
        seq = int(request.match_info["seq"])
        now = asyncio.get_running_loop().time
        if wire.RESET in request.headers:
            channel.restart(seq, now())
        try:
            segment = channel.open(seq)
        except NoSuchSegment:
            return _no_such_segment(channel, seq)
        try:
            async with asyncio.timeout(None) as scope:
                # anything else that ends the segment stops this request from waiting for bytes
                segment.on_end = lambda: scope.reschedule(now())
                try:
                    await self._fill(request, channel, segment)
                finally:
                    segment.on_end = None
        except TimeoutError:
            return _last_answer(channel, seq)
        except ConnectionError:
            log.debug("publisher gone", channel=channel.name, seq=seq)
            channel.abandon(segment)
            return _last_answer(channel, seq)
        except web.HTTPRequestEntityTooLarge:
            channel.finish(segment, now())
            raise
        except BaseException:
            channel.abandon(segment)
            raise
        channel.finish(segment, now())
        return _answer(channel, seq)

    async def _fill(self, request: web.Request, channel: Channel, segment: StoredSegment) -> None:
        """Copy the body into the segment as it arrives."""
        loop = asyncio.get_running_loop()
        while not request.content.at_eof():
            try:
                async with asyncio.timeout(None if segment.started else self._continue_interval):
                    data = await request.content.readany()
            except TimeoutError:
                if request.transport is not None:
                    request.transport.write(INTERIM_ANSWER)
                continue
            if segment.size + len(data) > self._max_body:
                raise web.HTTPRequestEntityTooLarge(self._max_body, segment.size + len(data))
            if data:
                channel.write(segment, data, loop.time())

    async def _get(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel(request)
        seq, latest = channel.resolve(int(request.match_info["seq"])), channel.next_seq
        try:
            segment = await _wait(request, channel, seq)
        except NoSuchSegment:
            return _no_such_segment(channel, seq)
        except Closed:
            return _answer(channel, seq, latest=channel.next_seq)
        if not segment.started and segment.ended:
            return _answer(channel, seq, latest=channel.next_seq)
        headers = {"Content-Type": channel.content_type, wire.SEQ: str(segment.seq)}
        if segment.seq != latest:
            headers[wire.LATEST] = str(latest)
        response = web.StreamResponse(headers=headers)
        transport = request.transport
        if transport is None:
            return response
        # the handler may be stuck in a write when its segment is evicted, so it is cut off from outside
        segment.on_evict.add(transport.abort)
        try:
            await response.prepare(request)
            async for chunk in segment.chunks():
                await response.write(chunk)
        except Cut:
            log.info("slow reader cut", channel=channel.name, seq=segment.seq)
        except ConnectionError:
            log.debug("reader gone", channel=channel.name, seq=segment.seq)
        finally:
            segment.on_evict.discard(transport.abort)
        return response

    async def _next(self, request: web.Request) -> web.Response:
        channel = self._channel(request)
        return web.Response(text=str(channel.next_seq), headers={wire.LATEST: str(channel.next_seq)})

    async def _delete_segment(self, request: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        if not self._channel(request).delete(int(request.match_info["seq"]), now):
            raise web.HTTPBadRequest(text="Nonexistent segment\n", headers=NO_SNIFFING)
        return web.Response()

    async def _delete_channel(self, request: web.Request) -> web.Response:
        if not self.terminate(request.match_info["name"]):
            raise web.HTTPBadRequest(text="Invalid stream\n", headers=NO_SNIFFING)
        return web.Response()


async def _wait(request: web.Request, channel: Channel, seq: int) -> StoredSegment:
    """Wait for the segment while the client is connected. Raises NoSuchSegment, also if it left."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(HANGUP_CHECK):
                return await channel.find(seq)
        if request.transport is None or request.transport.is_closing():
            raise NoSuchSegment


def _answer(channel: Channel, seq: int, *, latest: int | None = None) -> web.Response:
    """Status 200 without a body, with `Lp-Trickle-Closed` where the channel has ended."""
    headers = {wire.SEQ: str(seq)}
    if latest is not None:
        headers[wire.LATEST] = str(latest)
    if channel.closed:
        headers[wire.CLOSED] = wire.TERMINATED
    return web.Response(headers=headers)


def _last_answer(channel: Channel, seq: int) -> web.Response:
    """The same for a request whose body was not read to its end: the connection must close."""
    response = _answer(channel, seq)
    response.force_close()
    return response


def _no_such_segment(channel: Channel, seq: int) -> web.Response:
    return web.Response(
        status=wire.NO_SUCH_SEGMENT,
        reason="No Such Segment",
        headers={wire.LATEST: str(channel.next_seq), wire.SEQ: str(seq)},
        text="Entry not found",
    )
