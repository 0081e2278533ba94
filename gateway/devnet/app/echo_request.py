"""Bodies of `POST /echo` and `POST /update`."""

from __future__ import annotations

from typing import Any

from gateway.aio.json_text import parse_json

MODES = {"echo": "none", "gray": "grey", "invert": "negative", "blur": "blur"}
"""The runner's effect for each mode."""
RADII = range(1, 100)


class BadEcho(ValueError):
    """The body is invalid; the message says why."""


def read_params(body: bytes) -> dict[str, Any]:
    """The runner's parameters for a body with `mode` and `radius`, both optional. Raises BadEcho."""
    try:
        document = parse_json(body) if body.strip() else {}
    except ValueError as error:
        raise BadEcho("the body is not JSON") from error
    if not isinstance(document, dict):
        raise BadEcho("the body is not a JSON object")
    params: dict[str, Any] = {}
    if "mode" in document:
        mode = document["mode"]
        if not isinstance(mode, str) or mode not in MODES:
            raise BadEcho(f"mode must be one of {', '.join(MODES)}")
        params["effect"] = MODES[mode]
    if "radius" in document:
        radius = document["radius"]
        if type(radius) is not int or radius not in RADII:
            raise BadEcho("radius must be from 1 to 99")
        params["radius"] = radius
    return params
