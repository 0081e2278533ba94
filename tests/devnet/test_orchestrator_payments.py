"""Payments at an orchestrator: each ticket check, balances to the wei, and what the audit counts."""

from __future__ import annotations

import asyncio
import base64
import json
from fractions import Fraction
from typing import Any

import pytest

from gateway.devnet.account import Account
from gateway.devnet.chain_clock import ChainClock
from gateway.money import wei_per_second
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, Payment
from gateway.payments.ticket import expected_value
from tests.devnet.peer import WEI_PER_SECOND, HandClock, Peer, base64_of, peer


def value(info: OrchestratorInfo) -> Fraction:
    params = info.ticket_params
    return expected_value(int.from_bytes(params.face_value, "big"), int.from_bytes(params.win_prob, "big"))


def price(info: OrchestratorInfo) -> Fraction:
    return wei_per_second(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit)


def seen(at: Peer, nonce: int) -> str:
    sender = at.sender.account.address
    return f"invalid ticket senderNonce: already seen sender={sender} nonce={nonce}\n"


async def started(at: Peer, tickets: int = 5) -> tuple[OrchestratorInfo, str]:
    info = await at.info()
    urls = await at.start(info, tickets)
    return info, urls["manifest_id"]


@pytest.mark.asyncio
async def test_payments_are_credited_to_the_wei_and_answered_with_the_next_params() -> None:
    async with peer() as at:
        info, mid = await started(at, 60)
        credited = 60 * value(info)
        params = info
        for tickets in (1, 3, 2):
            credited += tickets * value(params)
            params = await at.pay(params, mid, tickets)
            assert params.auth_token == info.auth_token
            assert price(params) == WEI_PER_SECOND
        session = (await at.audit())["sessions"][mid]
    assert session["credited_wei"] == session["balance_wei"] == str(int(credited))
    assert session["sender"] == at.sender.account.address
    assert (session["payments"], session["tickets"], session["ended"]) == (4, 66, False)


@pytest.mark.asyncio
async def test_the_audit_sums_exact_fractions_and_rounds_once() -> None:
    async with peer(price_wei_per_second=Fraction(10**15, 7), ticket_seconds=Fraction(1, 3)) as at:
        exact = Fraction(0)
        for _ in range(3):
            info, _ = await started(at, 5)
            exact += 5 * value(info)
        audit = await at.audit()
    assert exact.denominator > 1
    assert audit["credited_wei"] == str(int(exact))
    assert audit["debited_wei"] == "0"
    assert len(audit["sessions"]) == 3


@pytest.mark.asyncio
async def test_a_hundred_tickets_pass_the_header_limits() -> None:
    async with peer() as at:
        info = await at.info()
        payment = at.sender.payment(info, 100)
        assert len(base64_of(payment)) > 8190
        assert (await at.start_with(payment, at.sender.segment(info))).status == 200
        assert (await at.audit())["tickets"] == 100


@pytest.mark.asyncio
async def test_the_same_bytes_again_are_already_seen_and_counted_as_redelivered_only() -> None:
    async with peer() as at:
        info, mid = await started(at)
        payment, segment = at.sender.payment(info, 2), at.sender.segment(info, mid)
        assert (await at.pay_with(payment, segment)).status == 200
        before = (await at.audit())["credited_wei"]
        for _ in range(2):
            again = await at.pay_with(payment, segment)
            assert (again.status, again.text) == (400, seen(at, 7))
        audit = await at.audit()
        assert audit["credited_wei"] == before
        session = audit["sessions"][mid]
        for counts in (audit, session):
            assert (counts["redelivered"], counts["rejected"]) == (2, 0)
            assert (counts["duplicate_nonces"], counts["stale_params"]) == (0, 0)


@pytest.mark.asyncio
async def test_deliveries_at_the_same_time_are_credited_once() -> None:
    async with peer() as at:
        info, mid = await started(at)
        payment, segment = at.sender.payment(info, 50), at.sender.segment(info, mid)
        answers = await asyncio.gather(*(at.pay_with(payment, segment) for _ in range(4)))
        assert sorted(answer.status for answer in answers) == [200, 400, 400, 400]
        session = (await at.audit())["sessions"][mid]
        assert session["tickets"] == 55


@pytest.mark.asyncio
async def test_a_start_delivered_again_is_already_seen_and_makes_no_second_job() -> None:
    async with peer() as at:
        info = await at.info()
        payment, segment = at.sender.payment(info, 5), at.sender.segment(info)
        assert (await at.start_with(payment, segment)).status == 200
        again = await at.start_with(payment, segment)
        assert (again.status, again.text) == (400, seen(at, 5))
        assert len(at.runner.jobs) == 1


@pytest.mark.asyncio
async def test_a_used_nonce_in_another_payment_is_a_duplicate_and_the_tickets_before_it_count() -> None:
    async with peer() as at:
        info, mid = await started(at, 5)
        mixed = at.sender.payment(info, nonces=[6, 7, 3, 8])
        answer = await at.pay_with(mixed, at.sender.segment(info, mid))
        assert (answer.status, answer.text) == (400, seen(at, 3))
        session = (await at.audit())["sessions"][mid]
        assert (session["tickets"], session["payments"]) == (7, 1)
        assert (session["rejected"], session["duplicate_nonces"]) == (1, 1)
        assert session["credited_wei"] == str(int(7 * value(info)))


def changed(payment: Payment, **fields: Any) -> Payment:
    other = Payment()
    other.CopyFrom(payment)
    for name, field_value in fields.items():
        target, _, leaf = name.rpartition("__")
        setattr(getattr(other, target) if target else other, leaf, field_value)
    return other


@pytest.mark.asyncio
async def test_params_that_were_tampered_with_are_refused() -> None:
    async with peer() as at:
        info, mid = await started(at)
        segment = at.sender.segment(info, mid)
        good = at.sender.payment(info, 1)
        refused = {
            "recipient": changed(good, ticket_params__recipient=bytes(20)),
            "recipientRand: face value": changed(good, ticket_params__face_value=b"\1"),
            "recipientRand: price": changed(good, expected_price__pricePerUnit=1),
            "recipientRand: block": changed(good, ticket_params__expiration_block=b"\xff" * 8),
            "recipientRand: seed": changed(good, ticket_params__seed=b"\1"),
            "recipientRand: round": changed(good, expiration_params__creation_round=7),
            "invalid expected price: no pixels": changed(good, expected_price__pixelsPerUnit=0),
            "recipientRand: too large a face value": changed(good, ticket_params__face_value=b"\xff" * 33),
            "none: round": changed(good, expiration_params__creation_round=-7),
        }
        for what, payment in refused.items():
            answer = await at.pay_with(payment, segment)
            assert answer.status == 400, what
            assert what.partition(":")[0] in answer.text
        assert (await at.audit())["rejected"] == len(refused)
        assert (await at.pay_with(good, segment)).status == 200


@pytest.mark.asyncio
async def test_price_and_params_of_two_messages_do_not_mix() -> None:
    async with peer() as at:
        info, mid = await started(at)
        await at.change(price_wei_per_second=str(WEI_PER_SECOND // 2))
        cheaper = await at.info()
        mix = OrchestratorInfo()
        mix.CopyFrom(cheaper)
        mix.price_info.CopyFrom(info.price_info)
        answer = await at.pay_with(at.sender.payment(mix, 1), at.sender.segment(mix, mid))
        assert (answer.status, "recipientRand" in answer.text) == (400, True)


@pytest.mark.asyncio
async def test_tickets_of_another_sender_or_for_anothers_params_are_refused() -> None:
    stranger = Account(bytes([9]) * 32)
    async with peer() as at:
        info, mid = await started(at)
        forged = at.sender.payment(info, nonces=[50], signer=stranger)
        answer = await at.pay_with(forged, at.sender.segment(info, mid))
        assert (answer.status, answer.text) == (400, "invalid ticket signature\n")
        others = changed(at.sender.payment(info, 1), sender=stranger.raw_address)
        segment = at.sender.segment(info, mid, signer=stranger)
        answer = await at.pay_with(others, segment)
        assert (answer.status, "recipientRand" in answer.text) == (400, True)


@pytest.mark.asyncio
async def test_six_hundred_nonces_are_taken_and_the_next_is_too_many() -> None:
    async with peer() as at:
        info, mid = await started(at, 100)
        segment = at.sender.segment(info, mid)
        for _ in range(5):
            assert (await at.pay_with(at.sender.payment(info, 100), segment)).status == 200
        answer = await at.pay_with(at.sender.payment(info, 1), segment)
        assert (answer.status, "too many values" in answer.text) == (400, True)
        audit = await at.audit()
        assert (audit["tickets"], audit["duplicate_nonces"]) == (600, 0)


@pytest.mark.asyncio
async def test_params_are_good_until_their_block_and_an_expired_nonce_is_spent() -> None:
    wall = HandClock()
    async with peer(clock=ChainClock(block_time=0.1, now_ns=wall)) as at:
        info, mid = await started(at)
        segment = at.sender.segment(info, mid)
        wall.advance(3.9)
        await at.pay(info, mid)
        wall.advance(0.1)
        late = at.sender.payment(info, 1)
        answer = await at.pay_with(late, segment)
        assert (answer.status, answer.text) == (400, "TicketParams expired\n")
        answer = await at.pay_with(late, segment)
        assert (answer.status, answer.text) == (400, seen(at, 7))
        wall.advance(0.1)
        answer = await at.pay_with(late, segment)
        assert (answer.status, answer.text) == (400, "TicketParams expired\n"), "a new block: it is forgotten"
        assert (await at.audit())["tickets"] == 6


@pytest.mark.asyncio
async def test_a_winning_ticket_counts_as_won_though_its_params_have_expired() -> None:
    wall = HandClock()
    clock = ChainClock(block_time=0.1, now_ns=wall)
    async with peer(clock=clock, price_wei_per_second=Fraction(350 * 10**12)) as at:
        info, mid = await started(at, 1)
        wall.advance(4)
        assert (await at.pay_with(at.sender.payment(info, 2), at.sender.segment(info, mid))).status == 400
        audit = await at.audit()
        assert (audit["tickets"], audit["winning_tickets"]) == (1, 3)


@pytest.mark.asyncio
async def test_tickets_after_a_bad_one_are_noted_and_not_credited_and_the_last_fault_is_told() -> None:
    async with peer() as at:
        info, mid = await started(at, 5)
        segment = at.sender.segment(info, mid)
        answer = await at.pay_with(at.sender.payment(info, nonces=[6, 3, 7, 4, 8]), segment)
        assert (answer.status, answer.text) == (400, seen(at, 4))
        assert (await at.audit())["sessions"][mid]["tickets"] == 6
        again = await at.pay_with(at.sender.payment(info, nonces=[7, 8]), segment)
        assert (again.status, again.text) == (400, seen(at, 8))
        assert (await at.audit())["sessions"][mid]["tickets"] == 6


@pytest.mark.asyncio
async def test_former_params_are_accepted_and_seen_as_stale() -> None:
    async with peer() as at:
        info, mid = await started(at)
        await at.pay(info, mid)
        assert (await at.audit())["stale_params"] == 0
        newest = await at.pay(info, mid)
        await at.pay(newest, mid)
        session = (await at.audit())["sessions"][mid]
        assert (session["stale_params"], session["rejected"]) == (1, 0)
        fetched = await at.info()
        await at.pay(fetched, mid)
        assert (await at.audit())["stale_params"] == 1


@pytest.mark.asyncio
async def test_a_payment_for_an_unknown_id_is_credited_to_that_id_and_helps_no_stream() -> None:
    async with peer() as at:
        info, mid = await started(at)
        await at.pay(info, "elsewhere")
        sessions = (await at.audit())["sessions"]
        assert sessions["elsewhere"]["tickets"] == 1
        assert sessions[mid]["tickets"] == 5


@pytest.mark.asyncio
async def test_a_drifted_price_is_in_the_answer_and_a_refresh_gives_the_fixed_one() -> None:
    async with peer() as at:
        info, mid = await started(at)
        await at.change(price_wei_per_second=str(2 * WEI_PER_SECOND))
        assert price(await at.pay(info, mid)) == 2 * WEI_PER_SECOND
        body = {"sender": at.sender.account.address, "manifest_id": mid}
        answer = await at.post("/refresh-payment", body=body)
        assert answer.status == 200
        fields = json.loads(answer.body)
        fixed = OrchestratorInfo.FromString(base64.b64decode(fields["payment_params"]))
        url = at.orchestrator.where.url
        assert (fields["manifest_id"], fields["payment_url"]) == (mid, url + "/payment")
        assert fields["orchestrator"] == url
        assert price(fixed) == WEI_PER_SECOND
        assert fixed.auth_token.session_id == mid
        assert price(await at.pay(fixed, mid)) == WEI_PER_SECOND, "its token names the session"
        assert (await at.audit())["rejected"] == 0


@pytest.mark.asyncio
async def test_a_new_payers_price_is_fixed_with_its_second_payment() -> None:
    async with peer() as at:
        info, mid = await started(at)
        body = {"sender": at.sender.account.address, "manifest_id": mid}
        assert (await at.post("/refresh-payment", body=body)).status == 409
        await at.pay(info, mid)
        assert (await at.post("/refresh-payment", body=body)).status == 200
        urls = await at.start(await at.info())
        second = {**body, "manifest_id": urls["manifest_id"]}
        assert (await at.post("/refresh-payment", body=second)).status == 200, "it is known by now"


@pytest.mark.asyncio
async def test_before_release_0_9_there_is_no_refresh() -> None:
    async with peer(release="0.8.10") as at:
        info, mid = await started(at)
        await at.pay(info, mid)
        body = {"sender": at.sender.account.address, "manifest_id": mid}
        answer = await at.post("/refresh-payment", body=body)
        assert (answer.status, answer.text) == (404, "404 page not found\n")
        assert info.capabilities.version == "0.8.10"


@pytest.mark.asyncio
async def test_an_adjusted_price_is_a_hundredth_dearer_and_paid_as_it_is() -> None:
    async with peer(auto_adjust_price=True) as at:
        info, mid = await started(at)
        assert price(info) == 1_009_999_999_991_808, "as go-livepeer advertises 1e15"
        assert price(await at.pay(info, mid)) == price(info)
        assert (await at.audit())["rejected"] == 0


@pytest.mark.asyncio
async def test_a_cold_wallet_is_paid_and_the_node_signs() -> None:
    cold = bytes([7]) * 20
    async with peer(recipient=cold) as at:
        info, mid = await started(at)
        assert info.ticket_params.recipient == cold
        assert "0x" + info.address.hex() == at.orchestrator.where.address.lower()
        assert at.orchestrator.where.recipient.lower() == "0x" + cold.hex()
        await at.pay(info, mid)
        wrong = changed(at.sender.payment(info, 1), ticket_params__recipient=info.address)
        answer = await at.pay_with(wrong, at.sender.segment(info, mid))
        assert (answer.status, answer.text) == (400, "invalid ticket recipient\n")


@pytest.mark.asyncio
async def test_a_refresh_of_an_unknown_session_is_409_and_of_nothing_400() -> None:
    async with peer() as at:
        _, mid = await started(at)
        own = at.sender.account.address
        for body, status in (
            ({"sender": own, "manifest_id": "unknown"}, 409),
            ({"sender": "0x" + "00" * 20, "manifest_id": mid}, 409),
            ({"sender": "0x00", "manifest_id": mid}, 400),
            ({"sender": own, "manifest_id": 3}, 400),
            ({"sender": own}, 400),
            (b"{", 400),
        ):
            assert (await at.post("/refresh-payment", body=body)).status == status


@pytest.mark.asyncio
async def test_tickets_win_about_as_often_as_they_should() -> None:
    # A face value of a hundred times the expected value: one ticket in a hundred, 600 tickets.
    async with peer() as at:
        info, mid = await started(at, 100)
        for _ in range(5):
            await at.pay(info, mid, 100)
        assert 0 <= (await at.audit())["winning_tickets"] <= 30


@pytest.mark.asyncio
async def test_a_ticket_that_always_wins_is_counted_as_won() -> None:
    # A face value that the expected value equals: expensive redemption, 0.35 ETH a ticket.
    async with peer(price_wei_per_second=Fraction(350 * 10**12)) as at:
        info, _ = await started(at, 5)
        assert value(info) == 350 * 10**12
        audit = await at.audit()
        assert (audit["tickets"], audit["winning_tickets"]) == (5, 5)
        assert audit["credited_wei"] == str(5 * 350 * 10**12)


@pytest.mark.asyncio
async def test_sums_beyond_sixty_four_bits_are_exact() -> None:
    async with peer(price_wei_per_second=Fraction(10**20)) as at:
        info, mid = await started(at, 100)
        assert (await at.audit())["sessions"][mid]["credited_wei"] == str(int(100 * value(info)))
        assert 100 * value(info) >= 100 * 10**20


@pytest.mark.asyncio
async def test_at_price_zero_signatures_still_count_and_tickets_do_not() -> None:
    async with peer(price_wei_per_second=Fraction(0)) as at:
        info = await at.info()
        empty = Payment(sender=at.sender.account.raw_address)
        assert (await at.start_with(empty, at.sender.segment(info))).status == 200
        unsigned = at.sender.segment(info, signer=Account(bytes([9]) * 32))
        assert (await at.start_with(empty, unsigned)).status == 403
