"""Payments for a reserved session: what is credited, debited and answered, in both dialects."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from gateway.devnet.account import Account
from gateway.devnet.chain_clock import ChainClock
from harness.waiting import eventually
from tests.devnet.live_kit import (
    WEI_PER_SECOND,
    Live,
    info_of,
    live,
    next_params,
    segment_of,
    tickets_of,
)
from tests.devnet.peer import HandClock, Sender, base64_of

BOTH = pytest.mark.parametrize("dialect", ["go", "node"])
SIGNER_KEY = bytes([2]) * 32


async def gone(at: Live, session: dict[str, Any]) -> bool:
    return (await at.call("GET", session["app_url"])).status == 404


async def debited(at: Live, seconds: int) -> None:
    """Wait until so many seconds are debited."""

    async def is_debited() -> bool:
        return int((await at.audit())["debited_wei"]) >= seconds * WEI_PER_SECOND

    await eventually(is_debited)


@BOTH
@pytest.mark.asyncio
async def test_a_session_without_a_payment_lasts_as_long_as_its_opening_and_no_grace(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        session, challenge, _ = await at.reserve()
        at.clock.advance(10.9)
        await debited(at, 10)
        assert not await gone(at, session)
        at.clock.advance(0.2)
        await eventually(lambda: gone(at, session))
        audit = await at.audit()
        ended = audit["sessions"][challenge["manifest_id"]]
        assert ended["ended"]
        assert ended["end_reason"] == "the balance does not cover it"
        # go-livepeer debits what is not covered too, a node does not
        missing = {"go": WEI_PER_SECOND, "node": 0}[dialect]
        assert int(audit["min_balance_wei"]) == pytest.approx(-missing, abs=10)
        assert audit["capacity_in_use"] == 0


@BOTH
@pytest.mark.asyncio
async def test_whole_seconds_are_debited_from_the_reserve_on_at_the_challenges_price(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        _, challenge, _ = await at.reserve()
        await at.change(price_wei_per_second=str(5 * WEI_PER_SECOND))
        at.clock.advance(3.99)
        await debited(at, 3)
        assert (await at.audit())["sessions"][challenge["manifest_id"]]["debited_wei"] == str(
            3 * WEI_PER_SECOND
        )


@BOTH
@pytest.mark.asyncio
async def test_each_payment_is_credited_and_the_session_lives_on(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        session, challenge, signed = await at.reserve()
        for number in range(1, 4):
            signed = await at.signed(challenge, signed["state"])
            answer = await at.pay(challenge["payment_url"], signed)
            assert answer.status == 200
            assert (await at.audit())["payments"] == number + 1
            told = answer.json if dialect == "node" else next_params(answer)
            if info_of(told).price_info == info_of(challenge).price_info:
                challenge |= told
        at.clock.advance(12)
        await debited(at, 12)
        assert not await gone(at, session)
        audit = await at.audit()
        assert (audit["rejected"], audit["duplicate_nonces"], audit["stale_params"]) == (0, 0, 0)


@pytest.mark.asyncio
async def test_go_livepeers_first_answer_to_a_new_payer_has_its_base_price_and_later_ones_the_sessions() -> (
    None
):
    async with live("go") as at:
        await at.register()
        _, challenge, signed = await at.reserve()
        refresh = {"sender": at.signer.address, "manifest_id": challenge["manifest_id"]}
        too_early = await at.post(f"{at.url}/refresh-payment", json=refresh)
        assert (too_early.status, set(too_early.json)) == (409, {"error"})
        prices = []
        for _ in range(2):
            signed = await at.signed(challenge, signed["state"])
            answer = await at.pay(challenge["payment_url"], signed)
            info = info_of(next_params(answer))
            prices.append(info.price_info.pricePerUnit)
            assert info.auth_token == info_of(challenge).auth_token
        assert prices == [0, WEI_PER_SECOND]
        # with the params of such an answer the next payment is made
        newest = challenge | next_params(answer)
        paid = await at.pay(challenge["payment_url"], await at.signed(newest, signed["state"]))
        assert paid.status == 200
        assert (await at.audit())["stale_params"] == 0


@pytest.mark.asyncio
async def test_go_livepeer_knows_a_payer_from_his_former_session() -> None:
    async with live("go") as at:
        await at.register()
        session, _, _ = await at.reserve()
        await at.post(session["control_url"] + "/stop")
        _, challenge, signed = await at.reserve()
        answer = await at.pay(challenge["payment_url"], await at.signed(challenge, signed["state"]))
        assert info_of(next_params(answer)).price_info.pricePerUnit == WEI_PER_SECOND


@pytest.mark.asyncio
async def test_a_node_answers_with_the_current_params_and_refreshes_them_only_when_asked() -> None:
    async with live("node") as at:
        await at.register()
        _, challenge, signed = await at.reserve()
        signed = await at.signed(challenge, signed["state"])
        answer = await at.pay(challenge["payment_url"], signed)
        assert answer.json == challenge
        body = {"sender": at.signer.address, "manifest_id": challenge["manifest_id"]}
        refreshed = await at.post(f"{at.url}/refresh-payment", json=body)
        assert refreshed.status == 200
        assert refreshed.json | {"payment_params": ""} == challenge | {"payment_params": ""}
        fresh, old = info_of(refreshed.json), info_of(challenge)
        assert fresh.price_info == old.price_info
        assert fresh.ticket_params.recipient_rand_hash != old.ticket_params.recipient_rand_hash
        signed = await at.signed(refreshed.json, signed["state"])
        again = await at.pay(challenge["payment_url"], signed)
        assert (again.status, again.json) == (200, refreshed.json)


@BOTH
@pytest.mark.asyncio
async def test_a_refresh_of_what_is_unknown_is_refused(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        _, challenge, _ = await at.reserve()
        unknown = {"go": 409, "node": 404}[dialect]
        own = at.signer.address
        for body, status in (
            ({"sender": own, "manifest_id": "unknown"}, unknown),
            ({"sender": "0x" + "11" * 20, "manifest_id": challenge["manifest_id"]}, unknown),
            ({"sender": "0x00", "manifest_id": challenge["manifest_id"]}, 400),
            ({"sender": own, "manifest_id": ""}, 400),
            ({"sender": own}, 400),
            ([], 400),
        ):
            answer = await at.post(f"{at.url}/refresh-payment", json=body)
            assert (answer.status, set(answer.json)) == (status, {"error"}), body


@pytest.mark.asyncio
async def test_a_nodes_refresh_serves_challenges_and_ended_sessions_too() -> None:
    async with live("node") as at:
        await at.register()
        challenge = await at.challenge((await at.runner())["url"])
        body = {"sender": at.signer.address, "manifest_id": challenge["manifest_id"]}
        assert (await at.post(f"{at.url}/refresh-payment", json=body)).status == 200


@BOTH
@pytest.mark.asyncio
async def test_a_payment_for_a_session_that_is_over_is_404(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        session, challenge, signed = await at.reserve()
        signed = await at.signed(challenge, signed["state"])
        await at.post(session["control_url"] + "/stop")
        assert (await at.pay(challenge["payment_url"], signed)).status == 404
        assert (await at.audit())["payments"] == 1


@BOTH
@pytest.mark.asyncio
async def test_refused_payments_have_the_tables_statuses(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register(capacity=2)
        payer = Sender(SIGNER_KEY)
        _, other, _ = await at.reserve()
        _, challenge, _ = await at.reserve()
        url, bad = challenge["payment_url"], {"go": 400, "node": 403}[dialect]
        stranger = Account(bytes([9]) * 32)
        good = tickets_of(payer, challenge, 1, nonces=[501])
        cases = {
            "undecodable payment": (good | {"Livepeer-Payment": "%%%"}, 402),
            "another session's credentials": (
                good | {"Livepeer-Segment": base64_of(segment_of(payer, other))},
                403,
            ),
            "unsigned credentials": (
                good | {"Livepeer-Segment": base64_of(segment_of(payer, challenge, signer=stranger))},
                403,
            ),
            "unsigned tickets": (tickets_of(payer, challenge, 1, nonces=[502], signer=stranger), bad),
        }
        for what, (headers, status) in cases.items():
            assert (await at.post(url, headers=headers)).status == status, what
        assert (await at.post(url, headers=good)).status == 200
        assert (await at.post(url, headers=good)).status == bad  # the nonce was seen
        audit = await at.audit()
        assert audit["redelivered"] >= 1
        assert audit["duplicate_nonces"] == 0


@pytest.mark.asyncio
async def test_go_livepeer_credits_the_tickets_before_a_bad_one_and_a_node_none() -> None:
    for dialect, credited in (("go", 11), ("node", 10)):
        async with live(dialect) as at:
            await at.register()
            payer = Sender(SIGNER_KEY)
            _, challenge, _ = await at.reserve()
            info = info_of(challenge)
            payment = payer.payment(info, nonces=[101, 102, 103])
            payment.ticket_sender_params[1].sig = payment.ticket_sender_params[0].sig
            headers = {
                "Livepeer-Payment": base64_of(payment),
                "Livepeer-Segment": base64_of(segment_of(payer, challenge)),
            }
            assert (await at.post(challenge["payment_url"], headers=headers)).status != 200
            assert (await at.audit())["credited_wei"] == str(credited * WEI_PER_SECOND)
            # to a node none of its nonces was shown, so the good ones may come again
            again = tickets_of(payer, challenge, nonces=[101])
            status = (await at.post(challenge["payment_url"], headers=again)).status
            assert status == {"go": 400, "node": 200}[dialect]


@pytest.mark.parametrize("nonces", [[], [0], [600], range(1, 102)])
@pytest.mark.asyncio
async def test_a_node_takes_one_to_a_hundred_tickets_with_nonces_below_600(nonces: Any) -> None:
    async with live("node") as at:
        await at.register()
        _, challenge, _ = await at.reserve()
        headers = tickets_of(Sender(SIGNER_KEY), challenge, nonces=nonces)
        assert (await at.post(challenge["payment_url"], headers=headers)).status == 403


@BOTH
@pytest.mark.asyncio
async def test_expired_params_and_tokens_are_refused(dialect: str) -> None:
    wall = HandClock()
    clock = ChainClock(now_ns=wall)
    async with live(dialect, signer={"clock": clock}, clock=clock, token_life=3600.0) as at:
        await at.register()
        _, challenge, _ = await at.reserve()
        payer = Sender(SIGNER_KEY)
        wall.advance(40 * 12)
        headers = tickets_of(payer, challenge, nonces=[101])
        assert (await at.post(challenge["payment_url"], headers=headers)).status == {"go": 400, "node": 403}[
            dialect
        ]
        wall.advance(3600)
        headers = tickets_of(payer, challenge, nonces=[102])
        assert (await at.post(challenge["payment_url"], headers=headers)).status == 403


@pytest.mark.asyncio
async def test_a_720p_price_is_debited_by_pixels_and_its_opening_lasts_a_minute() -> None:
    async with live("go", ticket_seconds=Fraction(6)) as at:
        await at.register(unit="720p")
        price = (await at.runner())["price_info"]
        assert (price["price"], price["unit"]) == (WEI_PER_SECOND // 27_648_000, "720p-pixel-seconds")
        session, _, _ = await at.reserve(type="lv2v")
        per_second = price["price"] * 27_648_000
        assert int((await at.audit())["credited_wei"]) == pytest.approx(60 * per_second, abs=6 * per_second)
        at.clock.advance(59.5)

        async def is_debited() -> bool:
            return int((await at.audit())["debited_wei"]) == 59.5 * per_second

        await eventually(is_debited)
        at.clock.advance(7)
        await eventually(lambda: gone(at, session))


@pytest.mark.asyncio
async def test_a_live_payment_on_a_720p_price_starves_the_session() -> None:
    async with live("go") as at:
        await at.register(unit="720p")
        # ten units are ten pixels, and one ticket the least that is signed
        session, _, _ = await at.reserve(type="live")
        at.clock.advance(2)
        await eventually(lambda: gone(at, session))


@pytest.mark.asyncio
async def test_a_node_ends_a_session_that_was_not_debited_for_an_hour() -> None:
    async with live("node") as at:
        await at.register(price="0.00001")
        session, challenge, _ = await at.reserve()
        headers = tickets_of(Sender(SIGNER_KEY), challenge, nonces=range(100, 200))
        assert (await at.post(challenge["payment_url"], headers=headers)).status == 200
        at.clock.advance(3601)
        await eventually(lambda: gone(at, session))


@BOTH
@pytest.mark.asyncio
async def test_amounts_at_1e15_wei_a_second_are_exact(dialect: str) -> None:
    async with live(dialect, ticket_seconds=Fraction(7, 3)) as at:
        await at.register()
        _, challenge, signed = await at.reserve()
        for _ in range(3):
            answer = await at.sign(challenge, signed["state"])
            if answer.status == 200:
                signed = answer.json
                await at.pay(challenge["payment_url"], signed)
        audit, params = await at.audit(), info_of(challenge).ticket_params
        face, probability = (int.from_bytes(part, "big") for part in (params.face_value, params.win_prob))
        assert audit["credited_wei"] == str(int(Fraction(audit["tickets"] * face * probability, 2**256 - 1)))
