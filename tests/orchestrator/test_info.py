"""OrchestratorInfo against known answers, and everything that it refuses to read."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.capabilities import capabilities, discovery_filter
from gateway.orchestrator.info import OrchestratorInfo
from harness.waiting import SLACK

DATA = Path(__file__).parents[1] / "data"
VECTORS = json.loads((DATA / "protobuf.json").read_text())
PRICES = json.loads((DATA / "prices.json").read_text())
INFOS = [bytes.fromhex(v["hex"]) for v in VECTORS if v["message"] == "OrchestratorInfo"]
KNOWN, WITH_UNKNOWN_FIELD = INFOS


def message(**fields: object) -> livepeer_pb2.OrchestratorInfo:
    return livepeer_pb2.OrchestratorInfo(transcoder="https://o.example:8935/", **fields)  # type: ignore[arg-type]


def parsed(**fields: object) -> OrchestratorInfo:
    return OrchestratorInfo.parse(message(**fields).SerializeToString())


def test_the_known_message_reads_as_its_fields_say() -> None:
    info = OrchestratorInfo.parse(KNOWN)
    assert info.url == "https://127.0.0.1:8935"
    assert info.address.lower() == "0x00112233445566778899aabbccddeeff00112233"
    assert info.price == 10**15
    assert info.session_id == "session-7"
    assert info.token_expires_at == 1790000000
    assert info.expiration_block == 0x0165EC15
    face, win = 0x016345785D8A0000, 0x028F5C28F5C28F5C28F5C28F5C28F5C28F5C28F5C28F5C28F5C320CEA3880000
    assert info.ticket_ev == Fraction(face * win, 2**256 - 1)
    assert info.ticket_seconds == info.ticket_ev / 10**15
    assert info.offers("comfystream")
    assert info.warm("comfystream")
    assert not info.offers("another")
    assert not info.warm("another")


def test_it_names_the_models_that_it_lists_and_a_stranger_may_ask_for_any() -> None:
    info = OrchestratorInfo.parse(KNOWN)
    assert info.names("comfystream")
    assert info.some_models() == ("comfystream",)
    for model in ("", "another", "comfy", "comfystrea", "x" * 200, "\udc80"):
        assert not info.names(model)
    assert not parsed().names("comfystream"), "one that lists none names none"
    many = message()
    models = many.capabilities.constraints.PerCapability[35].models
    for number in range(100):
        models[f"model-{number}"].SetInParent()
    models["a\nb"].SetInParent()
    info = OrchestratorInfo.parse(many.SerializeToString())
    assert info.names("model-99")
    assert len(info.some_models()) == 32


def test_the_address_carries_its_checksum() -> None:
    lower = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
    assert parsed(address=bytes.fromhex(lower[2:])).address == "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def test_the_recipient_is_what_its_tickets_pay_and_by_default_the_address() -> None:
    hot, cold = bytes([1]) * 20, bytes([2]) * 20
    assert parsed(address=hot).recipient == "0x" + hot.hex()
    params = livepeer_pb2.TicketParams(recipient=cold, recipient_rand_hash=bytes(32))
    paid = parsed(address=hot, ticket_params=params)
    assert (paid.address, paid.recipient) == ("0x" + hot.hex(), "0x" + cold.hex())


def test_an_address_of_zeros_is_none_as_orchestrators_off_chain_send_it() -> None:
    assert parsed(address=bytes(20)).address == ""


def test_unknown_fields_survive_because_the_bytes_are_kept() -> None:
    assert OrchestratorInfo.parse(WITH_UNKNOWN_FIELD).raw == WITH_UNKNOWN_FIELD
    result = livepeer_pb2.PaymentResult(info=WITH_UNKNOWN_FIELD)
    assert livepeer_pb2.PaymentResult.FromString(result.SerializeToString()).info == WITH_UNKNOWN_FIELD


def test_the_info_inside_the_known_payment_result_is_the_known_info() -> None:
    (known,) = (bytes.fromhex(v["hex"]) for v in VECTORS if v["message"] == "PaymentResult")
    assert OrchestratorInfo.parse(livepeer_pb2.PaymentResult.FromString(known).info).raw == KNOWN


@pytest.mark.parametrize("vector", PRICES, ids=lambda vector: vector["wei_per_second"])
def test_prices_are_the_known_wei_per_second(vector: dict[str, object]) -> None:
    price = livepeer_pb2.PriceInfo(
        pricePerUnit=vector["price_per_unit"],  # type: ignore[arg-type]
        pixelsPerUnit=vector["pixels_per_unit"],  # type: ignore[arg-type]
    )
    assert parsed(price_info=price).price == Fraction(str(vector["wei_per_second"]))


def test_an_off_chain_orchestrator_has_no_price_no_tickets_and_no_address() -> None:
    info = parsed()
    assert (info.price, info.ticket_ev, info.ticket_seconds, info.expiration_block) == (None,) * 4
    assert (info.address, info.session_id, info.token_expires_at) == ("", "", None)
    assert info.url == "https://o.example:8935"


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (b"\xff\xff garbage", "not an OrchestratorInfo"),
        (b"", "service URI"),
        (livepeer_pb2.OrchestratorInfo(transcoder="ftp://o.example").SerializeToString(), "service URI"),
        (livepeer_pb2.OrchestratorInfo(transcoder="https://").SerializeToString(), "service URI"),
        (message(address=b"\1" * 19).SerializeToString(), "19 bytes"),
        (message(price_info=livepeer_pb2.PriceInfo(pricePerUnit=1)).SerializeToString(), "not a price"),
        (
            message(price_info=livepeer_pb2.PriceInfo(pricePerUnit=-1, pixelsPerUnit=1)).SerializeToString(),
            "not a price",
        ),
    ],
)
def test_what_cannot_be_worked_with_is_refused_with_a_sentence(raw: bytes, because: str) -> None:
    with pytest.raises(ValueError, match=because):
        OrchestratorInfo.parse(raw)


NUMBERS = {"face_value": 32, "win_prob": 32, "seed": 32, "expiration_block": 32}
SIZES = {"recipient": 20, "recipient_rand_hash": 32}


@given(st.data())
def test_numbers_beyond_what_a_contract_holds_are_refused_before_they_are_looked_at(
    data: st.DataObject,
) -> None:
    given_bytes = {
        name: data.draw(st.just(b"\1" * size) | st.integers(0, 3000).map(lambda n: b"\xff" * n), label=name)
        for name, size in {**NUMBERS, **SIZES}.items()
    }
    fits = all(len(given_bytes[name]) <= size for name, size in NUMBERS.items())
    fits = fits and all(len(given_bytes[name]) == size for name, size in SIZES.items())
    price = livepeer_pb2.PriceInfo(pricePerUnit=1, pixelsPerUnit=1)
    try:
        info = parsed(price_info=price, ticket_params=livepeer_pb2.TicketParams(**given_bytes))  # type: ignore[arg-type]
    except ValueError as error:
        assert not fits
        assert "ticket params have a" in str(error)
        return
    assert fits
    assert info.ticket_seconds is not None
    float(info.ticket_seconds)


@pytest.mark.parametrize(
    "uri",
    [
        "https://o.example/" + "a" * 2048,
        *("https://o.example/\n", "https://o.example/ a", "https://o.example/\x7f"),
        *("https://u:p@o.example/", "https://o.example/?key=1", "https://o.example/#a"),
    ],
)
def test_a_service_uri_is_plain_and_short(uri: str) -> None:
    with pytest.raises(ValueError, match=r"2048 characters|not a plain http\(s\) URL"):
        OrchestratorInfo.parse(livepeer_pb2.OrchestratorInfo(transcoder=uri).SerializeToString())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_info_or_a_value_error(raw: bytes) -> None:
    try:
        info = OrchestratorInfo.parse(raw)
    except ValueError:
        return
    assert info.raw == raw


def test_another_capability_is_not_live_video() -> None:
    transcoding = livepeer_pb2.Capabilities(bitstring=[0b1011], capacities={1: 10})
    assert not parsed(capabilities=transcoding).offers("comfystream")


def test_a_capability_without_listed_models_is_left_to_the_job_start_to_refuse() -> None:
    unconstrained = livepeer_pb2.Capabilities(bitstring=[1 << 35])
    assert parsed(capabilities=unconstrained).offers("anything")
    assert not parsed(capabilities=unconstrained).warm("anything")


def test_a_model_may_be_offered_cold() -> None:
    offered = livepeer_pb2.Capabilities(capacities={35: 1})
    offered.constraints.PerCapability[35].models["m"].warm = False
    info = parsed(capabilities=offered)
    assert info.offers("m")
    assert not info.warm("m")


def test_the_capabilities_equal_the_known_request_without_asking_for_a_warm_model() -> None:
    request = next(v for v in VECTORS if v["message"] == "OrchestratorRequest")
    known = livepeer_pb2.OrchestratorRequest.FromString(bytes.fromhex(request["hex"])).capabilities
    known.constraints.PerCapability[35].models["comfystream"].ClearField("warm")
    assert capabilities("comfystream") == known.SerializeToString(deterministic=True)
    assert bytes.fromhex("0a068080808080011a04082310012205302e392e31") in capabilities("comfystream")


def test_discovery_is_asked_for_the_pipeline_and_the_model() -> None:
    assert discovery_filter("comfystream") == "live-video-to-video/comfystream"


def test_thousands_of_models_cost_no_more_than_their_bytes() -> None:
    many = message(capabilities=livepeer_pb2.Capabilities(capacities={35: 1}))
    models = many.capabilities.constraints.PerCapability[35].models
    for number in range(6_000):
        models[f"model {number}"].warm = number % 2 == 1
    raw = many.SerializeToString()
    before = time.process_time()
    info = OrchestratorInfo.parse(raw)
    assert info.offers("model 4000")
    assert not info.warm("model 4000")
    assert info.warm("model 4001")
    assert not info.offers("model 6000")
    assert time.process_time() - before < 0.05 * SLACK
    assert info.raw is raw
    assert info.message.ByteSize() < 1_000
