"""The jobs of one stream that failed or are no longer needed, until they have given everything back."""

from __future__ import annotations

import asyncio

from gateway.aio.tasks import spawn
from gateway.reason import EndReason
from gateway.stream.job_slot import JobSlot
from gateway.stream.seam import JobStatus


class ClosingJobs:
    """Closes jobs without anybody waiting for it, and keeps the sums of those that are closed."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._closing: dict[JobSlot, asyncio.Task[None]] = {}
        self._closed = JobStatus()

    def add(self, slot: JobSlot, reason: EndReason, *, leave: bool = False) -> None:
        """Have a job give back what it took, or `leave` it to another run of the gateway."""
        self._closing[slot] = spawn(self._close(slot, reason, leave), name=f"job-close {self._request_id}")

    def status(self) -> JobStatus:
        """The last job's status, with the sums of all jobs so far."""
        total = self._closed
        for slot in self._closing:
            total = slot.job.status().after(total)
        return total

    def keys(self) -> set[str]:
        """The candidates whose room is being given back."""
        return {slot.candidate.key for slot in self._closing}

    async def wait(self) -> None:
        """Wait until all of them are closed."""
        await asyncio.gather(*self._closing.values(), return_exceptions=True)

    async def _close(self, slot: JobSlot, reason: EndReason, leave: bool) -> None:
        job = slot.job
        try:
            await job.close(reason, leave=leave)
        finally:
            del self._closing[slot]
            self._closed = job.status().after(self._closed)
            del slot.job  # which holds the slot
