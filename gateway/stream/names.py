"""What streams may be called, and how the path of a request names one."""

from __future__ import annotations

import re

OUT_SUFFIX = "-out"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class BadName(ValueError):
    """A stream name or id that is not taken, as a sentence."""


def check_name(value: str, what: str = "stream name") -> str:
    """Give back `value` if a stream may be called so; raises BadName."""
    if not _NAME.fullmatch(value):
        raise BadName(f"{value[:140]!r} is no {what}: it takes 1 to 128 letters, digits, '_', '.' and '-'")
    if value.endswith(OUT_SUFFIX):
        raise BadName(f"{value!r} is no {what}: names that end in '{OUT_SUFFIX}' stand for a stream's output")
    return value


def output_name(path_name: str) -> str | None:
    """What stands before `-out`, as in go-livepeer's playback paths; None where the path has no such end."""
    return path_name.removesuffix(OUT_SUFFIX) if path_name.endswith(OUT_SUFFIX) else None
