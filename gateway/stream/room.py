"""Room for one more stream, where only that is missing: what others give up, have to give back, or leave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from gateway.candidates.verdict import Verdict
from gateway.stream.seam import Candidate
from gateway.stream.stream import Stream

MAX_WAIT_FOR_ROOM = 5.0
"""Seconds that a publisher waits for streams that are ending to give their room back."""


def count_room_of(former: Stream | None, candidates: list[Candidate]) -> list[Candidate]:
    """The candidates, on which the room of a stream that is to be replaced counts as free."""
    if former is None or former.ending:
        return candidates
    to_be_freed = former.supervisor.keys_in_use()
    for candidate in candidates:
        if candidate.verdict is Verdict.NO_CAPACITY and candidate.key in to_be_freed:
            candidate.set_verdict(Verdict.AVAILABLE, "the publisher that is replaced has its room")
    return candidates


def make_room(live: Iterable[Stream], candidates: Sequence[Candidate]) -> bool:
    """Where only room is missing, end a stream whose held job has it. False without one."""
    if any(candidate.usable for candidate in candidates):
        return False
    full = {candidate.key for candidate in candidates if candidate.verdict is Verdict.NO_CAPACITY}
    for stream in live:
        held = stream.publishers.held_job is not None and not stream.ending
        if held and not full.isdisjoint(stream.supervisor.keys_in_use()):
            stream.end_held("another stream needed its place")
            return True
    return False


async def wait_for_room(running: Iterable[Stream], candidates: Sequence[Candidate]) -> bool:
    """Where only room is missing, wait until ending streams have given theirs back. True after a wait."""
    ending = [stream for stream in running if stream.ending]
    full = any(candidate.verdict is Verdict.NO_CAPACITY for candidate in candidates)
    if not ending or not full or any(candidate.admissible for candidate in candidates):
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(MAX_WAIT_FOR_ROOM):
            for stream in ending:
                await stream.finished.wait()
    return True
