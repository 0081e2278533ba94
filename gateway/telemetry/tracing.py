"""Traces of single publishes and payments, for OpenTelemetry; nothing is recorded until `use` is called.

The span of a publish is the current one in all tasks of its stream, as `contextvars` hands it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Value = str | int | float | bool
MAX_TEXT = 500
"""Characters of an attribute or an error."""


class Span:
    """A step of a trace. This one, for where there are no traces, records nothing."""

    traceparent = ""
    """The W3C Trace Context of it, version 00; empty where it is not recorded."""

    def child(self, name: str, **attributes: Value) -> Span:
        """A step within it, which begins now."""
        return self

    def note(self, **attributes: Value) -> None:
        """Add what became known meanwhile."""

    def end(self, error: str = "") -> None:
        """It is over, with what went wrong; further calls change nothing."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What hands it on in an HTTP request."""
        return {"traceparent": self.traceparent} if self.traceparent else {}


class Tracer(Protocol):
    """What records spans."""

    def begin(self, name: str, attributes: Mapping[str, Value], cause: Span) -> Span:
        """A trace's first span; `cause` is one of another trace that it is linked to."""


NO_SPAN = Span()
_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)
_tracers: list[Tracer] = []


@contextmanager
def use(tracer: Tracer) -> Iterator[None]:
    """Record with `tracer` meanwhile."""
    _tracers.append(tracer)
    try:
        yield
    finally:
        _tracers.remove(tracer)


def begin(name: str, **attributes: Value) -> Span:
    """A new trace's first span, linked to the current span where there is one."""
    return _tracers[-1].begin(name, attributes, current()) if _tracers else NO_SPAN


def current() -> Span:
    """The span of the publish that this task works for."""
    return _current.get()


@contextmanager
def entered(span: Span) -> Iterator[None]:
    """`span` is the current one here, and for good in the tasks that begin here."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def ended_with(span: Span) -> Iterator[Span]:
    """End `span` after the block, with the error that left it."""
    try:
        yield span
    except BaseException as error:
        span.end(str(error) or type(error).__name__)
        raise
    span.end()
