"""Nobody outside writes lines or colours of their own into the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from gateway.telemetry import log

FORGED = "x\x1b[2K\r\nstream ended\x07\u202e\x9b0m"


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, config = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**config)


def lines(log_format: str) -> str:
    out = StringIO()
    log.configure(3, log_format, out)
    logger = structlog.get_logger("test")
    logger.info("published " + FORGED, stream=FORGED, number=7, names=[FORGED])
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("failed")
    logging.getLogger("library").warning("it said %s", FORGED)
    return out.getvalue()


def test_control_characters_are_escaped_in_text() -> None:
    shown = lines("text")
    assert not set(FORGED) & set("\x1b\r\x07\u202e\x9b") & set(shown)
    assert not any(line.startswith("stream ended") for line in shown.splitlines())
    assert shown.count("\\x1b[2K\\r\\nstream ended\\x07\\u202e\\x9b0m") == 4
    assert "    ValueError: x\\x1b[2K\\r" in shown
    assert "number=7" in shown


def test_json_holds_them_as_they_are() -> None:
    entries = [json.loads(line) for line in lines("json").splitlines()]
    assert entries[0]["stream"] == FORGED
