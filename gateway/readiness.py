"""Whether a publisher would be served: checks signer and ledger again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.aio.tasks import TaskGroup
from gateway.payments.errors import LedgerError
from gateway.payments.ledger import Ledger
from gateway.stream.admission import Admission, NotAdmitted
from signer_client import SignerClient, SignerError

log = structlog.get_logger("readiness")

INTERVAL = 1.5
"""Seconds between two checks: with TIMEOUT, a change is known within 5 s."""
TIMEOUT = 2.0
"""Seconds for one check."""


class Readiness:
    """`run` checks signer and ledger; `reasons` answers at once from the newest results.

    `signer` is None where nothing is paid; `sources_not_ready` gives the reasons why no job could be started,
    `sources_left_out` those why some could not.
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: SignerClient | None,
        admission: Admission,
        sources_not_ready: Callable[[], list[str]],
        *,
        sources_left_out: Callable[[], list[str]] = list,
        interval: float = INTERVAL,
        timeout: float = TIMEOUT,
    ) -> None:
        self._ledger = ledger
        self._signer = signer
        self._admission = admission
        self._sources_not_ready = sources_not_ready
        self._sources_left_out = sources_left_out
        self._interval = interval
        self._timeout = timeout
        self._failures: dict[str, str] = {}
        """By the part that fails, a sentence."""

    def reasons(self) -> list[str]:
        """Why a publisher would not be served, a sentence each; none when it would."""
        try:
            self._admission.check()
        except NotAdmitted as refusal:
            return [f"{refusal.code}: {refusal}"]
        return [*self._failures.values(), *self._sources_not_ready()]

    def notes(self) -> list[str]:
        """What an operator should know although a publisher would be served, a sentence each."""
        return self._sources_left_out()

    async def run(self) -> None:
        """Check until cancelled."""
        async with TaskGroup() as group:
            group.create_task(self._keep_checking("ledger", self._ledger.check), name="readiness ledger")
            if self._signer is not None:
                group.create_task(self._keep_checking("signer", self._signer.ping), name="readiness signer")

    async def _keep_checking(self, part: str, check: Callable[[], Awaitable[None]]) -> None:
        while True:
            failure = await _failure(part, check, self._timeout)
            if failure != self._failures.get(part, ""):
                log.warning("readiness changed", part=part, failure=failure or "none")
            if failure:
                self._failures[part] = failure
            else:
                self._failures.pop(part, None)
            await asyncio.sleep(self._interval)


async def _failure(part: str, check: Callable[[], Awaitable[None]], timeout: float) -> str:
    try:
        async with asyncio.timeout(timeout):
            await check()
    except TimeoutError:
        return f"the {part} does not answer"
    except (SignerError, LedgerError) as error:
        return f"the {part} cannot be used: {error}"
    return ""
