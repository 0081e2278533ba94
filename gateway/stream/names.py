"""Which stream names are allowed, and which names paths with `-out` mean."""

from __future__ import annotations

import re

OUT_SUFFIX = "-out"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class BadName(ValueError):
    """A stream name or id that is not allowed; the text says what is."""


def check_name(value: str, what: str = "stream name") -> str:
    """Return `value` where it is allowed; raises BadName."""
    if not _NAME.fullmatch(value):
        raise BadName(f"{value[:140]!r} is no {what}: it takes 1 to 128 letters, digits, '_', '.' and '-'")
    if value.endswith(OUT_SUFFIX):
        raise BadName(f"{value!r} is no {what}: names that end in '{OUT_SUFFIX}' stand for a stream's output")
    return value


def is_name(value: str) -> bool:
    """Whether `check_name` allows it."""
    return _NAME.fullmatch(value) is not None and not value.endswith(OUT_SUFFIX)


def output_name(path_name: str) -> str | None:
    """What comes before `-out`, as in go-livepeer's playback paths; None for a name without it."""
    return path_name.removesuffix(OUT_SUFFIX) if path_name.endswith(OUT_SUFFIX) else None
