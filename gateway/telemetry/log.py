"""Logs: one line per event, fields rather than prose, to stderr."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# go-livepeer's -v is glog's: the higher the number, the more is said
_LEVELS = {0: logging.ERROR, 1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO}


def configure(verbosity: int, log_format: str, stream: TextIO = sys.stderr) -> None:
    """Set up structlog for the process, and what libraries say through `logging` beside it.

    `verbosity` is go-livepeer's `-v`: 3 says what happens, 4 and above add debugging.
    """
    level = _LEVELS.get(verbosity, logging.DEBUG)
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=0,
            # never with local variables: tokens and passwords may be among them
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
    # libraries are quieter than we are: their INFO is our debugging
    root.setLevel(logging.WARNING if level >= logging.INFO else logging.INFO)


class _AreaLogger(structlog.PrintLogger):
    """What `structlog.get_logger("area")` writes through: it keeps the area for the line's fields."""

    def __init__(self, stream: TextIO, area: str = "gateway") -> None:
        super().__init__(stream)
        self.name = area


def _add_area(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    event["area"] = getattr(logger, "name", "gateway")
    return event
