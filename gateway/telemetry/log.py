"""Logs: one line per event, fields rather than prose, to stderr."""

from __future__ import annotations

import logging
import re
import sys
from io import StringIO
from textwrap import indent
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger
from typing_extensions import override

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that end a line or turn its direction."""
# go-livepeer's -v is glog's: a higher number logs more
_LEVELS = {0: logging.ERROR, 1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO}


def configure(verbosity: int, log_format: str, stream: TextIO = sys.stderr) -> None:
    """Set up structlog for the process, and `logging` for the libraries.

    `verbosity` is go-livepeer's `-v`: 0 and 1 errors, 2 warnings, 3 events, 4 and above debugging.
    """
    level = _LEVELS.get(verbosity, logging.DEBUG)
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=0,
            exception_formatter=_traceback,
        )
    )
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_area,
    ]
    escape = [] if log_format == "json" else [_escape]
    if log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        before.append(structlog.processors.ExceptionRenderer(tracebacks))
    structlog.configure(
        processors=[*before, *escape, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *area: _AreaLogger(stream, *area),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *escape, renderer],
            foreign_pre_chain=before[1:4],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # the INFO of libraries is shown with our debugging only
    root.setLevel(logging.WARNING if level >= logging.INFO else logging.INFO)


class _Shown:
    """A text that is shown with its control characters escaped."""

    def __init__(self, text: str) -> None:
        self._text = text

    @override
    def __repr__(self) -> str:
        return repr(self._text)


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what could write lines and colours of its own into the log: a name or an error of others."""
    for key, value in event.items():
        if isinstance(value, str) and _CONTROLS.search(value):
            event[key] = _escaped(value) if key == "event" else _Shown(value)
    return event


def _escaped(text: str, *, but: str = "") -> str:
    return _CONTROLS.sub(lambda found: found[0] if found[0] in but else repr(found[0])[1:-1], text)


def _traceback(out: TextIO, error: ExcInfo) -> None:
    """Write a traceback without local variables, which may hold tokens and passwords.

    It is indented: an error's text may have lines that look like the log's.
    """
    plain = StringIO()
    structlog.dev.plain_traceback(plain, error)
    out.write(indent(_escaped(plain.getvalue(), but="\n"), "    "))


class _AreaLogger(structlog.PrintLogger):
    """The logger behind `structlog.get_logger("area")`: keeps the area, which is a field of each line."""

    def __init__(self, stream: TextIO, area: str = "gateway") -> None:
        super().__init__(stream)
        self.name = area


def _add_area(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    event["area"] = getattr(logger, "name", "gateway")
    return event
