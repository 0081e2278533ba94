"""The orchestrator against the recorded answers of go-livepeer's."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message
from grpclib.client import UnaryUnaryMethod

from gateway.devnet.account import Account
from gateway.devnet.orchestrator.compatibility import compatible
from gateway.devnet.orchestrator.offer import TRANSCODING
from gateway.orchestrator.capabilities import LIVE_VIDEO_TO_VIDEO
from gateway.orchestrator.livepeer_pb2 import (
    Capabilities,
    OrchestratorInfo,
    OrchestratorRequest,
    PaymentResult,
    PingPong,
)
from tests.devnet.golden import GOLDEN, Recorded, own_headers, recorded
from tests.devnet.peer import ASKED, JOB, MODEL, Peer, base64_of, peer

RECORDED_SENDER = "0xB62d2C201c47317e8bA29A5C2deA00bD3b7391B7"
RECORDED_NONCE = 65
STRANGER = Account(bytes([9]) * 32)


@dataclass
class Scene:
    """An orchestrator with a running job, and what a further payment would be made of."""

    at: Peer
    info: OrchestratorInfo
    mid: str

    async def pay(self, payment: str, segment: str) -> Recorded:
        return await post(self.at, "/payment", payment, segment)

    @property
    def payment(self) -> str:
        return base64_of(self.at.sender.payment(self.info, 1))

    @property
    def segment(self) -> str:
        return base64_of(self.at.sender.segment(self.info, self.mid))


async def post(at: Peer, path: str, payment: str = "", segment: str = "", body: bytes = b"") -> Recorded:
    headers = {"Livepeer-Payment": payment, "Livepeer-Segment": segment}
    async with at.http.post(at.orchestrator.where.url + path, headers=headers, data=body) as answer:
        return Recorded(answer.status, own_headers(answer.headers), await answer.read())


async def accepted(scene: Scene) -> Recorded:
    return await scene.pay(scene.payment, scene.segment)


async def seen(scene: Scene) -> Recorded:
    again = base64_of(scene.at.sender.payment(scene.info, nonces=range(1, RECORDED_NONCE + 1)))
    await scene.pay(again, scene.segment)
    return await scene.pay(again, scene.segment)


async def mixed_params(scene: Scene) -> Recorded:
    other = await scene.at.info()
    mix = OrchestratorInfo()
    mix.CopyFrom(scene.info)
    mix.ticket_params.seed = other.ticket_params.seed
    return await scene.pay(base64_of(scene.at.sender.payment(mix, 1)), scene.segment)


async def mixed_price(scene: Scene) -> Recorded:
    mix = OrchestratorInfo()
    mix.CopyFrom(scene.info)
    mix.price_info.pricePerUnit += 1
    return await scene.pay(base64_of(scene.at.sender.payment(mix, 1)), scene.segment)


async def not_base64(scene: Scene) -> Recorded:
    return await scene.pay("%%%", scene.segment)


async def bad_signature(scene: Scene) -> Recorded:
    forged = scene.at.sender.segment(scene.info, scene.mid, signer=STRANGER)
    return await scene.pay(scene.payment, base64_of(forged))


async def bad_token(scene: Scene) -> Recorded:
    other = OrchestratorInfo()
    other.CopyFrom(scene.info)
    other.auth_token.token = bytes(32)
    return await scene.pay(scene.payment, base64_of(scene.at.sender.segment(other, scene.mid)))


async def bad_capability(scene: Scene) -> Recorded:
    asked = Capabilities()
    asked.CopyFrom(ASKED)
    asked.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models["another"].warm = False
    segment = scene.at.sender.segment(scene.info, scene.mid, asked=asked)
    return await scene.pay(scene.payment, base64_of(segment))


async def no_credentials(scene: Scene) -> Recorded:
    return await scene.pay(scene.payment, "")


async def no_payment(scene: Scene) -> Recorded:
    return await scene.pay("", scene.segment)


async def cut_json(scene: Scene) -> Recorded:
    return await post(scene.at, "/live-video-to-video", scene.payment, scene.segment, b'{"model_id": ')


async def start_seen(scene: Scene) -> Recorded:
    again = base64_of(scene.at.sender.payment(scene.info, nonces=range(1, RECORDED_NONCE + 1)))
    await scene.pay(again, scene.segment)
    return await post(scene.at, "/live-video-to-video", again, scene.segment, json.dumps(JOB).encode())


async def unknown_refresh(scene: Scene) -> Recorded:
    body = {"sender": scene.at.sender.account.address, "manifest_id": "unknown"}
    answer = await post(scene.at, "/refresh-payment", body=json.dumps(body).encode())
    assert answer.headers == {"content-type": "application/json"}
    return Recorded(answer.status, {}, answer.body)  # only status and body were recorded


SCENES: dict[str, Callable[[Scene], Awaitable[Recorded]]] = {
    "200-payment": accepted,
    "400-already-seen": seen,
    "400-mixed-params": mixed_params,
    "400-mixed-price": mixed_price,
    "402-not-base64": not_base64,
    "403-bad-sig": bad_signature,
    "403-bad-token": bad_token,
    "403-capability": bad_capability,
    "403-empty-creds": no_credentials,
    "403-empty-payment": no_payment,
    "job-400-json": cut_json,
    "job-503-model": start_seen,
    "refresh-409": unknown_refresh,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", SCENES)
async def test_an_answer_is_go_livepeers(name: str) -> None:
    known = read(name)
    async with peer() as at:
        info = await at.info()
        urls = await at.start(info)
        answer = await SCENES[name](Scene(at, info, urls["manifest_id"]))
        assert (answer.status, answer.headers) == (known.status, known.headers)
        if known.status != 200:
            said = known.body.decode().replace(RECORDED_SENDER, at.sender.account.address)
            assert answer.body.decode() == said


def read(name: str) -> Recorded:
    if name != "refresh-409":
        return recorded(f"orchestrator-errors/{name}.txt")
    head, _, body = (GOLDEN / f"orchestrator-errors/{name}.txt").read_bytes().partition(b"\n")
    return Recorded(int(head.split()[1]), {}, body)


@pytest.mark.asyncio
async def test_a_started_job_and_a_payment_are_answered_as_go_livepeer_answers_them() -> None:
    async with peer() as at:
        info = await at.info()
        payment, segment = base64_of(at.sender.payment(info, 2)), base64_of(at.sender.segment(info))
        start = await post(at, "/live-video-to-video", payment, segment, json.dumps(JOB).encode())
        known_head = recorded("http/live-video-to-video-1-response.head.txt")
        known = (GOLDEN / "http/live-video-to-video-1-response.body.json").read_bytes()
        assert (start.status, start.headers) == (known_head.status, known_head.headers)
        assert _without(start.body, at.orchestrator.where.url) == _without(known, "https://127.0.0.1:21120")
        mid = json.loads(start.body)["manifest_id"]
        segment = base64_of(at.sender.segment(info, mid))
        paid = await post(at, "/payment", base64_of(at.sender.payment(info, 1)), segment)
        known_head = recorded("http/payment-1-response.head.txt")
        assert (paid.status, paid.headers) == (known_head.status, known_head.headers)
        known = (GOLDEN / "http/payment-1-response.body.pb").read_bytes()
        assert _shape(_paid_info(paid.body)) == _shape(_paid_info(known))


def _without(body: bytes, url: str) -> bytes:
    mid = json.loads(body)["manifest_id"]
    return body.replace(mid.encode(), b"m" * len(mid)).replace(url.encode(), b"URL")


def _paid_info(body: bytes) -> OrchestratorInfo:
    return OrchestratorInfo.FromString(PaymentResult.FromString(body).info)


def _shape(message: Message) -> Any:
    """Which fields are there, and how long bytes of fixed length are."""
    shape = {}
    for field, value in message.ListFields():
        if field.name == "capabilities":
            shape[field.name] = _capabilities(value)
        elif field.type == field.TYPE_MESSAGE:
            shape[field.name] = _shape(value)
        elif field.name in {"recipient", "recipient_rand_hash", "address", "token", "session_id"}:
            shape[field.name] = len(value)
        else:
            shape[field.name] = "there"
    return shape


def _capabilities(stated: Capabilities) -> Any:
    """Without the capacity, which is not stated where a container is somebody else's."""
    plain = Capabilities()
    plain.CopyFrom(stated)
    for constraints in plain.constraints.PerCapability.values():
        for model in constraints.models.values():
            model.ClearField("capacity")
            model.ClearField("capacityInUse")
    return plain.SerializeToString(deterministic=True)


@pytest.mark.asyncio
async def test_the_recorded_request_gets_an_info_like_the_recorded_one() -> None:
    request = OrchestratorRequest.FromString((GOLDEN / "grpc/GetOrchestrator-request.pb").read_bytes())
    known = OrchestratorInfo.FromString((GOLDEN / "grpc/GetOrchestrator-response.pb").read_bytes())
    async with peer() as at:
        ask = UnaryUnaryMethod[OrchestratorRequest, OrchestratorInfo](
            at.channel, "/net.Orchestrator/GetOrchestrator", OrchestratorRequest, OrchestratorInfo
        )
        info = await ask(request)
    assert _shape(info) == _shape(known)


@pytest.mark.asyncio
async def test_a_ping_is_answered_with_a_signature_as_long_as_go_livepeers() -> None:
    request = PingPong.FromString((GOLDEN / "grpc/Ping-request.pb").read_bytes())
    known = PingPong.FromString((GOLDEN / "grpc/Ping-response.pb").read_bytes())
    async with peer() as at:
        ping = UnaryUnaryMethod[PingPong, PingPong](at.channel, "/net.Orchestrator/Ping", PingPong, PingPong)
        assert len((await ping(request)).value) == len(known.value)


def asked_by_go_livepeers_gateway(minimum: str = "") -> Capabilities:
    """The model beside all default capabilities, cold ones too."""
    bits = sum(1 << bit for bit in (*TRANSCODING, LIVE_VIDEO_TO_VIDEO))
    asked = Capabilities(bitstring=[bits], version="0.9.1")
    for capability in (*TRANSCODING, LIVE_VIDEO_TO_VIDEO):
        asked.capacities[capability] = 1
    asked.constraints.minVersion = minimum
    asked.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models[MODEL].warm = False
    return asked


@pytest.mark.asyncio
@pytest.mark.parametrize("warm", [True, False])
async def test_go_livepeers_gateway_finds_the_orchestrator(warm: bool) -> None:
    async with peer(warm=warm) as at:
        for minimum, found in (("", True), ("0.9.0", True), ("0.10.0", False)):
            asked = asked_by_go_livepeers_gateway(minimum)
            info = await at.info(asked=asked)
            assert compatible(asked, info.capabilities) is found
        assert info.capabilities.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models[MODEL].warm is warm


def test_the_recorded_orchestrator_offers_what_go_livepeers_gateway_asks_for() -> None:
    known = OrchestratorInfo.FromString((GOLDEN / "grpc/GetOrchestrator-response.pb").read_bytes())
    assert compatible(asked_by_go_livepeers_gateway(), known.capabilities)
