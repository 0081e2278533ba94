"""Reads the recorded bytes of go-livepeer in tests/data/golden."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
REQUEST_LINES = ("POST ", "GET ", "DELETE ")
OF_THE_CONNECTION = frozenset({"date", "content-length", "transfer-encoding", "connection", "server"})
"""Headers that each HTTP server sets by itself."""


@dataclass(frozen=True)
class Recorded:
    """An answer: status, headers in lower case without those of the connection, body."""

    status: int
    headers: dict[str, str]
    body: bytes


def recorded(name: str) -> Recorded:
    """An answer of signer-errors/, orchestrator-errors/ or of the heads in http/ and trickle/."""
    head, _, body = (GOLDEN / name).read_bytes().partition(b"\n\n")
    lines = [line for line in head.decode().splitlines() if line and not line.startswith(REQUEST_LINES)]
    status = int(lines[0].split()[1])
    return Recorded(status, own_headers(dict(line.split(": ", 1) for line in lines[1:])), body)


def own_headers(headers: Any) -> dict[str, str]:
    """Headers in lower case, without those of the connection."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in OF_THE_CONNECTION}


def recorded_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_bytes())
