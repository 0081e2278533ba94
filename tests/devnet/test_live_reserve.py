"""Reserving a session of a live runner: every status of both tables, in their order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.devnet.account import Account
from gateway.orchestrator.livepeer_pb2 import SegData
from tests.devnet.live_kit import WEI_PER_SECOND, headers_of, info_of, live, segment_of, tickets_of
from tests.devnet.peer import Sender, base64_of

BOTH = pytest.mark.parametrize("dialect", ["go", "node"])


def error_of(dialect: str, answer: Any) -> str:
    """The text of an error: plain from go-livepeer, JSON from a node."""
    text: str = answer.json["error"] if dialect == "node" else answer.text
    return text


@BOTH
@pytest.mark.asyncio
async def test_the_challenge_has_four_fields_and_exact_params_and_reserves_nothing(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        first, second = await at.challenge(url), await at.challenge(url)
        assert set(first) == {"payment_params", "orchestrator", "manifest_id", "payment_url"}
        assert first["orchestrator"] == at.url
        assert first["payment_url"] == f"{url}/{first['manifest_id']}/payment"
        assert first["manifest_id"] != second["manifest_id"]
        info = info_of(first)
        assert (info.price_info.pricePerUnit, info.price_info.pixelsPerUnit) == (WEI_PER_SECOND, 1)
        assert info.auth_token.session_id == first["manifest_id"]
        assert info.transcoder == at.url
        assert "0x" + info.address.hex() == at.orchestrator.where.address.lower()
        assert info.ticket_params.expiration_params.creation_round > 0
        assert not info.HasField("capabilities")
        if dialect == "go":
            assert len(first["manifest_id"]) == 8
        else:
            assert len(first["manifest_id"]) == len("session_") + 16
        assert (await at.runner())["capacity_available"] == 1


@BOTH
@pytest.mark.asyncio
async def test_a_reserved_session_has_the_challenges_id_and_the_three_urls(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        session, challenge, _ = await at.reserve()
        mid = challenge["manifest_id"]
        assert session == {
            "session_id": mid,
            "app_url": f"{url}/{mid}/app",
            "control_url": f"{url}/{mid}",
        }
        audit = await at.audit()
        assert (audit["payments"], audit["tickets"], audit["rejected"]) == (1, 10, 0)
        assert int(audit["credited_wei"]) == 10 * WEI_PER_SECOND  # tickets of a second, ten of them
        assert audit["sessions"][mid]["sender"] == at.signer.address


@BOTH
@pytest.mark.asyncio
async def test_an_unknown_runner_is_404_and_a_single_shot_one_400(dialect: str) -> None:
    async with live(dialect) as at:
        unknown = await at.post(f"{at.url}/apps/nobody/session")
        assert (unknown.status, error_of(dialect, unknown).strip()) == (404, "runner not found")
        told = await at.register(mode="single-shot")
        assert (await at.runner())["url"] == f"{at.url}/apps/{told['runner_id']}/app"
        assert (await at.post(f"{at.url}/apps/{told['runner_id']}/session")).status == 400


@BOTH
@pytest.mark.asyncio
async def test_without_a_price_no_challenge_is_made(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        challenge = await at.challenge(url)
        assert await at.change(price_stale=True) == 204
        assert (await at.post(url)).status == 503
        # a node looks at the challenge before the feed, go-livepeer at the price before the headers
        known = await at.post(url, headers=headers_of(await at.signed(challenge)))
        assert known.status == 503
        unknown = tickets_of(Sender(), challenge)
        unknown["Livepeer-Segment"] = base64_of(SegData(manifestId=b"session_unknown"))
        assert (await at.post(url, headers=unknown)).status == {"go": 503, "node": 403}[dialect]


@BOTH
@pytest.mark.parametrize("payer", [None, "", "0x12", "0x" + "00" * 20, "nobody"])
@pytest.mark.asyncio
async def test_a_payer_that_is_no_address_is_402_with_an_error_alone(dialect: str, payer: str | None) -> None:
    async with live(dialect) as at:
        await at.register()
        headers = {} if payer is None else {"Livepeer-Payer-Address": payer}
        answer = await at.post((await at.runner())["url"], headers=headers)
        assert (answer.status, set(answer.json)) == (402, {"error"})


@BOTH
@pytest.mark.asyncio
async def test_headers_that_do_not_decode_are_402_or_bad_credentials(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        challenge = await at.challenge(url)
        payer = Sender(bytes([2]) * 32)  # the signer's own key
        good = tickets_of(payer, challenge)
        assert (await at.post(url, headers=good | {"Livepeer-Payment": "%%%"})).status == 402
        answer = await at.post(url, headers=good | {"Livepeer-Segment": "%%%"})
        assert answer.status == {"go": 403, "node": 402}[dialect]


@BOTH
@pytest.mark.asyncio
async def test_credentials_of_another_or_for_another_session_are_403(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        payer = Sender(bytes([2]) * 32)
        one, other = await at.challenge(url), await at.challenge(url)
        unsigned = tickets_of(payer, one)
        unsigned["Livepeer-Segment"] = base64_of(segment_of(payer, one, signer=Account(bytes([9]) * 32)))
        mixed = tickets_of(payer, one)
        mixed["Livepeer-Segment"] = base64_of(segment_of(payer, one | {"manifest_id": other["manifest_id"]}))
        for headers in (unsigned, mixed):
            assert (await at.post(url, headers=headers)).status == 403
        assert (await at.audit())["capacity_in_use"] == 0


@BOTH
@pytest.mark.asyncio
async def test_a_full_runner_takes_no_ticket_and_the_same_headers_serve_later(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        taken, _, _ = await at.reserve()
        challenge = await at.challenge(url)
        signed = await at.signed(challenge)
        full = await at.pay(url, signed)
        assert full.status == {"go": 503, "node": 409}[dialect]
        assert (await at.audit())["tickets"] == 10
        await at.post(taken["control_url"] + "/stop")
        assert (await at.pay(url, signed)).status == 200
        audit = await at.audit()
        assert (audit["tickets"], audit["duplicate_nonces"]) == (20, 0)


@BOTH
@pytest.mark.asyncio
async def test_headers_sent_again_after_a_lost_answer_are_409(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register(capacity=2)
        url = (await at.runner())["url"]
        _, _, signed = await at.reserve()
        again = await at.pay(url, signed)
        assert again.status == 409
        assert (await at.audit())["tickets"] == 10


@BOTH
@pytest.mark.asyncio
async def test_bad_tickets_leave_the_slot_free(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        payer, challenge = Sender(bytes([2]) * 32), await at.challenge(url)
        headers = tickets_of(payer, challenge, signer=Account(bytes([9]) * 32))
        assert (await at.post(url, headers=headers)).status == {"go": 400, "node": 403}[dialect]
        audit = await at.audit()
        assert (audit["capacity_in_use"], audit["tickets"], audit["rejected"]) == (0, 0, 1)
        [session] = audit["sessions"].values()
        assert session["ended"]


@pytest.mark.asyncio
async def test_go_livepeer_reserves_at_whatever_price_and_credit_the_tickets_have() -> None:
    async with live("go") as at:
        await at.register()
        url = (await at.runner())["url"]
        payer, challenge = Sender(bytes([2]) * 32), await at.challenge(url)
        await at.change(price_wei_per_second=str(2 * WEI_PER_SECOND))
        assert (await at.post(url, headers=tickets_of(payer, challenge, 1))).status == 200


@pytest.mark.asyncio
async def test_a_nodes_challenge_binds_the_price_though_the_feed_moves() -> None:
    async with live("node") as at:
        await at.register()
        url = (await at.runner())["url"]
        challenge = await at.challenge(url)
        await at.change(price_wei_per_second=str(2 * WEI_PER_SECOND))
        assert (await at.pay(url, await at.signed(challenge))).status == 200
        at.clock.advance(1)
        moved = info_of(await at.challenge(url)).price_info.pricePerUnit
        assert moved == 2 * WEI_PER_SECOND


@BOTH
@pytest.mark.asyncio
async def test_a_fixed_price_that_is_not_paid_in_full_is_refused(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register(price="1", unit="fixed")
        url = (await at.runner())["url"]
        payer, challenge = Sender(bytes([2]) * 32), await at.challenge(url)
        none = await at.post(url, headers=tickets_of(payer, challenge, 1, nonces=[]))
        assert none.status == {"go": 400, "node": 403}[dialect]
        session, challenge, signed = await at.reserve(type="fixed")
        follow_up = await at.pay(challenge["payment_url"], signed)
        assert follow_up.status == 409
        assert session["session_id"] == challenge["manifest_id"]


@pytest.mark.asyncio
async def test_a_fixed_price_that_moved_wants_a_new_challenge_from_go_livepeer() -> None:
    async with live("go") as at:
        await at.register(price="1", unit="fixed")
        url = (await at.runner())["url"]
        signed = await at.signed(await at.challenge(url), type="fixed")
        await at.change(price_wei_per_second="7")
        assert (await at.pay(url, signed)).status == 400


@BOTH
@pytest.mark.asyncio
async def test_two_reserves_at_once_never_take_one_slot_twice(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        url = (await at.runner())["url"]
        signed = [await at.signed(await at.challenge(url)) for _ in range(3)]
        answers = await asyncio.gather(*(at.pay(url, one) for one in signed))
        assert sorted(answer.status for answer in answers) == [200, *[{"go": 503, "node": 409}[dialect]] * 2]
