"""Whether a publisher would be served, kept true by asking everybody who is needed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.aio.tasks import TaskGroup
from gateway.payments.ledger import Ledger, LedgerError
from gateway.stream.admission import Admission, NotAdmitted
from signer_client import SignerClient, SignerError

log = structlog.get_logger("readiness")

INTERVAL = 1.5
"""Seconds between two looks: with the time-out, a change is known within 5 s."""
TIMEOUT = 2.0


class Readiness:
    """`run` looks at signer and ledger again and again; `reasons` answers at once from what it saw.

    `signer` is None where nothing is paid; `refusals` tells why nobody would take a stream.
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: SignerClient | None,
        admission: Admission,
        refusals: Callable[[], list[str]],
    ) -> None:
        self._ledger = ledger
        self._signer = signer
        self._admission = admission
        self._refusals = refusals
        self._troubles: dict[str, str] = {}

    def reasons(self) -> list[str]:
        """A sentence for each thing that keeps a publisher from being served; none when all is well."""
        try:
            self._admission.check()
        except NotAdmitted as refusal:
            return [f"{refusal.code}: {refusal}"]
        return [*self._troubles.values(), *self._refusals()]

    async def run(self) -> None:
        """Look until cancelled."""
        async with TaskGroup() as group:
            group.create_task(self._keep_looking("ledger", self._ledger.check), name="readiness ledger")
            if self._signer is not None:
                group.create_task(self._keep_looking("signer", self._signer.ping), name="readiness signer")

    async def _keep_looking(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            trouble = await _trouble(what, look)
            if trouble != self._troubles.get(what, ""):
                log.warning("readiness changed", part=what, trouble=trouble or "none any more")
            if trouble:
                self._troubles[what] = trouble
            else:
                self._troubles.pop(what, None)
            await asyncio.sleep(INTERVAL)


async def _trouble(what: str, look: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(TIMEOUT):
            await look()
    except TimeoutError:
        return f"the {what} does not answer"
    except (SignerError, LedgerError) as error:
        return f"the {what} cannot be used: {error}"
    return ""
