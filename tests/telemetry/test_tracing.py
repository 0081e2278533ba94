"""Traces: nothing without a collector, and with one what it is sent, however it behaves."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from gateway.aio.tasks import spawn
from gateway.events.webhook import trace_of
from gateway.telemetry import tracing
from gateway.telemetry.events import Event, EventType
from gateway.telemetry.otel import MAX_QUEUED, OtelTracer
from gateway.telemetry.tracing import MAX_TEXT, NO_SPAN, Span
from harness.otlp import otlp_receiver


def test_without_a_collector_nothing_is_recorded_or_imported() -> None:
    span = tracing.begin("publish", stream="cam")
    assert span is span.child("answer") is tracing.current() is NO_SPAN
    assert dict(span.headers) == {}
    assert "traceparent" not in Event(EventType.NODE_DRAINING, {}).text
    program = "import sys, gateway.daemon; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


async def current_there() -> Span:
    return tracing.current()


@pytest.mark.asyncio
async def test_steps_errors_and_links_come_to_the_collector_at_the_end_at_the_latest() -> None:
    async with otlp_receiver() as collector:
        tracer = OtelTracer(f"{collector.url}/", version="1", node="a")
        with tracing.use(tracer):
            publish = tracing.begin("publish", stream="x" * 2 * MAX_TEXT)
            with tracing.entered(publish):
                task = spawn(current_there(), name="stream")
                event = Event(EventType.NODE_DRAINING, {})
                payment = tracing.begin("payment")
            with pytest.raises(KeyError), tracing.ended_with(publish.child("answer", tries=2)):
                raise KeyError("no room")
            assert await task is publish
            assert tracing.current() is NO_SPAN
            payment.end()
            publish.end()
            publish.end("too late")
        assert tracing.begin("publish") is NO_SPAN
        await tracer.close()
        spans = {span.name: span for span in collector.spans}
    whole, answer, paid = (spans[name] for name in ("publish", "answer", "payment"))
    assert (whole.parent, whole.error, whole.attributes) == ("", None, {"stream": "x" * MAX_TEXT})
    assert (answer.trace, answer.parent) == (whole.trace, whole.id)
    assert (answer.error, answer.attributes) == ("'no room'", {"tries": "2"})
    assert paid.trace != whole.trace
    assert paid.links == (whole.trace,)
    assert publish.traceparent == event.traceparent
    assert event.traceparent.startswith(f"00-{whole.trace}-{whole.id}-0")
    assert trace_of(event.text) == {"traceparent": event.traceparent}
    assert trace_of('{"data":{"stream":"\\"traceparent\\":"}}') == trace_of('{"traceparent":"x"}') == {}
    assert event.traceparent in event.text
    assert "traceparent" not in event.public_text


@pytest.mark.asyncio
@pytest.mark.parametrize("stalls", [True, False])
async def test_a_collector_that_fails_costs_only_its_traces(stalls: bool) -> None:
    async with otlp_receiver() as collector:
        collector.stalls, collector.status = stalls, 503
        tracer = OtelTracer(collector.url, version="1", close_timeout=0.3)
        with tracing.use(tracer):
            for _ in range(2 * MAX_QUEUED):
                tracing.begin("payment").end()
        async with asyncio.timeout(20):
            await tracer.close()
        assert collector.requests
    assert logging.getLogger("opentelemetry").propagate, "the log is as it was"
