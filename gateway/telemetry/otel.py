"""Records traces with OpenTelemetry's SDK and sends them to a collector, as OTLP over HTTP.

Imported only where -otelEndpoint is given. Spans wait in a bounded queue for a thread that sends them; what
does not fit into it is dropped, and a collector that fails costs nothing but its traces.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from typing_extensions import override

from gateway.telemetry.tracing import MAX_TEXT, Span, Value

log = structlog.get_logger("traces")

SERVICE = "livepeer-gateway"
PATH = "/v1/traces"
"""Below the endpoint, as OTLP over HTTP has it."""
MAX_QUEUED = 2048
"""Spans that wait to be sent."""
BATCH = 256
TIMEOUT = 10
"""Seconds for one request with its repetitions."""
CLOSE_TIMEOUT = 3.0
"""Seconds at the end for what still waits."""
COMPLAIN_EVERY = 60.0
"""Seconds between two log lines on a collector that fails."""


class OtelSpan(Span):
    """A span of the SDK."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        context = span.get_span_context()
        ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        self.traceparent = f"00-{ids}-{int(context.trace_flags):02x}"

    @property
    def link(self) -> trace.Link:
        """What refers to it from another trace."""
        return trace.Link(self._span.get_span_context())

    @override
    def child(self, name: str, **attributes: Value) -> Span:
        within = trace.set_span_in_context(self._span)
        return OtelSpan(self._tracer, self._tracer.start_span(name, within, attributes=_short(attributes)))

    @override
    def note(self, **attributes: Value) -> None:
        self._span.set_attributes(_short(attributes))

    @override
    def end(self, error: str = "") -> None:
        if self._span.is_recording():
            if error:
                self._span.set_status(trace.StatusCode.ERROR, error[:MAX_TEXT])
            self._span.end()


class OtelTracer:
    """Sends to the collector at `endpoint`. `node` is this node's name in a cluster.

    The SDK's variables for sampling, headers, limits and the delay of batches (`OTEL_..`) hold.
    """

    def __init__(
        self, endpoint: str, *, version: str, node: str = "", close_timeout: float = CLOSE_TIMEOUT
    ) -> None:
        self._close_timeout = close_timeout
        named = {"service.name": SERVICE, "service.version": version}
        if node:
            named["service.instance.id"] = node
        self._complaints = _Complaints()
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint.rstrip("/") + PATH, timeout=TIMEOUT)
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, max_queue_size=MAX_QUEUED, max_export_batch_size=BATCH)
        )
        self._tracer = self._provider.get_tracer(SERVICE, version)

    def begin(self, name: str, attributes: Mapping[str, Value], cause: Span) -> Span:
        links = [cause.link] if isinstance(cause, OtelSpan) else []
        alone = trace.set_span_in_context(trace.INVALID_SPAN)
        started = self._tracer.start_span(name, alone, attributes=_short(attributes), links=links)
        return OtelSpan(self._tracer, started)

    async def close(self) -> None:
        """Send what waits, for so long as the collector may take at the end."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(sent.set)

        # not of the loop's pool, whose threads are waited for without a limit
        threading.Thread(target=shut_down, name="traces shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(self._close_timeout):
                await sent.wait()
        except TimeoutError:
            self._exporter.shutdown()
            log.warning("the last traces were not sent")
        self._complaints.close()


class _Complaints(logging.Handler):
    """The SDK's warnings, at most one in so many seconds: it has one for each batch that is not sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next = float("-inf")
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + COMPLAIN_EVERY
            log.warning("traces are not sent", detail=record.getMessage()[:MAX_TEXT])

    @override
    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True
        super().close()


def _short(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in attributes.items()}
