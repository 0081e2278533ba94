"""Logs: one line per event, fields rather than prose, to stderr."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

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
            # without local variables, which may hold tokens and passwords
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_area,
    ]
    if log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        before.append(structlog.processors.ExceptionRenderer(tracebacks))
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *area: _AreaLogger(stream, *area),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=before[1:4],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # the INFO of libraries is shown with our debugging only
    root.setLevel(logging.WARNING if level >= logging.INFO else logging.INFO)


class _AreaLogger(structlog.PrintLogger):
    """The logger behind `structlog.get_logger("area")`: keeps the area, which is a field of each line."""

    def __init__(self, stream: TextIO, area: str = "gateway") -> None:
        super().__init__(stream)
        self.name = area


def _add_area(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    event["area"] = getattr(logger, "name", "gateway")
    return event
