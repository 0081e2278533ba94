"""The signer over HTTP, driven with a clock of the test's own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth_hash.auto import keccak

from gateway.devnet.account import Account
from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.signer import ListedOrchestrator, Signer, SignerConfig, serve
from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.capabilities import capabilities
from gateway.payments.ticket import Ticket, recover, win_prob_for

DATA = Path(__file__).parents[1] / "data"
SIGNATURES = json.loads((DATA / "signatures.json").read_text())
KEY = bytes.fromhex(SIGNATURES["private_key"][2:])
RECIPIENT = bytes(range(20))
WEI_PER_SECOND = 10**15
START = 1_790_000_000 * 10**9


@dataclass
class HandClock:
    """Unix nanoseconds that only the test moves."""

    ns: int = START

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: Fraction | int) -> None:
        self.ns += int(seconds * 10**9)


def info(**changes: Any) -> livepeer_pb2.OrchestratorInfo:
    """An OrchestratorInfo at 1e15 wei per second whose tickets are worth `ticket_seconds` each."""
    price = changes.get("price", Fraction(WEI_PER_SECOND, PIXELS_PER_SECOND))
    value = int(changes.get("ticket_seconds", Fraction(1)) * WEI_PER_SECOND)
    clock = ChainClock(now_ns=lambda: START)
    return livepeer_pb2.OrchestratorInfo(
        transcoder="https://127.0.0.1:8935",
        address=changes.get("address", RECIPIENT),
        price_info=livepeer_pb2.PriceInfo(pricePerUnit=price.numerator, pixelsPerUnit=price.denominator),
        ticket_params=livepeer_pb2.TicketParams(
            recipient=RECIPIENT,
            face_value=(100 * value).to_bytes(32, "big").lstrip(b"\0"),
            win_prob=win_prob_for(100 * value, value).to_bytes(32, "big"),
            recipient_rand_hash=changes.get("rand_hash", bytes([7]) * 32),
            seed=b"\1",
            expiration_block=(clock.block() + changes.get("blocks_left", 10_000)).to_bytes(8, "big"),
            expiration_params=livepeer_pb2.TicketExpirationParams(
                creation_round=3456, creation_round_block_hash=bytes([9]) * 32
            ),
        ),
        auth_token=livepeer_pb2.AuthToken(
            token=b"token", session_id="s", expiration=START // 10**9 + changes.get("token_left", 10**6)
        ),
    )


def call(orchestrator: livepeer_pb2.OrchestratorInfo | bytes | None = None, **fields: Any) -> dict[str, Any]:
    """The body of a signing call; `state` is what the last answer held."""
    message = info() if orchestrator is None else orchestrator
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    body: dict[str, Any] = {
        "orchestrator": base64.b64encode(raw).decode(),
        "type": "lv2v",
        "capabilities": base64.b64encode(capabilities("comfystream")).decode(),
    }
    return {name: value for name, value in {**body, **fields}.items() if value is not ...}


@dataclass
class Answer:
    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def state(self) -> dict[str, str]:
        state: dict[str, str] = self.body["state"]
        return state

    @property
    def payment(self) -> livepeer_pb2.Payment:
        return livepeer_pb2.Payment.FromString(base64.b64decode(self.body["payment"]))

    @property
    def credentials(self) -> livepeer_pb2.SegData:
        return livepeer_pb2.SegData.FromString(base64.b64decode(self.body["segCreds"]))

    @property
    def nonces(self) -> list[int]:
        return [one.sender_nonce for one in self.payment.ticket_sender_params]


@dataclass
class Desk:
    """A running signer and a caller of it."""

    signer: Signer
    http: aiohttp.ClientSession
    clock: HandClock = field(default_factory=HandClock)

    async def pay(self, **body: Any) -> Answer:
        return await self.post("/generate-live-payment", json.dumps(body))

    async def post(self, path: str, body: str = "") -> Answer:
        async with self.http.post(self.signer.url + path, data=body) as answer:
            return Answer(answer.status, await answer.json(), answer.headers)

    async def audit(self) -> dict[str, Any]:
        async with self.http.get(self.signer.audit_url) as answer:
            counts: dict[str, Any] = await answer.json()
            return counts


@asynccontextmanager
async def desk(**settings: Any) -> AsyncIterator[Desk]:
    clock = settings.pop("hand", HandClock())
    config = SignerConfig(key=KEY, clock=ChainClock(now_ns=clock))
    signer = await serve(replace(config, **settings))
    try:
        async with aiohttp.ClientSession() as http:
            yield Desk(signer, http, clock)
    finally:
        await signer.stop()


@pytest.mark.asyncio
async def test_the_identity_is_the_address_signed_as_orchestrators_check_it() -> None:
    async with desk() as at:
        answer = await at.post("/sign-orchestrator-info")
    assert answer.status == 200
    assert answer.body == {
        "address": SIGNATURES["orchestrator_request"]["message"],
        "signature": "0x" + SIGNATURES["orchestrator_request"]["sig"],
    }


@pytest.mark.asyncio
async def test_a_first_call_buys_the_preload_with_tickets_that_recover_to_the_signer() -> None:
    async with desk() as at:
        answer = await at.pay(**call())
        assert answer.status == 200
        payment, asked = answer.payment, info()
        assert answer.nonces == list(range(1, 61))
        assert payment.sender == Account(KEY).raw_address
        assert payment.expected_price == asked.price_info
        assert payment.expiration_params == asked.ticket_params.expiration_params
        assert not payment.ticket_params.HasField("expiration_params")
        for one in payment.ticket_sender_params:
            ticket = Ticket(
                recipient=RECIPIENT,
                sender=payment.sender,
                face_value=int.from_bytes(payment.ticket_params.face_value, "big"),
                win_prob=int.from_bytes(payment.ticket_params.win_prob, "big"),
                sender_nonce=one.sender_nonce,
                recipient_rand_hash=bytes([7]) * 32,
                creation_round=3456,
                creation_round_block_hash=bytes([9]) * 32,
            )
            assert recover(ticket.hash, one.sig) == payment.sender


@pytest.mark.asyncio
async def test_the_credentials_are_signed_over_the_manifest_id_and_carry_capabilities_and_token() -> None:
    known = SIGNATURES["segment_credentials"]
    async with desk() as at:
        credentials = (await at.pay(**call(ManifestID=known["manifest_id"]))).credentials
    assert credentials.sig.hex() == known["sig"]
    assert credentials.profiles == b"invalid"
    assert credentials.hash == keccak(b"")
    assert credentials.capabilities.SerializeToString(deterministic=True) == capabilities("comfystream")
    assert credentials.auth_token == info().auth_token


SEQUENCES = json.loads((DATA / "signer-sequences.json").read_text())["sequences"]


@pytest.mark.asyncio
@pytest.mark.parametrize("known", SEQUENCES, ids=lambda k: f"E={k['ticket_seconds']} I={k['interval_s']}")
async def test_calls_at_a_fixed_interval_get_the_known_answers(known: dict[str, Any]) -> None:
    body = call(info(ticket_seconds=Fraction(known["ticket_seconds"])), ManifestID="m")
    seen: list[int] = []
    async with desk() as at:
        for _ in known["answers"]:
            answer = await at.pay(**body)
            if answer.status == 200:
                body["state"] = answer.state
                seen.append(len(answer.nonces))
            else:
                assert "state" not in answer.body
                seen.append(answer.status)
            at.clock.advance(Fraction(known["interval_s"]))
    assert seen == known["answers"]


@pytest.mark.asyncio
async def test_nonces_go_on_for_the_same_hash_and_start_over_for_another() -> None:
    async with desk() as at:
        first = await at.pay(**call())
        at.clock.advance(3)
        second = await at.pay(**call(ManifestID="m", state=first.state))
        assert second.nonces == [61, 62, 63]
        at.clock.advance(2)
        third = await at.pay(**call(info(rand_hash=bytes([8]) * 32), ManifestID="m", state=second.state))
        assert third.nonces == [1, 2]


@pytest.mark.asyncio
async def test_another_process_with_the_same_key_goes_on_with_a_state() -> None:
    hand = HandClock()
    async with desk(hand=hand) as at:
        first = await at.pay(**call())
    hand.advance(5)
    async with desk(hand=hand) as at:
        second = await at.pay(**call(ManifestID="m", state=first.state))
        assert second.nonces == list(range(61, 66))
        assert (await at.audit())["null_states"] == 0


@pytest.mark.asyncio
async def test_names_are_matched_without_case_and_nulls_are_as_good_as_absent() -> None:
    async with desk() as at:
        body = call(STATE={"state": "", "SIG": None}, manifestId=None, app=None, maxPrice=None, inPixels=0)
        body["ORCHESTRATOR"] = body.pop("orchestrator")
        assert (await at.pay(**body)).status == 200
        assert (await at.pay(**call(state=None, capabilities=None))).status == 200


def info_block() -> int:
    """The block of the time that the tests begin at."""
    return ChainClock(now_ns=lambda: START).block()


def always_wins() -> livepeer_pb2.OrchestratorInfo:
    message = info()
    message.ticket_params.win_prob = bytes([255]) * 32
    return message


def without(name: str) -> livepeer_pb2.OrchestratorInfo:
    message = info()
    message.ClearField(name)
    return message


MALFORMED = {
    "no body": "",
    "no object": "[]",
    "not JSON": '{"type": NaN}',
    "no orchestrator": json.dumps({"type": "lv2v"}),
    "orchestrator not base64": json.dumps({"orchestrator": "%%", "type": "lv2v"}),
    "orchestrator no message": json.dumps(call(b"\xff\xff")),
    "no price": json.dumps(call(without("price_info"))),
    "price zero": json.dumps(call(info(price=Fraction(0)))),
    "no ticket params": json.dumps(call(without("ticket_params"))),
    "no auth token": json.dumps(call(without("auth_token"))),
    "type unknown": json.dumps(call(type="hourly")),
    "type a number": json.dumps(call(type=3)),
    "no pixels": json.dumps(call(type="")),
    "capabilities no message": json.dumps(call(capabilities="/w==")),
    "state without signature": json.dumps(call(ManifestID="m", state={"State": "e30=", "Sig": ""})),
    "no expiration": json.dumps(call(info(blocks_left=-info_block()))),
    "ticket that always wins": json.dumps(call(always_wins())),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_call_is_refused_with_400(what: str) -> None:
    async with desk() as at:
        answer = await at.post("/generate-live-payment", MALFORMED[what])
        assert answer.status == 400
        assert answer.body["error"]["message"]
        assert (await at.audit())["signings"] == 0


@pytest.mark.asyncio
async def test_a_forged_a_foreign_and_a_misplaced_state_are_refused() -> None:
    async with desk() as at:
        state = (await at.pay(**call())).state
        raw = base64.b64decode(state["State"])
        forged = {**state, "State": base64.b64encode(raw.replace(b'"lv2v"', b'"live"')).decode()}
        foreign = {
            "State": state["State"],
            "Sig": base64.b64encode(Account(bytes([5]) * 32).sign(raw)).decode(),
        }
        nonsense = {
            "State": base64.b64encode(b"{}").decode(),
            "Sig": base64.b64encode(Account(KEY).sign(b"{}")).decode(),
        }
        for wrong in (forged, foreign, nonsense):
            assert (await at.pay(**call(ManifestID="m", state=wrong))).status == 400
        other = info(address=bytes([3]) * 20)
        for misplaced in (
            call(other, ManifestID="m"),
            call(ManifestID="m", type="live"),
            call(ManifestID="m", app="x"),
            call(),
        ):
            assert (await at.pay(**{**misplaced, "state": state})).status == 400
        at.clock.advance(1)
        assert (await at.pay(**call(ManifestID="m", state=state))).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("old", "status"),
    [
        ({"blocks_left": 1}, 480),
        ({"blocks_left": 2}, 200),
        ({"token_left": 179}, 480),
        ({"token_left": 180}, 200),
    ],
)
async def test_terms_about_to_expire_ask_for_a_refresh_of_the_named_orchestrator(
    old: dict[str, int], status: int
) -> None:
    async with desk() as at:
        answer = await at.pay(**call(info(**old)))
        assert answer.status == status
        if status == 480:
            assert answer.headers["Livepeer-Orchestrator-URL"] == "https://127.0.0.1:8935"


@pytest.mark.asyncio
async def test_a_refresh_is_asked_for_even_when_no_ticket_is_due() -> None:
    async with desk() as at:
        state = (await at.pay(**call(info(ticket_seconds=Fraction(61))))).state
        stale = call(info(ticket_seconds=Fraction(61), blocks_left=0), ManifestID="m", state=state)
        assert (await at.pay(**stale)).status == 480


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("price", "status"),
    [
        ("36168981.49", 200),
        (36168982, 200),
        ("36168981", 481),
        (36168981.4, 481),
        ("1/3", 400),
        ("1_0", 400),
        (-1, 400),
        (True, 400),
        ("1e400", 400),
        (None, 400),
    ],
)
async def test_the_calls_own_ceiling_is_a_decimal_per_pixel(price: Any, status: int) -> None:
    limit = {"price": price, "currency": "wei", "unit": "720p-pixel-seconds"}
    async with desk() as at:
        assert (await at.pay(**call(maxPrice=limit))).status == status


@pytest.mark.asyncio
async def test_a_ceiling_in_another_currency_or_unit_is_refused() -> None:
    async with desk() as at:
        for wrong in ({"currency": "eth"}, {"unit": "seconds"}):
            limit = {"price": 10**9, "currency": "wei", "unit": "720p-pixel-seconds", **wrong}
            assert (await at.pay(**call(maxPrice=limit))).status == 400


@pytest.mark.asyncio
async def test_a_price_above_the_first_or_the_configured_one_is_481_and_an_equal_one_passes() -> None:
    price = Fraction(WEI_PER_SECOND, PIXELS_PER_SECOND)
    async with desk(max_price=Fraction(WEI_PER_SECOND)) as at:
        assert (await at.pay(**call(info(price=price + Fraction(1, 10**9))))).status == 481
        cheap = await at.pay(**call(info(price=price / 2)))
        assert cheap.status == 200
        at.clock.advance(5)
        assert (await at.pay(**call(ManifestID="m", state=cheap.state))).status == 481
        assert (await at.pay(**call(info(price=price / 2), ManifestID="m", state=cheap.state))).status == 200


@pytest.mark.asyncio
async def test_limits_on_value_are_400_for_one_ticket_and_a_masked_500_for_all() -> None:
    for limit in ({"max_ticket_ev": WEI_PER_SECOND - 1}, {"max_face_value": 99 * WEI_PER_SECOND}):
        async with desk(**limit) as at:
            assert (await at.pay(**call())).status == 400
    async with desk(max_total_ev=59 * WEI_PER_SECOND) as at:
        answer = await at.pay(**call())
        assert answer.status == 500
        assert answer.body == {"error": {"message": "Internal Server Error"}}


@pytest.mark.asyncio
async def test_other_payment_types_bill_their_own_units() -> None:
    per_second = Fraction(WEI_PER_SECOND)
    async with desk() as at:
        live = await at.pay(**call(info(price=per_second), type="live"))
        assert len(live.nonces) == 10
        at.clock.advance(Fraction(3, 2))
        again = await at.pay(**call(info(price=per_second), type="live", ManifestID="m", state=live.state))
        assert len(again.nonces) == 2
        fixed = await at.pay(**call(info(price=per_second * 3), type="fixed"))
        assert len(fixed.nonces) == 3
        pixels = await at.pay(**call(type="", inPixels=5 * PIXELS_PER_SECOND))
        assert len(pixels.nonces) == 5


@pytest.mark.asyncio
async def test_the_preload_is_what_it_was_started_with() -> None:
    async with desk(preload=Fraction(8)) as at:
        assert len((await at.pay(**call())).nonces) == 8


@pytest.mark.asyncio
async def test_a_clock_at_or_before_the_last_update_bills_another_preload() -> None:
    async with desk() as at:
        for back in (0, -100):
            state = (await at.pay(**call())).state
            at.clock.advance(back)
            answer = await at.pay(**call(ManifestID="m", state=state))
            assert len(answer.nonces) == 60
            live = await at.pay(**call(info(price=Fraction(WEI_PER_SECOND)), type="live"))
            again = call(info(price=Fraction(WEI_PER_SECOND)), type="live", ManifestID="m", state=live.state)
            assert len((await at.pay(**again)).nonces) == 10


@pytest.mark.asyncio
async def test_a_worthless_ticket_is_never_needed() -> None:
    async with desk() as at:
        answer = await at.pay(**call(info(ticket_seconds=Fraction(0))))
        assert (answer.status, answer.body) == (482, {"error": {"message": "no tickets"}})


@pytest.mark.asyncio
async def test_pixels_count_for_no_payment_type_but_the_empty_one() -> None:
    async with desk() as at:
        assert len((await at.pay(**call(inPixels=5))).nonces) == 60


@pytest.mark.asyncio
async def test_a_round_is_the_signers_own_where_the_ticket_params_have_none() -> None:
    asked = without("transcoder")
    asked.ticket_params.ClearField("expiration_params")
    async with desk() as at:
        given = (await at.pay(**call(asked))).payment.expiration_params
        clock = ChainClock(now_ns=at.clock)
        assert given.creation_round == clock.round()
        assert given.creation_round_block_hash == clock.round_block_hash(clock.round())


@pytest.mark.asyncio
async def test_the_audit_counts_signings_null_stale_and_overlapping_calls_by_session() -> None:
    async with desk() as at:
        first = await at.pay(**call())
        at.clock.advance(5)
        body = call(ManifestID="m", state=first.state)
        await at.pay(**body)
        await at.pay(**body)
        totals = await at.audit()
        assert (totals["signings"], totals["null_states"], totals["stale_states"]) == (3, 1, 1)
        (session,) = totals["sessions"].values()
        assert session == {"signings": 3, "null_states": 1, "stale_states": 1, "overlapping": 0}
        await asyncio.gather(*(at.pay(**body) for _ in range(4)))
        assert (await at.audit())["overlapping"] > 0


@pytest.mark.asyncio
async def test_discovery_answers_503_while_empty_and_filters_by_capability() -> None:
    wanted = "live-video-to-video/comfystream"
    listed = [
        ListedOrchestrator(address="https://127.0.0.1:1", score=2, capabilities=(wanted,)),
        ListedOrchestrator(address="https://127.0.0.1:2", capabilities=("live-video-to-video/other",)),
        ListedOrchestrator(address="https://127.0.0.1:3"),
    ]
    async with desk() as at:
        url = at.signer.url + "/discover-orchestrators"
        async with at.http.get(url) as answer:
            assert answer.status == 503
        at.signer.list_orchestrators(listed)
        async with at.http.get(url, params={"caps": wanted}) as answer:
            assert await answer.json() == [
                {"address": "https://127.0.0.1:1", "score": 2, "capabilities": [wanted]},
                {"address": "https://127.0.0.1:3", "score": 1.0},
            ]
        control = at.signer.url + "/devnet/orchestrators"
        async with at.http.put(control, json=[{"address": "127.0.0.1:4"}]) as answer:
            assert answer.status == 204
        async with at.http.get(url) as answer:
            assert [entry["address"] for entry in await answer.json()] == ["127.0.0.1:4"]
        async with at.http.put(control, json=[{}]) as answer:
            assert answer.status == 400
