"""The remote signer's client in a gateway that reads the chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from typing_extensions import override

from gateway.orchestrator.info import OrchestratorInfo
from signer_client import LivePayment, RefreshNeeded, SignerClient

log = structlog.get_logger("chain")

REFRESH = 480


class ChainSigner(SignerClient):
    """Refuses outdated ticket params without a call of the signer, once for each of them.

    `stale` gives the reason why params are too old, or None. The second call with the same params goes to the
    signer, so that a wrong reading of the chain costs one refresh only.
    """

    stale: Callable[[OrchestratorInfo], str | None] = staticmethod(lambda info: None)
    _refused_params = b""

    @override
    async def generate_live_payment(self, *, orchestrator: bytes, **call: Any) -> LivePayment:
        info = OrchestratorInfo.parse(orchestrator)
        params = info.message.ticket_params.recipient_rand_hash
        why = self.stale(info) if params != self._refused_params else None
        if why is not None:
            self._refused_params = params
            log.info("ticket params are stale", orchestrator=info.url, detail=why)
            raise RefreshNeeded(REFRESH, f"stale ticket params: {why}", info.url)
        return await super().generate_live_payment(orchestrator=orchestrator, **call)
