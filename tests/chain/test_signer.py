"""Outdated ticket params are refused before the signer is called."""

from __future__ import annotations

import pytest

from gateway.chain.signer import ChainSigner
from gateway.orchestrator.info import OrchestratorInfo
from harness.payment_models import orchestrator_info
from signer_client import LivePayment, RefreshNeeded, SignerUnreachable

pytestmark = pytest.mark.asyncio


async def ask(signer: ChainSigner, info: OrchestratorInfo) -> LivePayment:
    return await signer.generate_live_payment(orchestrator=info.raw, state=None, retries=0)


async def test_it_asks_for_a_refresh_once_and_then_lets_the_signer_decide(unused_tcp_port: int) -> None:
    info = orchestrator_info()
    async with ChainSigner(f"http://127.0.0.1:{unused_tcp_port}") as signer:
        with pytest.raises(SignerUnreachable):
            await ask(signer, info)
        signer.stale = lambda info: "they expire at block 7"
        with pytest.raises(RefreshNeeded, match="block 7"):
            await ask(signer, info)
        with pytest.raises(SignerUnreachable):
            await ask(signer, info)
