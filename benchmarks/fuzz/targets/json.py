"""JSON of others."""

from __future__ import annotations

import json
from contextlib import suppress

from benchmarks.fuzz.target import Target
from gateway.aio.json_text import parse_json, parse_json_leniently


def check(data: bytes) -> None:
    for parse in (parse_json, parse_json_leniently):
        with suppress(ValueError):
            json.dumps(parse(data), allow_nan=False)


WORKFLOW = b'{"prompt": {"1": {"inputs": {"a": ["2", 0], "b": 1.5e3}, "class_type": "x"}}}'

JSON = Target(
    "json",
    check,
    limit=1024 * 1024,
    seeds=[WORKFLOW, b"[0]", b'{"a":0}', rb'["\u0041"]'],
    words=[
        *(b"[", b"]", b"{}", b'{"a":', b"[],", b"{},", b"0,", b'"ab",', b"NaN,", b"1e999,"),
        *(rb"\\", rb"\"", b"9" * 4000, b"[" * 60 + b"]" * 60 + b","),
    ],
)
