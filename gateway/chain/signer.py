"""The remote signer's client of a gateway that sees the chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from gateway.orchestrator.info import OrchestratorInfo
from signer_client import LivePayment, RefreshNeeded, SignerClient

log = structlog.get_logger("chain")

REFRESH = 480


class ChainSigner(SignerClient):
    """Says itself what the signer would say of clearly stale ticket params, once for each of them.

    `stale` tells why params are too old. Once only: a chain that is read wrongly costs one refresh, and then
    the signer decides.
    """

    stale: Callable[[OrchestratorInfo], str | None] = staticmethod(lambda info: None)
    _said_of = b""

    async def generate_live_payment(self, *, orchestrator: bytes, **call: Any) -> LivePayment:
        info = OrchestratorInfo.parse(orchestrator)
        params = info.message.ticket_params.recipient_rand_hash
        why = self.stale(info) if params != self._said_of else None
        if why is not None:
            self._said_of = params
            log.info("ticket params are stale", orchestrator=info.url, detail=why)
            raise RefreshNeeded(REFRESH, f"stale ticket params: {why}", info.url)
        return await super().generate_live_payment(orchestrator=orchestrator, **call)
