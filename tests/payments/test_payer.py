"""The payer through a job: every step, and whatever signer and orchestrator answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from coincurve import PrivateKey

from gateway.aio import tasks
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.payments.errors import LedgerError
from gateway.payments.ledger_rows import Call
from gateway.payments.signing_rules import SECOND_RULES, PaymentFlow
from gateway.payments.timebase import NANOSECONDS as S
from gateway.payments.timebase import now_ns
from gateway.payments.verify import verify
from gateway.reason import Ended, EndReason
from harness.payment_models import MANIFEST, PRICE, SENDER_TEXT, orchestrator_info, signed_payment
from harness.waiting import eventually
from signer_client import (
    BadRequest,
    LivePayment,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerError,
    SignerUnavailable,
    SignerUnreachable,
)
from tests.payments.payers import ScriptedOrchestrator, ScriptedSigner, bench


@pytest.mark.asyncio
async def test_a_job_that_ends_while_the_signer_is_not_called_yet_signs_nothing_more(tmp_path: Path) -> None:
    """Where whole seconds are billed, a call waits for the end of one."""
    now, info = [0], orchestrator_info(unit=PriceUnit.SECONDS)
    flow = PaymentFlow(SECOND_RULES, MANIFEST, "echo")
    signer = ScriptedSigner(10)
    async with bench(tmp_path, signer, info=info, clock=lambda: now[0], flow=flow, interval=S) as b:
        await b.start()
        now[0] = S  # too late for this second: the call waits for the next one
        running = tasks.spawn(b.payer.run(), name="test payments")
        await eventually(lambda: b.payer.status().next_due_in is None, every=0.01, what="a call that is due")
        await tasks.cancel(running)
        await b.payer.close(EndReason.DELETED)
        assert len(signer.calls) == 1
        assert await b.steps() == ["intended", "signed", "delivered", "credited", "intended", "closed"]


@pytest.mark.asyncio
@pytest.mark.parametrize("app", ["", "echo"])
async def test_an_event_that_is_too_large_for_the_signer_of_a_live_runner_may_pass(
    tmp_path: Path, app: str
) -> None:
    info, flow = orchestrator_info(unit=PriceUnit.SECONDS), PaymentFlow(SECOND_RULES, MANIFEST, app)
    signer = ScriptedSigner(Rejected(413, "event"), 10)
    async with bench(tmp_path, signer, info=info, flow=flow, first_backoff=1) as b:
        if not app:
            with pytest.raises(Ended, match="413"):
                await b.start()
            return
        await b.start()
        assert [call["state"] for call in signer.calls] == [None, None]
        assert [one async for one in b.ledger.reader.signer_calls() if one.call is Call.LOST] == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("ticket_seconds", "opening", "least", "most"), [(45, 1, 90, 90), (1, 10, 12, 16), (3, 4, 15, 18)]
)
async def test_it_is_known_what_another_payment_makes_of_the_sum(
    tmp_path: Path, ticket_seconds: int, opening: int, least: int, most: int
) -> None:
    info = orchestrator_info(unit=PriceUnit.SECONDS, ticket_seconds=ticket_seconds)
    flow = PaymentFlow(SECOND_RULES, MANIFEST, "echo")
    clock = [S]
    async with bench(
        tmp_path, ScriptedSigner(opening), info=info, clock=lambda: clock[0], flow=flow, interval=4 * S
    ) as b:
        await b.start()
        assert b.payer.seconds_paid == opening * ticket_seconds
        assert least <= b.payer.seconds_after_next <= most


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
    interval, clock = S, lambda: now_ns() + passed * S
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
@pytest.mark.parametrize("status", [408, 429, 503, 520])
async def test_a_signer_that_failed_is_called_again_with_the_same_state(tmp_path: Path, status: int) -> None:
    signer = ScriptedSigner(20, SignerUnavailable(status, "from a proxy before it"))
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
    interval, clock = 10 * S, lambda: now_ns() + passed * S
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
