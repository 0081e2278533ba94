"""Orchestrators that cheat who pays them: each takes the payment, and then does not do its part."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.devnet.orchestrator.conduct import CONDUCTS
from gateway.devnet.orchestrator.offer import price_info
from gateway.devnet.settings import HOSTILE
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo
from gateway.payments.ticket import MAX_WIN_PROB
from tests.devnet.peer import WEI_PER_SECOND, peer


def test_every_kind_of_the_flag_has_its_conduct() -> None:
    assert tuple(CONDUCTS) == HOSTILE


@pytest.mark.asyncio
async def test_no_room_keeps_the_first_payment_and_answers_503() -> None:
    async with peer(conduct=CONDUCTS["no_room"]) as at:
        info = await at.info()
        answer = await at.start_with(at.sender.payment(info, 60), at.sender.segment(info))
        assert (answer.status, answer.text) == (503, "insufficient capacity\n")
        audit = await at.audit()
        assert int(audit["credited_wei"]) == 60 * WEI_PER_SECOND
        assert (audit["capacity_in_use"], audit["channels"], at.runner.jobs) == (0, 0, [])


@pytest.mark.asyncio
async def test_no_picture_opens_channels_and_gives_the_job_to_nobody() -> None:
    async with peer(conduct=CONDUCTS["no_picture"]) as at:
        urls = await at.start(await at.info())
        assert await at.segment_bytes(urls, 0) == 200
        assert at.runner.jobs == []


@pytest.mark.asyncio
async def test_drip_has_the_runner_hold_pictures_back() -> None:
    async with peer(conduct=CONDUCTS["drip"]) as at:
        await at.start(await at.info())
        assert at.runner.jobs[0]["params"] == {"effect": "grey", "picture_interval": 29.0}


@pytest.mark.asyncio
async def test_bait_lists_a_low_price_and_asks_for_the_full_one_next_time() -> None:
    async with peer(conduct=CONDUCTS["bait"]) as at:
        prices = [(await at.info()).price_info for _ in range(3)]
        low, full = price_info(WEI_PER_SECOND / Fraction(1000)), price_info(Fraction(WEI_PER_SECOND))
        assert prices == [low, full, low]


@pytest.mark.asyncio
async def test_large_tickets_come_with_the_answer_to_a_payment() -> None:
    async with peer(conduct=CONDUCTS["large_tickets"]) as at:
        info = await at.info()
        urls = await at.start(info)
        larger = await at.pay(info, urls["manifest_id"])
        assert value(larger) == 1000 * value(info)
        await at.pay(larger, urls["manifest_id"])
        assert int((await at.audit())["credited_wei"]) == (5 + 1 + 1000) * WEI_PER_SECOND


@pytest.mark.asyncio
async def test_a_moving_address_signs_and_is_paid_as_another_after_each_start() -> None:
    async with peer(conduct=CONDUCTS["moving_address"]) as at:
        before = await at.info()
        await at.start(before)
        after = await at.info()
        assert after.address != before.address
        assert (before.address, after.address) == (
            before.ticket_params.recipient,
            after.ticket_params.recipient,
        )
        await at.start(after)
        assert at.runner.jobs == []


def value(info: OrchestratorInfo) -> int:
    """The expected value of a ticket, in whole wei."""
    params = info.ticket_params
    face, chance = (int.from_bytes(number, "big") for number in (params.face_value, params.win_prob))
    return round(Fraction(face * chance, MAX_WIN_PROB))
