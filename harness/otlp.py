"""An OpenTelemetry collector that keeps the spans that it gets, as OTLP over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from harness.serving import serving
from harness.waiting import eventually

FAILED = 2
"""The code of a span's status that says that it failed."""


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came; ids in hex."""

    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    """The traces that it is linked to."""
    attributes: dict[str, str]
    error: str | None
    """What went wrong; None where nothing did."""
    seconds: float


class OtlpReceiver:
    """`status` is what it answers with; while it `stalls` it does not answer."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[ReceivedSpan] = []
        self.requests = 0
        self.status = 200
        self.stalls = False

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        if self.stalls:
            await asyncio.Event().wait()
        if self.status == 200:
            sent = ExportTraceServiceRequest.FromString(body)
            scopes = [scope for resource in sent.resource_spans for scope in resource.scope_spans]
            self.spans += [_read(span) for scope in scopes for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(status=self.status, body=answer, content_type="application/x-protobuf")

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        await eventually(condition, what=what)


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    async with serving(web.post("/v1/traces", receiver.take)) as url:
        receiver.url = url
        yield receiver


def _read(span: Span) -> ReceivedSpan:
    values = {one.key: one.value for one in span.attributes}
    kinds = {name: value.WhichOneof("value") for name, value in values.items()}
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.trace_id.hex() for link in span.links),
        {name: str(getattr(value, kinds[name] or "string_value")) for name, value in values.items()},
        span.status.message if span.status.code == FAILED else None,
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )
