"""Tells a fault of the gateway's own uplink from an orchestrator that hangs: somebody else is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.errors import OrchestratorError, Unreachable
from gateway.orchestrator.pool import OrchestratorPool
from signer_client import SignerClient, SignerError, SignerUnreachable

TIME_LIMIT = 0.5
"""Seconds within which somebody else has to answer."""
MAX_ASKED = 3
"""Other orchestrators that are asked at once."""
RECOVERY = 3.0
"""Seconds after nobody answered within which a silent orchestrator is not blamed: it may be back next."""
SHARED_FOR = 1.0
"""Seconds for which one answer serves all streams."""

log = structlog.get_logger("uplink")


class Uplink:
    """Whether anybody answers beside an orchestrator that is silent.

    Other orchestrators of the pool are asked, the signer where there are none. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        pool: OrchestratorPool,
        orchestrators: OrchestratorClient,
        signer: SignerClient | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._orchestrators = orchestrators
        self._signer = signer
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked_for = ""
        self._asked_at = float("-inf")
        self._answers = True
        self._down_at = float("-inf")

    async def somebody_answers(self, silent: str) -> bool:
        """Whether somebody other than the orchestrator at `silent` answers, and has done so for a while."""
        async with self._lock:
            if self._asked_for != silent or self._clock() - self._asked_at > SHARED_FOR:
                answers = await self._ask(silent)
                self._asked_for, self._asked_at = silent, self._clock()
                if self._answers and not answers:
                    log.warning("nobody answers: the gateway's own uplink seems to be down")
                if not answers:
                    self._down_at = self._asked_at
                self._answers = answers
            return self._answers and self._clock() - self._down_at > RECOVERY

    async def _ask(self, silent: str) -> bool:
        others = [one.addr for one in self._pool.candidates() if one.addr != silent][:MAX_ASKED]
        if not others:
            return await self._signer_answers()
        return any(await asyncio.gather(*map(self._orchestrator_answers, others)))

    async def _orchestrator_answers(self, addr: str) -> bool:
        try:
            await self._orchestrators.get_info(addr, ignore_capacity=True, timeout=TIME_LIMIT)
        except Unreachable:
            return False
        except OrchestratorError:
            pass
        return True

    async def _signer_answers(self) -> bool:
        if self._signer is None:
            return False
        try:
            async with asyncio.timeout(TIME_LIMIT):
                await self._signer.sign_orchestrator_info()
        except (SignerUnreachable, TimeoutError):
            return False
        except SignerError:
            pass
        return True
