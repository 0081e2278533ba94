"""Lists of orchestrators and of live runners, and workflows as text."""

from __future__ import annotations

import json
from contextlib import suppress

from benchmarks.fuzz.target import Target
from gateway.comfystream.errors import BadParams
from gateway.comfystream.prompts import read_prompts
from gateway.orchestrator.discovery import DiscoveryFailed, listed_in
from gateway.runner.offer import parse_discovery

BASE = "https://one.example:8935"


def check(data: bytes) -> None:
    with suppress(DiscoveryFailed):
        listed_in(data)
    with suppress(ValueError):
        parse_discovery(data, BASE)
    with suppress(BadParams):
        read_prompts(data.decode("utf-8", "replace"), None)


RUNNER = {
    "url": f"{BASE}/apps/r1/session",
    "app": "livepeer-example/echo",
    "capacity_available": 3,
    "gpu": {"name": "L4"},
    "price_info": {"price": 1388888888888, "currency": "wei", "unit": "seconds"},
}
RUNNERS = [{"address": BASE, "runners": [RUNNER, {**RUNNER, "url": "/apps/r2/session", "capacity": 4}]}]

LISTS = Target(
    "lists",
    check,
    limit=256 * 1024,
    seeds=[
        json.dumps(RUNNERS).encode(),
        b'[{"address": "https://one.example:8935"}, {"address": "0x%s@two.example:1"}]' % (b"ab" * 20),
        b'{"1": {"inputs": {"a": ["2", 0], "b": 1.5e3}, "class_type": "x"}}',
    ],
    words=[
        *(b'"price": 1e99999999999999999999', b'"price": -1', b'"unit": "720p-pixel-seconds"', b"9" * 4000),
        *(b'"url": "https://[::1"', b'"url": "//x"', b'"capacity": 0.5', b"NaN", b"[[", b'{"nodes": []}'),
    ],
)
