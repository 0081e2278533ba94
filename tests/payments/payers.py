"""A payer with a scripted signer, a scripted orchestrator and a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from gateway.aio import tasks
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.customer import ANYBODY, Customer
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import JobDetails
from gateway.payments.schedule import FIRST_BACKOFF
from gateway.payments.signing_rules import JOB_FLOW, PaymentFlow
from gateway.payments.spending import PublisherBudget, Spending, SpendLimits
from gateway.payments.timebase import now_ns
from gateway.reason import EndReason
from gateway.telemetry.events import EventHub
from harness.payment_models import MANIFEST, PRICE, SENDER_TEXT, orchestrator_info, signed_payment
from harness.waiting import eventually
from signer_client import (
    LivePayment,
    SignerClient,
)
from tests.payments.ledgers import credited, history

Script = list[Any]
TOKEN = PublisherBudget("token 1", None, None)


class ScriptedSigner:
    """Answers with what the script says: a number of tickets, or an exception; then one ticket each time."""

    def __init__(self, *script: Any) -> None:
        self.script: Script = list(script)
        self.calls: list[dict[str, Any]] = []
        self.under_way = 0
        self.hold: asyncio.Event | None = None
        self._nonce: dict[bytes, int] = {}

    async def generate_live_payment(self, **call: Any) -> LivePayment:
        assert self.under_way == 0, "two signing calls at once"
        self.under_way += 1
        try:
            await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold.wait()
            self.calls.append(call)
            answer = self.script.pop(0) if self.script else 1
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, LivePayment):
                return answer
            info = OrchestratorInfo.parse(call["orchestrator"])
            rand = info.message.ticket_params.recipient_rand_hash
            first = self._nonce.get(rand, 0) + 1
            self._nonce[rand] = first + answer - 1
            return signed_payment(info, first, answer, state=f'{{"seq": {len(self.calls)}}}')
        finally:
            self.under_way -= 1


class ScriptedOrchestrator:
    """Credits every payment with new ticket params, unless the script says otherwise."""

    def __init__(self, *script: Any) -> None:
        self.script: Script = list(script)
        self.capabilities = b"caps"
        self.delivered: list[str] = []
        self.refreshed: list[str] = []
        self.rand = 1
        self.price = PRICE
        self.on_delivery: Callable[[], Awaitable[None]] | None = None

    def _info(self) -> OrchestratorInfo:
        self.rand += 1
        return orchestrator_info(rand=self.rand, price=self.price)

    async def deliver_payment(
        self, info: OrchestratorInfo, *, payment: str, seg_creds: str
    ) -> OrchestratorInfo:
        if self.on_delivery is not None:
            await self.on_delivery()
        self.delivered.append(payment)
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        return self._info()

    async def get_info(self, addr: str, *, ignore_capacity: bool = False) -> OrchestratorInfo:
        assert ignore_capacity
        self.refreshed.append(f"info of {addr}")
        return self._info()

    async def refresh_payment(
        self, info: OrchestratorInfo, *, sender: str, manifest_id: str
    ) -> OrchestratorInfo:
        self.refreshed.append(f"{sender} {manifest_id}")
        self.rand += 1
        return orchestrator_info(rand=self.rand)


class Bench:
    def __init__(
        self,
        payer: Payer,
        signer: ScriptedSigner,
        orchestrator: ScriptedOrchestrator,
        ledger: Ledger,
        events: EventHub,
    ):
        self.payer = payer
        self.signer = signer
        self.orchestrator = orchestrator
        self.ledger = ledger
        self.events = events

    async def start(self) -> None:
        await self.payer.first_payment()
        await self.payer.job_started(MANIFEST)

    async def run_until(self, done: Callable[[], bool]) -> None:
        """Run the payer until something has happened, then cancel it as a job does."""
        running = tasks.spawn(self.payer.run(), name="test payments")
        try:
            await eventually(lambda: done() or running.done(), every=0.002)
        finally:
            await tasks.cancel(running)
        if not running.cancelled():
            raise running.exception() or AssertionError("the payer returned")

    async def steps(self) -> list[str]:
        return await history(self.ledger)


@asynccontextmanager
async def bench(
    path: Path,
    signer: ScriptedSigner | None = None,
    orchestrator: ScriptedOrchestrator | None = None,
    *,
    info: OrchestratorInfo | None = None,
    ceiling: int = PRICE,
    interval: int = 10_000_000,
    spending: Spending | None = None,
    limit: int | None = None,
    slots: asyncio.Semaphore | None = None,
    clock: Callable[[], int] = now_ns,
    first_backoff: int = FIRST_BACKOFF,
    flow: PaymentFlow = JOB_FLOW,
    budget: PublisherBudget = TOKEN,
    details: JobDetails | None = None,
    node: Ledger | None = None,
    customer: Customer = ANYBODY,
) -> AsyncIterator[Bench]:
    """`node` is the ledger of a cluster's node, which stays open; None opens one in a file."""
    signer, orchestrator = signer or ScriptedSigner(60), orchestrator or ScriptedOrchestrator()
    async with AsyncExitStack() as stack:
        ledger = node or await Ledger.open(path / "ledger.sqlite3")
        if node is None:
            stack.push_async_callback(ledger.close)
        resources = PaymentResources(
            signer=cast(SignerClient, signer),
            sender=SENDER_TEXT,
            ledger=ledger,
            spending=spending or Spending(SpendLimits()),
            ceiling=Fraction(ceiling),
            interval=interval,
            signing_slots=slots or asyncio.Semaphore(),
        )
        payer = Payer(
            resources,
            cast(OrchestratorClient, orchestrator),
            info or orchestrator_info(),
            job=JobIdentity(
                stream="cam", stream_id="cam", request_id="r1", addr="127.0.0.1:8935", customer=customer
            ),
            limit=limit,
            budget=budget,
            details=details,
            clock=clock,
            first_backoff=first_backoff,
            flow=flow,
        )
        stack.push_async_callback(payer.close, EndReason.INTERNAL_ERROR)
        yield Bench(payer, signer, orchestrator, ledger, resources.events)
        await payer.close(EndReason.PUBLISHER_LEFT)
        assert payer.status().credited == await credited(ledger, "cam")
        assert {who for _, _, who in await ledger.reader.signed_since(0)} <= {"token 1"}
