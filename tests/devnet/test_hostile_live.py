"""Orchestrators of live runners, and their apps, that cheat those who pay."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from gateway.devnet.app.config import AppConfig
from gateway.devnet.app.server import serve
from gateway.devnet.orchestrator.conduct import CONDUCTS
from gateway.payments.ticket import expected_value
from tests.devnet.live_kit import SECRET, WEI_PER_SECOND, info_of, live, next_params

BOTH = pytest.mark.parametrize("dialect", ["go", "node"])


def value_of(challenge: dict[str, Any]) -> Fraction:
    params = info_of(challenge).ticket_params
    return expected_value(int.from_bytes(params.face_value, "big"), int.from_bytes(params.win_prob, "big"))


@BOTH
@pytest.mark.asyncio
async def test_no_room_takes_the_tickets_and_reserves_nothing(dialect: str) -> None:
    async with live(dialect, conduct=CONDUCTS["no_room"]) as at:
        await at.register()
        url = (await at.runner())["url"]
        signed = await at.signed(await at.challenge(url))
        assert (await at.pay(url, signed)).status == {"go": 503, "node": 409}[dialect]
        audit = await at.audit()
        assert int(audit["credited_wei"]) >= 10 * WEI_PER_SECOND
        assert audit["capacity_in_use"] == 0


@BOTH
@pytest.mark.asyncio
async def test_bait_is_listed_at_a_thousandth_of_what_the_challenge_asks(dialect: str) -> None:
    async with live(dialect, conduct=CONDUCTS["bait"]) as at:
        await at.register()
        runner = await at.runner()
        assert runner["price_info"]["price"] == WEI_PER_SECOND // 1000
        assert info_of(await at.challenge(runner["url"])).price_info.pricePerUnit == WEI_PER_SECOND


@BOTH
@pytest.mark.asyncio
async def test_large_tickets_come_in_the_answer_to_a_payment(dialect: str) -> None:
    async with live(dialect, conduct=CONDUCTS["large_tickets"]) as at:
        await at.register()
        _, challenge, signed = await at.reserve()
        for _ in range(2):  # go-livepeer's first answer to a new payer has its base price
            signed = await at.signed(challenge, signed["state"])
            answer = await at.pay(challenge["payment_url"], signed)
        told = next_params(answer) if dialect == "go" else answer.json
        assert value_of(told) == pytest.approx(1000 * value_of(challenge))


@BOTH
@pytest.mark.asyncio
async def test_a_moving_address_is_another_for_each_session(dialect: str) -> None:
    async with live(dialect, conduct=CONDUCTS["moving_address"]) as at:
        await at.register(capacity=2)
        seen = [info_of((await at.reserve())[1]) for _ in range(2)]
        assert seen[0].address != seen[1].address
        assert [info.ticket_params.recipient for info in seen] == [info.address for info in seen]


@pytest.mark.asyncio
async def test_an_app_without_pictures_makes_its_channels_and_nothing_else() -> None:
    async with live("node") as at:
        app = await serve(
            AppConfig(orchestrator=at.url, secret=SECRET, price="7200", conduct=CONDUCTS["no_picture"])
        )
        try:
            session, _, _ = await at.reserve()
            urls = (await at.post(session["app_url"] + "/echo", json={})).json
            assert (await at.post(f"{urls['in']}/0", data=b"segment")).status == 200
            assert (await at.call("GET", f"{urls['out']}/next")).text == "0"
            assert app.sessions == 1
        finally:
            await app.stop()
