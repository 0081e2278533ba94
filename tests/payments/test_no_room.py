"""An orchestrator of the devnet that keeps first payments and answers 503, paid by the devnet's signer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio

from gateway.devnet import signer as devnet_signer
from gateway.devnet.orchestrator.conduct import CONDUCTS
from gateway.devnet.orchestrator.config import OrchestratorConfig
from gateway.devnet.orchestrator.server import serve
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.ledger import Ledger
from gateway.payments.report import signer_call_row
from gateway.payments.steps import Outcome
from gateway.payments.verify import verify
from gateway.reason import EndReason, NoRoom
from harness.payment_models import PRICE
from signer_client import SignerClient
from tests.payments.test_first_payments import Setup

PRELOAD = 60 * PRICE


class Robbed(Setup):
    """Streams whose jobs start on that orchestrator."""

    def __init__(
        self, http: aiohttp.ClientSession, ledger: Ledger, thief: OrchestratorClient, addr: str, audit: str
    ) -> None:
        super().__init__(http, ledger)
        self.http, self.thief, self._addr, self._audit = http, thief, addr, audit

    def pay_with(self, signer: SignerClient, sender: str) -> None:
        assert self.network.payments is not None
        pool = SimpleNamespace(**{**vars(self.network.pool), "take": self.take})
        self.network = replace(
            self.network,
            orchestrators=self.thief,
            pool=cast(Any, pool),
            payments=replace(self.network.payments, signer=signer, sender=sender),
        )

    async def take(self, addr: str, price: Fraction | None) -> OrchestratorInfo:
        return await self.thief.get_info(self._addr)

    async def null_states(self) -> int:
        """Sessions that the signer was asked to open, each with a preload."""
        async with self.http.get(self._audit) as answer:
            return int((await answer.json())["null_states"])


@pytest_asyncio.fixture
async def robbed(tmp_path: Path) -> AsyncIterator[Robbed]:
    async with AsyncExitStack() as stack:
        thief = await serve(
            OrchestratorConfig(
                key=bytes([1]) * 32,
                runner_url="http://127.0.0.1:9",
                price_wei_per_second=Fraction(PRICE),
                model="m",
                conduct=CONDUCTS["no_room"],
            )
        )
        stack.push_async_callback(thief.stop)
        signer = await devnet_signer.serve(devnet_signer.SignerConfig(key=bytes([2]) * 32))
        stack.push_async_callback(signer.stop)
        client = await stack.enter_async_context(SignerClient(signer.url))
        identity = await client.sign_orchestrator_info()
        orchestrators = OrchestratorClient(
            address=identity.address, signature=identity.signature, capabilities=capabilities("m")
        )
        stack.push_async_callback(orchestrators.close)
        ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
        stack.push_async_callback(ledger.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        made = Robbed(http, ledger, orchestrators, thief.where.addr, signer.audit_url)
        made.pay_with(client, identity.address)
        yield made
        await made.network.first_payments.close()


@pytest.mark.asyncio
async def test_a_503_to_a_start_that_was_paid_costs_one_preload_in_all(robbed: Robbed) -> None:
    assert isinstance(await robbed.fails(robbed.job("a")), NoRoom)
    assert await robbed.sessions() == [("a", "handed_out")]
    failure = await robbed.fails(robbed.job("b"))
    assert not isinstance(failure, NoRoom)
    assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert "with a payment that it had before" in failure.detail
    assert await robbed.null_states() == 1
    (call,) = [signer_call_row(call) async for call in robbed.ledger.reader.signer_calls()]
    assert (call["stream_id"], call["call"], call["fee_wei"]) == ("b", "signed", str(PRELOAD))
    verified = await verify(robbed.ledger.reader)
    assert verified.findings == []
    assert [outcome for outcome, wei in verified.wei.items() if wei] == [Outcome.UNCERTAIN]
