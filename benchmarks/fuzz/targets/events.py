"""A worker's events, and the status that is merged of them; one event a line."""

from __future__ import annotations

import json

from benchmarks.fuzz.target import Target
from gateway.network.worker_status import MAX_STATUS, WorkerStatus
from gateway.trickle.events import parse


def check(data: bytes) -> None:
    worker = WorkerStatus("https://o", max_silence=1, check_interval=1)
    for line in data.split(b"\n")[:20]:
        event = parse(line)
        if event is not None:
            worker.take({**event, "type": "status"})
    assert len(json.dumps(worker.newest, separators=(",", ":"), allow_nan=False)) < 2 * MAX_STATUS


EVENTS = Target(
    "events",
    check,
    limit=MAX_STATUS,
    seeds=[
        b'{"type":"status","inference_status":{"last_params":{"a":[1,2]},"last_restart_logs":null},"fps":24.5}',
        b'{"queue_event_type":"ai_stream_events","event":{"type":"status","pipeline":"x"}}\n{"keep":"alive"}',
    ],
    words=[b"[[", b"{}", b"[],", b'"a":', b"NaN", b"1e999", rb"\"", rb"\ud800", b'"x",', b"0,", b"1" * 400],
)
