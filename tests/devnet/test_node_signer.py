"""The devnet's signer with livepeer/node's rules: statuses in order, billing, what a state is bound to."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import aiohttp
import pytest

from gateway.devnet.account import Account
from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.live_runners.challenge import ChallengeMaker
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.devnet.signer import Signer, SignerConfig, serve
from gateway.orchestrator.livepeer_pb2 import AuthToken, OrchestratorInfo, Payment, SegData
from tests.devnet.live_kit import APP, WEI_PER_SECOND, Answer
from tests.devnet.peer import HandClock

SESSION = "session_1234567890abcdef"
NODE = Account(bytes([1]) * 32)


@dataclass
class NodeSigner:
    """The signer, and an orchestrator's params as the tests want them."""

    signer: Signer
    http: aiohttp.ClientSession
    clock: ChainClock
    wall: HandClock
    maker: ChallengeMaker

    def info(self, session: str = SESSION, wei: int = WEI_PER_SECOND, **changes: Any) -> OrchestratorInfo:
        payer = bytes.fromhex(self.signer.address[2:])
        info = self.maker.info(payer, wei, Fraction(wei), self.maker.tokens.issue(session))
        for name, value in changes.items():
            getattr(info, name).MergeFrom(value)
        return info

    async def sign(self, info: OrchestratorInfo | None = None, state: Any = None, **changes: Any) -> Answer:
        body: dict[str, Any] = {
            "orchestrator": base64.b64encode((info or self.info()).SerializeToString()).decode(),
            "type": "live",
            "ManifestID": SESSION,
            "app": APP,
            "state": state,
            **changes,
        }
        url = f"{self.signer.url}/generate-live-payment"
        async with self.http.post(url, json=body) as answer:
            return Answer(answer.status, await answer.read(), dict(answer.headers))

    async def signed(self, info: OrchestratorInfo | None = None, state: Any = None, **changes: Any) -> Any:
        answer = await self.sign(info, state, **changes)
        assert answer.status == 200, answer
        return answer.json


@asynccontextmanager
async def node_signer(**settings: Any) -> AsyncIterator[NodeSigner]:
    wall = HandClock()
    clock = ChainClock(now_ns=wall)
    signer = await serve(SignerConfig(key=bytes([2]) * 32, dialect="node", clock=clock, **settings))
    issuer = ParamsIssuer(
        secret=b"secret", recipient=NODE.raw_address, clock=clock, ticket_seconds=Fraction(1)
    )
    maker = ChallengeMaker(
        issuer=issuer,
        tokens=Tokens(b"secret", clock, 3600.0),
        address=NODE.raw_address,
        ticket_seconds=Fraction(1),
        url="http://127.0.0.1:1",
    )
    try:
        async with aiohttp.ClientSession() as http:
            yield NodeSigner(signer, http, clock, wall, maker)
    finally:
        await signer.stop()


def tickets(signed: Any) -> list[int]:
    payment = Payment.FromString(base64.b64decode(signed["payment"]))
    return [ticket.sender_nonce for ticket in payment.ticket_sender_params]


def message(answer: Answer) -> str:
    text: str = answer.json["error"]["message"]
    return text


@pytest.mark.asyncio
async def test_the_opening_is_ten_seconds_and_later_calls_bill_whole_seconds_one_at_least() -> None:
    async with node_signer() as at:
        info = at.info()
        signed = await at.signed(info)
        assert tickets(signed) == list(range(1, 11))
        for elapsed, billed in ((0.2, 1), (2.9, 3), (3.0, 3), (4.01, 5)):
            at.wall.advance(elapsed)
            before = tickets(signed)[-1]
            signed = await at.signed(info, signed["state"])
            assert tickets(signed)[-1] - before == billed


@pytest.mark.asyncio
async def test_the_state_has_lowercase_keys_and_the_credentials_no_capabilities() -> None:
    async with node_signer() as at:
        signed = await at.signed()
        assert set(signed["state"]) == {"state", "sig"}
        credentials = SegData.FromString(base64.b64decode(signed["segCreds"]))
        assert not credentials.HasField("capabilities")
        assert credentials.manifestId == SESSION.encode()
        held = json.loads(base64.b64decode(signed["state"]["state"]))
        assert (held["ManifestID"], held["App"], held["Type"]) == (SESSION, APP, "live")
        # given back under either spelling
        upper = {"State": signed["state"]["state"], "Sig": signed["state"]["sig"]}
        at.wall.advance(1)
        assert (await at.sign(state=upper)).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "lv2v"},
        {"type": ""},
        {"type": "other"},
        {"capabilities": base64.b64encode(b"\x08\x01").decode()},
        {"orchestrator": ""},
        {"orchestrator": base64.b64encode(b"\xff\xff").decode()},
        {"orchestrator": "%"},
        {"ManifestID": "another"},
        {"maxPrice": {"price": 0, "currency": "wei", "unit": "seconds"}},
        {"maxPrice": {"price": "1/3", "currency": "wei", "unit": "seconds"}},
        {"maxPrice": {"price": 1, "currency": "usd", "unit": "seconds"}},
        {"maxPrice": {"price": 1, "currency": "wei", "unit": "720p-pixel-seconds"}},
        {"state": {"state": "bm8=", "sig": "bm8="}},
    ],
)
@pytest.mark.asyncio
async def test_what_is_malformed_is_400(changes: dict[str, Any]) -> None:
    async with node_signer() as at:
        answer = await at.sign(**changes)
        assert answer.status == 400
        assert message(answer)


@pytest.mark.asyncio
async def test_a_body_over_a_mebibyte_is_400() -> None:
    async with node_signer() as at:
        url = f"{at.signer.url}/generate-live-payment"
        async with at.http.post(url, data=io.BytesIO(b" " * (1 << 20) + b"{}")) as answer:
            assert answer.status == 400


@pytest.mark.asyncio
async def test_incomplete_params_are_400() -> None:
    async with node_signer() as at:
        for field in ("price_info", "ticket_params", "auth_token"):
            info = at.info()
            info.ClearField(field)  # type: ignore[arg-type]
            assert (await at.sign(info)).status == 400, field
        other = at.info()
        other.address = bytes([7]) * 20  # tickets would pay somebody else
        assert (await at.sign(other)).status == 400


@pytest.mark.asyncio
async def test_without_a_manifest_id_the_challenges_is_taken() -> None:
    async with node_signer() as at:
        signed = await at.signed(ManifestID="")
        assert SegData.FromString(base64.b64decode(signed["segCreds"])).manifestId == SESSION.encode()


@pytest.mark.asyncio
async def test_a_price_above_a_ceiling_is_481_and_an_equal_one_is_paid() -> None:
    async with node_signer() as at:
        for price, status in ((WEI_PER_SECOND, 200), (str(WEI_PER_SECOND), 200), (WEI_PER_SECOND - 1, 481)):
            asked = {"price": price, "currency": "wei", "unit": "seconds"}
            assert (await at.sign(maxPrice=asked)).status == status
    async with node_signer(max_price=Fraction(WEI_PER_SECOND - 1)) as at:
        assert (await at.sign()).status == 481


@pytest.mark.asyncio
async def test_a_state_belongs_to_one_address_app_type_and_manifest() -> None:
    async with node_signer() as at:
        state = (await at.signed())["state"]
        at.wall.advance(1)
        other = at.info("session_other")
        assert (await at.sign(other, state, ManifestID="session_other")).status == 400
        assert (await at.sign(state=state, app="another/app")).status == 400
        assert (await at.sign(state=state, type="fixed")).status == 400
        assert (await at.sign(state={**state, "sig": base64.b64encode(bytes(65)).decode()})).status == 400
        assert (await at.sign(state=state)).status == 200
        assert (await at.sign(state=state)).status == 200  # an old one works too


@pytest.mark.asyncio
async def test_a_price_above_the_sessions_first_one_is_481_and_a_lower_one_bills_less() -> None:
    async with node_signer() as at:
        signed = await at.signed(at.info(wei=1000 * 10**12))
        at.wall.advance(4)
        assert (await at.sign(at.info(wei=1001 * 10**12), signed["state"])).status == 481
        cheaper = await at.signed(at.info(wei=500 * 10**12), signed["state"])
        assert len(tickets(cheaper)) == 4  # of half the value


@pytest.mark.asyncio
async def test_a_state_older_than_an_hour_is_400() -> None:
    async with node_signer() as at:
        state = (await at.signed())["state"]
        at.wall.advance(3601)
        assert (await at.sign(at.info(), state)).status == 400


@pytest.mark.asyncio
async def test_a_refresh_is_asked_for_by_token_block_and_nonce() -> None:
    async with node_signer() as at:
        old = at.info()
        state = (await at.signed(old))["state"]
        at.wall.advance(39 * 12)
        for asked in (await at.sign(old), await at.sign(old, state)):
            assert asked.status == 480
            assert asked.headers["Livepeer-Orchestrator-URL"] == "http://127.0.0.1:1"
        token = at.info(auth_token=AuthToken(expiration=at.clock.unix() + 179))
        assert (await at.sign(token)).status == 480
        # before anything else is looked at, but for the form
        assert (await at.sign(token, ManifestID="another")).status == 480
        assert (await at.sign(token, type="lv2v")).status == 400


@pytest.mark.asyncio
async def test_from_nonce_500_on_new_params_are_wanted_and_they_start_it_anew() -> None:
    async with node_signer() as at:
        info = at.info()
        signed = await at.signed(info)
        while tickets(signed)[-1] < 500:
            at.wall.advance(98)
            # the params live 8 minutes: the block stands still for this
            info.ticket_params.expiration_block = at.info().ticket_params.expiration_block
            signed = await at.signed(info, signed["state"])
        at.wall.advance(1)
        assert (await at.sign(info, signed["state"])).status == 480
        fresh = await at.signed(at.info(), signed["state"])
        assert tickets(fresh) == [1]


@pytest.mark.asyncio
async def test_a_batch_that_would_pass_nonce_600_is_480_and_one_over_a_hundred_tickets_400() -> None:
    async with node_signer() as at:
        info = at.info()
        signed = await at.signed(info)
        while tickets(signed)[-1] + 98 < 500:
            at.wall.advance(98)
            info.ticket_params.expiration_block = at.info().ticket_params.expiration_block
            signed = await at.signed(info, signed["state"])
        at.wall.advance(499 - tickets(signed)[-1])
        signed = await at.signed(info, signed["state"])
        assert tickets(signed)[-1] == 499
        at.wall.advance(100)
        assert (await at.sign(info, signed["state"])).status == 200
        at.wall.advance(1)
        too_many = await at.sign(info, signed["state"])
        assert too_many.status == 400  # 101 tickets: more than one batch is


@pytest.mark.asyncio
async def test_tickets_beyond_the_signers_limits_are_400() -> None:
    for limit in ({"max_ticket_ev": WEI_PER_SECOND // 2}, {"max_face_value": WEI_PER_SECOND}):
        async with node_signer(**limit) as at:
            assert (await at.sign()).status == 400


@pytest.mark.asyncio
async def test_a_balance_that_covers_the_time_is_482_without_a_state() -> None:
    async with node_signer() as at:
        at.maker.ticket_seconds = Fraction(25)
        info = at.info()
        signed = await at.signed(info)
        assert tickets(signed) == [1]
        at.wall.advance(3)
        # 15 s are left, and as much as one ticket is worth has to be in hand
        signed = await at.signed(info, signed["state"])
        assert tickets(signed) == [2]
        at.wall.advance(3)
        covered = await at.sign(info, signed["state"])
        assert (covered.status, set(covered.json)) == (482, {"error"})


@pytest.mark.asyncio
async def test_a_fixed_price_bills_one_unit() -> None:
    async with node_signer() as at:
        signed = await at.signed(type="fixed", maxPrice={"price": 10**15, "currency": "wei", "unit": "fixed"})
        assert tickets(signed) == [1]
