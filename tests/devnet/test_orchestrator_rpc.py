"""The orchestrator's gRPC side, asked by a raw client."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from eth_hash.auto import keccak
from grpclib.client import UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gateway.devnet.orchestrator.offer import ModelTerms
from gateway.money import PIXELS_PER_SECOND, wei_per_second
from gateway.orchestrator.capabilities import capabilities
from gateway.orchestrator.livepeer_pb2 import Capabilities, PingPong
from gateway.payments.ticket import recover
from harness.waiting import DEADLINE
from tests.devnet.peer import MODEL, WEI_PER_SECOND, Peer, peer, unverified


def price(info: object) -> Fraction:
    price_info = info.price_info  # type: ignore[attr-defined]
    return wei_per_second(price_info.pricePerUnit, price_info.pixelsPerUnit)


@pytest.mark.asyncio
async def test_an_info_holds_price_ticket_params_token_and_the_warm_model() -> None:
    async with peer(capacity=3) as at:
        info = await at.info()
        again = await at.info()
        where = at.orchestrator.where
    assert info.transcoder == where.url
    assert "0x" + info.address.hex() == where.address.lower()
    assert info.ticket_params.recipient == info.address
    assert (info.price_info.pricePerUnit, info.price_info.pixelsPerUnit) == (976562500, 27)
    model = info.capabilities.constraints.PerCapability[35].models[MODEL]
    assert (model.warm, model.capacity, model.capacityInUse) == (True, 3, 0)
    assert info.auth_token.session_id != again.auth_token.session_id
    assert info.ticket_params.recipient_rand_hash != again.ticket_params.recipient_rand_hash
    assert not info.capabilities_prices
    assert not info.hardware


@pytest.mark.asyncio
async def test_without_the_capabilitys_capacity_the_price_is_that_of_transcoding() -> None:
    without_capacity = Capabilities.FromString(capabilities(MODEL))
    without_capacity.capacities.clear()
    other_model = Capabilities.FromString(capabilities("another"))
    async with peer() as at:
        for asked in (without_capacity, other_model):
            assert price(await at.info(asked=asked)) == 1200 * PIXELS_PER_SECOND


@pytest.mark.asyncio
async def test_only_who_asks_for_nothing_is_told_all_prices_in_whole_wei_per_pixel() -> None:
    async with peer() as at:
        info = await at.info(asked=None)
    (priced,) = info.capabilities_prices
    assert (priced.pricePerUnit, priced.pixelsPerUnit) == (WEI_PER_SECOND // PIXELS_PER_SECOND, 1)
    assert (priced.capability, priced.constraint) == (35, MODEL)
    assert [(one.pipeline, one.model_id) for one in info.hardware] == [("live-video-to-video", MODEL)]


OTHER = {"other": ModelTerms(price=Fraction(3 * WEI_PER_SECOND), warm=False)}


@pytest.mark.asyncio
async def test_each_model_has_its_price_and_every_answer_names_all() -> None:
    async with peer(other_models=OTHER) as at:
        first, second = await at.info(), await at.info(asked=Capabilities.FromString(capabilities("other")))
        general = await at.info(asked=None)
    assert (price(first), price(second)) == (WEI_PER_SECOND, 3 * WEI_PER_SECOND)
    for info in (first, second, general):
        models = info.capabilities.constraints.PerCapability[35].models
        assert {name: model.warm for name, model in models.items()} == {MODEL: True, "other": False}
    assert [one.constraint for one in general.capabilities_prices] == [MODEL, "other"]
    assert [one.model_id for one in general.hardware] == [MODEL, "other"]


@pytest.mark.asyncio
async def test_a_request_that_its_address_did_not_sign_is_refused() -> None:
    async with peer() as at:
        for wrong in (b"", bytes(65), at.sender.account.sign(b"something else")):
            with pytest.raises(
                GRPCError, match="Invalid orchestrator request: orchestrator req sig check failed"
            ):
                await at.info(signature=wrong)


async def fill(at: Peer) -> None:
    await at.start(await at.info())


@pytest.mark.asyncio
async def test_a_full_orchestrator_is_capped_unless_capacity_is_ignored() -> None:
    async with peer(capacity=1) as at:
        await fill(at)
        with pytest.raises(GRPCError) as refused:
            await at.info()
        assert refused.value.status is Status.UNKNOWN
        assert "OrchestratorCapped" in (refused.value.message or "")
        info = await at.info(ignore_capacity=True)
        assert info.capabilities.constraints.PerCapability[35].models[MODEL].capacityInUse == 1


@pytest.mark.asyncio
async def test_a_model_that_is_full_leaves_room_for_the_other() -> None:
    async with peer(capacity=1, other_models=OTHER) as at:
        await fill(at)
        info = await at.info(asked=Capabilities.FromString(capabilities("other")))
        models = info.capabilities.constraints.PerCapability[35].models
        assert (models[MODEL].capacity, models["other"].capacity) == (0, 1)


@pytest.mark.asyncio
async def test_a_ping_is_answered_with_the_signature_over_its_value() -> None:
    async with peer() as at:
        ping = UnaryUnaryMethod[PingPong, PingPong](at.channel, "/net.Orchestrator/Ping", PingPong, PingPong)
        pong = await ping(PingPong(value=b"value"))
        signer = recover(keccak(b"value"), pong.value)
        assert "0x" + signer.hex() == at.orchestrator.where.address.lower()


@pytest.mark.asyncio
async def test_off_chain_there_is_no_price_no_params_and_no_signature_to_check() -> None:
    async with peer(price_wei_per_second=None) as at:
        info = await at.info(signature=b"")
    assert not info.HasField("price_info")
    assert not info.HasField("ticket_params")
    assert info.auth_token.token
    assert info.address == bytes(20)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("offered", "spoken"), [(["h2"], "h2"), (["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1")]
)
async def test_http_has_the_same_port_and_those_who_could_speak_both(offered: list[str], spoken: str) -> None:
    async with peer() as at:
        assert at.orchestrator.where.url == f"https://{at.orchestrator.where.addr}"
        host, port = at.orchestrator.where.addr.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=unverified(offered))
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == spoken
        writer.write(b"GET /devnet/audit HTTP/1.1\r\nHost: a\r\n\r\n")
        first = await asyncio.wait_for(reader.readexactly(9), DEADLINE)
        writer.close()
        await writer.wait_closed()
    # HTTP/2 begins with a frame of settings (RFC 9113, 3.4)
    assert first == b"HTTP/1.1 " if spoken == "http/1.1" else first[3] == 4
