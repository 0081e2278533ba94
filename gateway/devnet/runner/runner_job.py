"""One job of a runner: its channels on the event loop, and the thread that changes the picture."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import structlog

from gateway.aio.tasks import TaskGroup
from gateway.devnet.runner.feed import Feed
from gateway.devnet.runner.picture import BLUR_RADIUS
from gateway.devnet.runner.request import BadRunnerRequest, RunnerRequest, chosen_effect
from gateway.devnet.runner.transform import Transform
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelError
from gateway.trickle.events import JsonSubscriber
from gateway.trickle.publisher import TricklePublisher
from gateway.trickle.segment_writer import SegmentWriter
from gateway.trickle.subscriber import TrickleSubscriber

STATUS_INTERVAL = 2.0
"""Seconds between status events."""
INPUT_MISSING_AFTER = 2.0
"""Seconds without input after which the status says so."""
THREAD_END_TIMEOUT = 5.0
PIPELINE = "live-video-to-video"

Json = dict[str, Any]


class TransformJob:
    """`run` does the job until its input or output channel ends or it is cancelled."""

    def __init__(
        self,
        request: RunnerRequest,
        *,
        http: aiohttp.ClientSession,
        default_effect: str,
        status_interval: float = STATUS_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self.ended: str | None = None
        """Why it ended; None while it runs."""
        self._log = structlog.get_logger("devnet.runner").bind(
            stream=request.stream_id, request_id=request.gateway_request_id, manifest_id=request.manifest_id
        )
        self._http = http
        self._clock = clock
        self._status_interval = status_interval
        self._default_effect = default_effect
        self._params: Json = {}
        self._params_at: int | None = None
        self._started_at = _now_ms()
        self._last_input: float | None = None
        self._last_error: str | None = None
        self._last_error_at: int | None = None
        self._rates = _Rates(clock())
        self._feed = Feed()
        self._output = TricklePublisher(http, request.publish_url, max_buffer=5_000_000, log=self._log)
        self._transform = Transform(
            self._feed,
            _LoopSink(self._output, asyncio.get_running_loop()),
            effect=default_effect,
            log=self._log,
        )
        interval = request.params.get("picture_interval")
        if isinstance(interval, int | float):
            self._transform.picture_interval = interval
        self._events: JsonPublisher | None = None
        self.apply_params(request.params)

    async def run(self) -> None:
        """Do the job. Raises only CancelledError: the reason of the end is in `ended`."""
        self._log.info("job started", effect=self._transform.effect, model=self.request.model_id)
        thread_over = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._transform.start(
            lambda: _call_soon(loop, thread_over.set), name=f"job {self.request.manifest_id}"
        )
        reason = "cancelled"
        try:
            reason = await self._relay(thread_over)
        except ChannelError as error:
            reason = str(error)
        except Exception as error:
            reason = f"internal error: {error}"
            self._log.exception("job failed")
        finally:
            self._feed.end()
            with suppress(TimeoutError):
                async with asyncio.timeout(THREAD_END_TIMEOUT):
                    await thread_over.wait()
            self.ended = reason
            counters = self._transform.counters
            self._log.info(
                "job ended", reason=reason, frames_in=counters.frames_in, frames_out=counters.frames_out
            )

    def description(self) -> Json:
        """Its entry in `/devnet/jobs`."""
        counters = self._transform.counters
        return {
            "request_id": self.request.gateway_request_id,
            "manifest_id": self.request.manifest_id,
            "stream_id": self.request.stream_id,
            "model_id": self.request.model_id,
            "effect": self._transform.effect,
            "params": self._params,
            "ended": self.ended,
            "segments": counters.segments_in,
            "segments_damaged": counters.segments_damaged,
            "segments_out": self._transform.segments_out,
            "segments_out_dropped": self._output.dropped,
            "frames_in": counters.frames_in,
            "frames_out": counters.frames_out,
            "frames_undecodable": counters.frames_undecodable,
            "audio_in": counters.audio_in,
            "last_error": self._error(),
            "vcl_sha256": self._transform.received.hashes(),
        }

    async def _relay(self, thread_over: asyncio.Event) -> str:
        """Run all channels until input or output ends; returns why. Closes the channels it publishes."""
        try:
            async with TaskGroup() as group:
                output = group.create_task(_outcome(self._output.run()), name="runner-output")
                source = group.create_task(_outcome(self._read_input()), name="runner-input")
                others = [
                    group.create_task(self._read_control(), name="runner-control"),
                    group.create_task(self._send_events(), name="runner-events"),
                ]
                first, _ = await asyncio.wait({output, source}, return_when=asyncio.FIRST_COMPLETED)
                reason = str(first.pop().result())
                if not output.done():
                    # let the thread finish its input, and its segments go out
                    self._feed.end()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(THREAD_END_TIMEOUT):
                            await thread_over.wait()
                    await self._output.close()
                for task in (source, output, *others):
                    task.cancel()
        finally:
            # closing a channel that the orchestrator has ended already does no harm
            await asyncio.gather(self._output.close(), *([self._events.close()] if self._events else []))
        return reason

    async def _read_input(self) -> None:
        subscriber = TrickleSubscriber(self._http, self.request.subscribe_url, start=0, log=self._log)
        try:
            async for segment in subscriber.segments():
                held = self._feed.open_segment()
                try:
                    async for chunk in segment.chunks():
                        self._last_input = self._clock()
                        held.write(chunk)
                finally:
                    held.end(truncated=segment.truncated)
        finally:
            await subscriber.close()

    async def _read_control(self) -> None:
        """Apply control messages until their channel ends; the job goes on without it."""
        if not self.request.control_url:
            return
        messages = JsonSubscriber(self._http, self.request.control_url, log=self._log)
        try:
            async for message in messages:
                self.apply_params(message)
        except ChannelError as error:
            self._log.info("no more control messages", error=str(error))
        finally:
            await messages.close()

    async def _send_events(self) -> None:
        if not self.request.events_url:
            return
        self._events = JsonPublisher(self._http, self.request.events_url, keep_alive=None, log=self._log)
        async with TaskGroup() as group:
            sending = group.create_task(_outcome(self._events.run()), name="runner-events-out")
            while not sending.done():
                self._send(self.status())
                await asyncio.wait({sending}, timeout=self._status_interval)

    def apply_params(self, params: Json) -> None:
        """Take a whole set of parameters: what it does not name has its default, as in the ai-runner.

        A set with an unknown effect is reported and changes nothing.
        """
        try:
            effect = chosen_effect(params) or self._default_effect
        except BadRunnerRequest as error:
            self._report(str(error))
            return
        self._params = params
        self._params_at = _now_ms()
        radius = params.get("radius")
        self._transform.set_blur_radius(radius if type(radius) is int and radius > 0 else BLUR_RADIUS)
        if effect != self._transform.effect:
            self._log.info("effect changed", effect=effect)
            self._transform.effect = effect
            self._send(self.status())

    def pause(self, *, on: bool) -> None:
        """Give no pictures for now, or go on."""
        self._transform.paused = on

    def _report(self, error: str) -> None:
        self._last_error, self._last_error_at = error, _now_ms()
        self._log.warning("error reported", error=error)
        self._send({"type": "error", "message": error})

    def _send(self, event: Json) -> None:
        """Send an event where there is a channel for them; drops it when it is too long or too many wait."""
        if self._events is None:
            return
        with suppress(ValueError):
            self._events.publish(event)

    def _error(self) -> str | None:
        return self._last_error or self._transform.last_error

    def status(self) -> Json:
        """A status event as the ai-runner sends it."""
        now, counters = self._clock(), self._transform.counters
        silent_for = None if self._last_input is None else now - self._last_input
        fps_in, fps_out = self._rates.update(now, counters.frames_in, counters.frames_out)
        return {
            "type": "status",
            "pipeline": PIPELINE,
            "state": _state(silent_for),
            "start_time": self._started_at,
            "input_status": {
                "last_input_time": None if silent_for is None else _now_ms() - round(silent_for * 1000),
                "fps": fps_in,
                "segments": counters.segments_in,
                "segments_damaged": counters.segments_damaged,
            },
            "inference_status": {
                "fps": fps_out,
                "effect": self._transform.effect,
                "last_params": self._params or None,
                "last_params_update_time": self._params_at,
                "last_error": self._error(),
                "last_error_time": self._last_error_at,
                "restart_count": 0,
                "last_restart_logs": None,
            },
        }


class _Rates:
    """Frame rates between two calls of `update`."""

    def __init__(self, now: float) -> None:
        self._seen = (now, 0, 0)
        self._rates = (0.0, 0.0)

    def update(self, now: float, frames_in: int, frames_out: int) -> tuple[float, float]:
        then, before_in, before_out = self._seen
        if now - then >= 0.5:
            self._rates = (
                round((frames_in - before_in) / (now - then), 1),
                round((frames_out - before_out) / (now - then), 1),
            )
            self._seen = (now, frames_in, frames_out)
        return self._rates


class _LoopSink:
    """Passes the thread's segments to the publisher on the loop, in order."""

    def __init__(self, publisher: TricklePublisher, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher = publisher
        self._loop = loop
        self._segment: SegmentWriter | None = None

    def open_segment(self) -> None:
        _call_soon(self._loop, self._open)

    def write(self, data: bytes) -> None:
        _call_soon(self._loop, self._write, data)

    def close_segment(self) -> None:
        _call_soon(self._loop, self._close)

    def _open(self) -> None:
        self._segment = self._publisher.open_segment()

    def _write(self, data: bytes) -> None:
        if self._segment is not None:
            self._segment.write(data)

    def _close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def _state(silent_for: float | None) -> str:
    if silent_for is None:
        return "LOADING"
    return "ONLINE" if silent_for < INPUT_MISSING_AFTER else "DEGRADED_INPUT"


async def _outcome(channel: Any) -> str:
    """Why a channel's coroutine ended, as text, so that its end does not cancel the other tasks."""
    try:
        await channel
    except ChannelError as error:
        return str(error)
    return "done"


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *arguments: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(call, *arguments)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
