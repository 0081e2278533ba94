"""The payer with a scripted signer, a scripted orchestrator and a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from coincurve import PrivateKey

from gateway.aio import tasks
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.errors import LedgerError
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger
from gateway.payments.ledger_rows import Call
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.schedule import FIRST_BACKOFF
from gateway.payments.spending import HOUR, PublisherBudget, Spending, SpendLimits
from gateway.payments.timebase import NANOSECONDS, now_ns
from gateway.payments.verify import verify
from gateway.reason import Ended, EndReason
from harness.payment_models import MANIFEST, PRICE, SENDER_TEXT, orchestrator_info, signed_payment
from harness.waiting import DEADLINE, eventually
from signer_client import (
    BadRequest,
    LivePayment,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerClient,
    SignerError,
    SignerUnavailable,
    SignerUnreachable,
)
from tests.payments.ledgers import credited, history

Script = list[Any]


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
        self, payer: Payer, signer: ScriptedSigner, orchestrator: ScriptedOrchestrator, ledger: Ledger
    ):
        self.payer = payer
        self.signer = signer
        self.orchestrator = orchestrator
        self.ledger = ledger

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
) -> AsyncIterator[Bench]:
    signer, orchestrator = signer or ScriptedSigner(60), orchestrator or ScriptedOrchestrator()
    async with AsyncExitStack() as stack:
        ledger = await Ledger.open(path / "ledger.sqlite3")
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
            job=JobIdentity(stream="cam", stream_id="cam", request_id="r1", addr="127.0.0.1:8935"),
            limit=limit,
            budget=PublisherBudget("token 1", None, None),
            clock=clock,
            first_backoff=first_backoff,
        )
        stack.push_async_callback(payer.close, EndReason.INTERNAL_ERROR)
        yield Bench(payer, signer, orchestrator, ledger)
        await payer.close(EndReason.PUBLISHER_LEFT)
        assert payer.status().credited == await credited(ledger, "cam")
        assert {who for _, _, who in await ledger.reader.signed_since(0)} <= {"token 1"}


@pytest.mark.asyncio
async def test_a_job_is_paid_from_start_to_end_and_every_step_is_in_the_ledger(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedSigner(20)) as b:
        first = await b.payer.first_payment()
        assert first.payment
        assert b.payer.status().accepted == 0
        assert b.payer.status().state == "waiting"
        await b.payer.job_started(MANIFEST)
        await b.run_until(lambda: len(b.orchestrator.delivered) >= 3)
        await b.payer.close(EndReason.DELETED)
        accepted = 1 + len(b.orchestrator.delivered)
        status = b.payer.status()
        assert status.accepted == accepted
        assert status.credited == (20 + accepted - 1) * PRICE
        assert status.state == "ok"
        assert status.credit_left is not None
        assert status.credit_left == (status.credited - status.owed) / PRICE
        assert status.owed > 0
        steps = await b.steps()
        assert steps[: 4 * accepted] == ["intended", "signed", "delivered", "credited"] * accepted
        # the end may come while the signer is about to be asked, or has been asked, for one more
        assert steps[4 * accepted :] in (["closed"], ["intended", "closed"], ["intended", "signed", "closed"])
        calls = b.signer.calls[:accepted]
        assert [call["manifest_id"] for call in calls] == [""] + [MANIFEST] * (accepted - 1)
        assert [call["state"] is None for call in calls] == [True] + [False] * (accepted - 1)
        assert {call["capabilities"] for call in calls} == {b"caps"}
        assert calls[0]["max_price"].price == "36168981.481481481481481482"
        assert calls[0]["max_price"].unit == "720p-pixel-seconds"


@pytest.mark.asyncio
async def test_a_pause_signs_nothing_and_is_paid_and_owed_only_where_the_job_goes_on(tmp_path: Path) -> None:
    passed, signer = 0, ScriptedSigner(60, 1, 5)
    interval, clock = NANOSECONDS, lambda: now_ns() + passed * NANOSECONDS
    async with bench(tmp_path, signer, interval=interval, clock=clock) as b:
        await b.start()
        await b.run_until(lambda: b.payer.status().accepted == 2)
        b.payer.pause()
        passed += 5

        async def silent() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        running = tasks.spawn(b.payer.run(), name="test payments")
        await silent()
        assert len(signer.calls) == 2
        b.payer.resume()
        await eventually(lambda: b.payer.status().accepted == 3, every=0.002)
        await tasks.cancel(running)
        assert 5 < Fraction(b.payer.status().owed, PRICE) < 15
        b.payer.pause()
        passed += 20
        await b.payer.close(EndReason.DELETED)
        assert Fraction(b.payer.status().owed, PRICE) < 15


@pytest.mark.asyncio
async def test_a_price_above_the_ceiling_signs_nothing_and_opens_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, info=orchestrator_info(price=PRICE + 1)) as b:
        with pytest.raises(Ended) as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.PRICE_RAISED
        assert b.signer.calls == []
        assert [account async for account in b.ledger.reader.sessions()] == []


@pytest.mark.asyncio
async def test_an_unknown_delivery_is_repeated_and_already_seen_is_credited_once(tmp_path: Path) -> None:
    orchestrator = ScriptedOrchestrator(
        UnknownOutcome("time-out"), Unreachable("refused"), AlreadySeen("400")
    )
    async with bench(tmp_path, orchestrator=orchestrator) as b:
        await b.start()
        await b.run_until(lambda: bool(orchestrator.refreshed))
        assert len(set(orchestrator.delivered[:3])) == 1
        assert b.payer.status().accepted == 2
        assert (await b.steps())[4:11] == [
            "intended", "signed", "delivered", "unknown", "delivered", "delivered", "credited",
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_480_on_the_first_call_takes_a_fresh_info_with_the_same_null_state(tmp_path: Path) -> None:
    signer = ScriptedSigner(RefreshNeeded(480, "expiring", None), 60)
    async with bench(tmp_path, signer) as b:
        await b.payer.first_payment()
        assert b.orchestrator.refreshed == ["info of 127.0.0.1:8935"]
        assert [call["state"] for call in signer.calls] == [None, None]
        assert signer.calls[1]["orchestrator"] == b.payer.info.raw != signer.calls[0]["orchestrator"]
        await b.payer.job_refused(NoCapacity("full"))
        assert await b.steps() == ["intended", "signed", "delivered", "handed_out"]


@pytest.mark.asyncio
async def test_482_is_waited_out_and_writes_nothing(tmp_path: Path) -> None:
    signer = ScriptedSigner(60, *[NoTicketsNeeded(482, "")] * 3)
    async with bench(tmp_path, signer) as b:
        await b.start()
        await b.run_until(lambda: len(signer.calls) == 4)
        assert b.payer.status().state in ("waiting", "ok")
        states = [call["state"] for call in signer.calls[1:4]]
        assert states[0] == states[1] == states[2] is not None
        assert (await b.steps()).count("intended") == 2


@pytest.mark.asyncio
async def test_after_a_higher_price_the_first_price_is_asked_for(tmp_path: Path) -> None:
    async with bench(tmp_path, ceiling=10 * PRICE) as b:
        await b.start()
        b.orchestrator.price = 2 * PRICE
        await b.run_until(lambda: len(b.orchestrator.refreshed) >= 2)
        assert set(b.orchestrator.refreshed) == {f"{SENDER_TEXT} {MANIFEST}"}
        prices = {OrchestratorInfo.parse(call["orchestrator"]).price for call in b.signer.calls}
        assert prices == {Fraction(PRICE)}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([BadRequest(400, "deposit")], EndReason.PAYMENT_REFUSED),
        ([PriceExceeded(481, "dear")], EndReason.PRICE_RAISED),
        ([Rejected(483, "insufficient balance")], EndReason.SIGNER_REFUSED),
        ([Rejected(401, "who")], EndReason.SIGNER_REFUSED),
        ([SignerUnavailable(500, "an error")] * 4, EndReason.SIGNER_UNREACHABLE),
    ],
)
async def test_a_first_call_that_is_refused_ends_with_its_reason(
    tmp_path: Path, answers: Sequence[Exception], reason: EndReason
) -> None:
    async with bench(tmp_path, ScriptedSigner(*answers), first_backoff=1) as b:
        with pytest.raises(Ended) as ended:
            await b.payer.first_payment()
        assert ended.value.reason is reason
        assert b.orchestrator.delivered == []
        assert await b.steps() == ["intended"]


@pytest.mark.asyncio
async def test_a_signer_that_failed_is_called_again_with_the_same_state(tmp_path: Path) -> None:
    signer = ScriptedSigner(20, SignerUnavailable(503, "busy"))
    async with bench(tmp_path, signer) as b:
        await b.start()
        await b.run_until(lambda: len(signer.calls) == 2)
        assert b.payer.status().state == "failing"
        await b.run_until(lambda: len(b.orchestrator.delivered) == 1)
        assert signer.calls[1]["state"] == signer.calls[2]["state"]
        assert b.payer.status().state == "ok"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("failure", "lost"),
    [
        (SignerUnreachable("reset"), True),
        (SignerUnreachable("connection refused", sent=False), False),
        (SignerUnavailable(504, "gateway time-out"), True),
        (SignerUnavailable(503, "busy"), False),
    ],
)
async def test_a_call_whose_answer_was_lost_is_written_down_with_the_most_that_it_may_cost(
    tmp_path: Path, failure: SignerError, lost: bool
) -> None:
    async with bench(tmp_path, ScriptedSigner(failure, 60)) as b:
        await b.payer.first_payment()
        calls = [(call.number, call.call, call.most) async for call in b.ledger.reader.signer_calls()]
        expected = [(1, Call.LOST, 60 * PRICE)] if lost else []
        assert calls == [*expected, (1, Call.SIGNED, 60 * PRICE)]


@pytest.mark.asyncio
async def test_an_unreachable_signer_is_one_alarm_at_low_credit_and_the_end_reason_without_credit(
    tmp_path: Path,
) -> None:
    signer = ScriptedSigner(60, *[SignerUnreachable("connection refused")] * 9)
    passed = 0
    interval, clock = 10 * NANOSECONDS, lambda: now_ns() + passed * NANOSECONDS
    async with bench(tmp_path, signer, interval=interval, clock=clock) as b:
        await b.start()
        passed = 40
        await b.run_until(lambda: len(signer.calls) == 2)
        assert b.payer.status().alarms == 0
        passed = 51
        await b.run_until(lambda: len(signer.calls) == 4)
        assert b.payer.status().alarms == 1
        passed = 61
        with pytest.raises(Ended) as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.SIGNER_UNREACHABLE
        assert b.orchestrator.delivered == []


@pytest.mark.asyncio
async def test_a_refused_delivery_ends_and_is_not_counted(tmp_path: Path) -> None:
    async with bench(tmp_path, orchestrator=ScriptedOrchestrator(Refused(403, "credentials"))) as b:
        await b.start()
        with pytest.raises(Ended) as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.PAYMENT_REFUSED
        assert b.payer.status().credited == 60 * PRICE
        assert (await b.steps())[-1] == "refused"


@pytest.mark.asyncio
async def test_an_unreadable_answer_to_a_payment_is_credited_and_the_params_fetched(tmp_path: Path) -> None:
    async with bench(tmp_path, orchestrator=ScriptedOrchestrator(BadAnswer("garbage"))) as b:
        await b.start()
        await b.run_until(lambda: bool(b.orchestrator.refreshed))
        assert b.payer.status().accepted == 2


@pytest.mark.asyncio
async def test_a_payment_signed_by_another_key_is_written_down_and_not_delivered(tmp_path: Path) -> None:
    forged = signed_payment(orchestrator_info(), 1, 60, key=PrivateKey(b"\1" * 32))
    async with bench(tmp_path, ScriptedSigner(forged)) as b:
        with pytest.raises(Ended, match="signed by another key") as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.PAYMENT_REFUSED
        assert await b.steps() == ["intended", "signed", "withheld"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "step"),
    [
        (UnknownOutcome("time-out"), "unknown"),
        (BadAnswer("no JSON"), "unknown"),
        (Refused(403, ""), "handed_out"),
        (NoCapacity("503"), "handed_out"),
    ],
)
async def test_the_payment_of_a_job_that_did_not_start_is_handed_out_or_unknown(
    tmp_path: Path, error: OrchestratorError, step: str
) -> None:
    async with bench(tmp_path) as b:
        await b.payer.first_payment()
        await b.payer.job_refused(error)
        assert b.payer.status().credited == 0
        await b.payer.close(EndReason.ORCHESTRATOR_LOST)
        assert await b.steps() == ["intended", "signed", "delivered", step, "closed"]


@pytest.mark.asyncio
async def test_the_payment_of_a_start_without_an_answer_is_unknown(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.payer.first_payment()
        await b.payer.close(EndReason.PUBLISHER_LEFT)
        assert await b.steps() == ["intended", "signed", "delivered", "unknown", "closed"]


@pytest.mark.asyncio
async def test_a_signing_under_way_at_the_end_is_finished_written_down_and_not_sent(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.start()
        b.signer.hold = asyncio.Event()
        await b.run_until(lambda: b.signer.under_way == 1)
        closing = tasks.spawn(b.payer.close(EndReason.DELETED), name="test close")
        await asyncio.sleep(0)
        b.signer.hold.set()
        await closing
        assert len(b.signer.calls) == 2
        assert b.orchestrator.delivered == []
        assert (await b.steps())[4:] == ["intended", "signed", "closed"]


@pytest.mark.asyncio
async def test_a_delivery_under_way_at_the_end_is_settled(tmp_path: Path) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        started.set()
        await go_on.wait()

    orchestrator = ScriptedOrchestrator(UnknownOutcome("reset"), AlreadySeen("400"))
    async with bench(tmp_path, orchestrator=orchestrator) as b:
        await b.start()
        orchestrator.on_delivery = hold
        await b.run_until(started.is_set)
        closing = tasks.spawn(b.payer.close(EndReason.DELETED), name="test close")
        go_on.set()
        await closing
        assert len(orchestrator.delivered) == 2
        assert b.payer.status().credited == 61 * PRICE
        assert (await b.steps())[-3:] == ["delivered", "credited", "closed"]


@pytest.mark.asyncio
async def test_an_empty_manifest_id_is_not_paid_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.payer.first_payment()
        await b.payer.job_started("")
        with pytest.raises(Ended, match="no manifest id"):
            await b.payer.run()
        assert len(b.signer.calls) == 1


@pytest.mark.asyncio
async def test_a_signer_out_of_reach_from_the_start_ends_with_that_reason(tmp_path: Path) -> None:
    signer = ScriptedSigner(*[SignerUnreachable("refused")] * 4)
    async with bench(tmp_path, signer, first_backoff=1_000_000) as b:
        with pytest.raises(Ended) as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.SIGNER_UNREACHABLE
        assert len(b.signer.calls) == 4


@pytest.mark.asyncio
async def test_a_ledger_that_cannot_be_written_stops_payments(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="closed"):  # what the bench meets when it sums up
        async with bench(tmp_path) as b:
            await b.start()
            await b.ledger.close()
            with pytest.raises(Ended, match="written down") as ended:
                await b.run_until(lambda: False)
            assert ended.value.reason is EndReason.INTERNAL_ERROR
            assert len(b.signer.calls) == 1


@pytest.mark.asyncio
async def test_a_call_waits_for_a_slot_and_close_does_not(tmp_path: Path) -> None:
    slots = asyncio.Semaphore(1)
    async with bench(tmp_path, slots=slots) as b:
        await b.start()
        await slots.acquire()  # somebody else's call is under way
        await b.run_until(lambda: b.payer.status().next_due_in is None)
        assert len(b.signer.calls) == 1
        async with asyncio.timeout(DEADLINE):
            await b.payer.close(EndReason.DELETED)
        slots.release()
        assert not slots.locked()
        assert len(b.signer.calls) == 1
        assert (await b.steps())[-1] == "closed"


@pytest.mark.asyncio
async def test_slots_are_shared_evenly_and_limit_the_calls_at_once(tmp_path: Path) -> None:
    slots, enough = asyncio.Semaphore(2), asyncio.Event()
    order: list[int] = []
    under_way = most = 0
    async with AsyncExitStack() as stack:
        benches = []
        for number in range(6):
            folder = tmp_path / str(number)
            folder.mkdir()
            signer = ScriptedSigner(60, *[NoTicketsNeeded(482, "")] * 99)
            benches.append(await stack.enter_async_context(bench(folder, signer, slots=slots)))
            await benches[-1].start()

        def watched(number: int, answer: Callable[..., Awaitable[LivePayment]]) -> Any:
            async def call(**asked: Any) -> LivePayment:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                order.append(number)
                if len(order) == 60:
                    enough.set()
                try:
                    await asyncio.sleep(0.01)
                    return await answer(**asked)
                finally:
                    under_way -= 1

            return call

        for number, one in enumerate(benches):
            one.signer.generate_live_payment = watched(number, one.signer.generate_live_payment)  # type: ignore[method-assign]
        running = [tasks.spawn(one.payer.run(), name="test payments") for one in benches]
        async with asyncio.timeout(DEADLINE):
            await enough.wait()
        await tasks.cancel(*running)
    assert most == 2
    served = [order[:60].count(number) for number in range(6)]
    assert max(served) - min(served) <= 2, served


@pytest.mark.asyncio
async def test_an_unreadable_payment_is_refused_and_the_ledger_is_consistent(tmp_path: Path) -> None:
    good = signed_payment(orchestrator_info(), 1, 60)
    garbage = LivePayment(payment="AAAA", seg_creds=good.seg_creds, state=good.state)
    async with bench(tmp_path, ScriptedSigner(garbage)) as b:
        with pytest.raises(Ended) as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.PAYMENT_REFUSED
        assert b.payer.status().alarms == 1
        await b.payer.close(EndReason.PAYMENT_REFUSED)
        assert (await verify(b.ledger.reader)).findings == []
        (call,) = [call async for call in b.ledger.reader.signer_calls()]
        assert (call.call, call.value, call.most) == (Call.LOST, None, 60 * PRICE)


@pytest.mark.asyncio
async def test_a_call_that_may_exceed_the_streams_limit_is_not_made(tmp_path: Path) -> None:
    spending = Spending(SpendLimits())
    async with bench(tmp_path, spending=spending, limit=63 * PRICE) as b:
        await b.start()
        with pytest.raises(Ended, match="limit is") as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.SPEND_LIMIT
        signed = 60 * PRICE + (len(b.signer.calls) - 1) * PRICE
        assert 60 * PRICE < signed <= 63 * PRICE
        assert spending.spent(HOUR) == signed
        assert b.payer.status().credited == signed


@pytest.mark.asyncio
async def test_a_first_payment_over_the_hours_limit_is_not_asked_for(tmp_path: Path) -> None:
    async with bench(tmp_path, spending=Spending(SpendLimits(hour=60 * PRICE - 1))) as b:
        with pytest.raises(Ended, match="last hour") as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.SPEND_LIMIT
        assert b.signer.calls == []


@pytest.mark.asyncio
async def test_a_failed_call_releases_what_it_held(tmp_path: Path) -> None:
    spending = Spending(SpendLimits())
    async with bench(tmp_path, ScriptedSigner(BadRequest(400, "deposit")), spending=spending) as b:
        with pytest.raises(Ended):
            await b.payer.first_payment()
        assert spending.spent(HOUR) == 0


@pytest.mark.asyncio
async def test_a_signer_that_bills_a_step_of_its_clock_is_one_alarm_and_is_paid(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedSigner(20, 10, 1)) as b:
        await b.start()
        await b.run_until(lambda: b.payer.status().accepted == 3)
        assert b.payer.status().credited == 31 * PRICE
        assert b.payer.status().alarms == 1


@pytest.mark.asyncio
async def test_a_payment_above_its_maximum_and_the_limit_is_not_delivered(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, ScriptedSigner(60, 4), limit=63 * PRICE) as b:
        await b.start()
        with pytest.raises(Ended) as ended:
            await b.run_until(lambda: False)
        assert ended.value.reason is EndReason.SPEND_LIMIT
        assert (await b.steps())[4:] == ["intended", "signed", "withheld"]


@pytest.mark.asyncio
async def test_a_signer_that_bills_more_than_the_preload_is_refused_with_an_alarm(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedSigner(61)) as b:
        with pytest.raises(Ended, match="at most") as ended:
            await b.payer.first_payment()
        assert ended.value.reason is EndReason.PAYMENT_REFUSED
        assert b.payer.status().alarms == 1
        assert await b.steps() == ["intended", "signed", "withheld"]
