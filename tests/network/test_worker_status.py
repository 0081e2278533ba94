"""What is kept of a worker's events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest

from gateway.network.worker_status import INCOMPLETE, MAX_STATUS, WorkerStatus


class Events:
    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for event in self._events:
            yield event

    async def close(self) -> None: ...


async def read(*events: dict[str, Any]) -> WorkerStatus:
    worker = WorkerStatus("https://o", max_silence=1, check_interval=1)
    await worker.read(cast(Any, Events(events)))
    return worker


@pytest.mark.asyncio
async def test_a_status_is_merged_and_other_events_are_not() -> None:
    worker = await read({"type": "status", "a": 1}, {"type": "else", "b": 2}, {"type": "status", "c": 3})
    assert worker.newest == {"type": "status", "a": 1, "c": 3}


@pytest.mark.asyncio
async def test_what_is_merged_does_not_grow_for_ever_and_says_so() -> None:
    events = [{"type": "status", f"key{n}": "x" * 10_000} for n in range(100)]
    worker = await read(*events)
    assert len(json.dumps(worker.newest)) < MAX_STATUS + 100
    assert worker.newest["key99"] == "x" * 10_000, "the newest is there"
    assert worker.newest[INCOMPLETE] is True


@pytest.mark.asyncio
async def test_the_same_fields_again_and_again_are_complete() -> None:
    worker = await read(*({"type": "status", "key": str(n) * 10_000} for n in range(100)))
    assert INCOMPLETE not in worker.newest
