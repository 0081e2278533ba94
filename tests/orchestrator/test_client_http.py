"""Job starts and payments against a real HTTPS server, one test for each way they end."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gateway.aio.inside import LOOPBACK, PUBLIC, Reach
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.calls import MAX_BODY
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.credentials import unsigned_credentials
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobRequest
from harness.pieces import answering_in_pieces
from harness.waiting import DEADLINE

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]
REQUEST = JobRequest(model_id="comfystream", gateway_request_id="r1", stream_id="cam", params={"prompt": {}})


def job(**changes: Any) -> dict[str, Any]:
    answer = {
        "publish_url": "/ai/trickle/m1",
        "subscribe_url": "/ai/trickle/m1-out",
        "control_url": "/ai/trickle/m1-control",
        "events_url": "/ai/trickle/m1-events",
        "manifest_id": "m1",
    }
    return {key: value for key, value in (answer | changes).items() if value is not None}


@pytest.fixture
def info(http_orchestrator: Any, orchestrator_info: InfoMaker) -> OrchestratorInfo:
    return OrchestratorInfo.parse(orchestrator_info(f"{http_orchestrator.url}/").SerializeToString(), HERE)


Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "start": lambda client, info, timeout=DEADLINE: client.start_job(
        info, payment="cGF5", seg_creds="c2Vn", body=REQUEST, timeout=timeout
    ),
    "payment": lambda client, info, timeout=DEADLINE: client.deliver_payment(
        info, payment="cGF5", seg_creds="c2Vn", timeout=timeout
    ),
    "refresh": lambda client, info, timeout=DEADLINE: client.refresh_payment(
        info, sender="0xab", manifest_id="m1", timeout=timeout
    ),
}
HERE = Reach("127.0.0.1", LOOPBACK)
"""That of an orchestrator on this machine."""
SHORT = 0.5
"""Seconds that a call waits for an answer that never comes."""
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@pytest.mark.asyncio
async def test_a_job_starts_with_the_signers_headers_and_its_urls_are_completed(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    http_orchestrator.answer = web.json_response(job())
    urls = await CALLS["start"](client, info)
    assert urls.manifest_id == "m1"
    assert urls.publish_url == f"{http_orchestrator.url}/ai/trickle/m1"
    assert urls.channels == tuple(
        f"{http_orchestrator.url}/ai/trickle/m1{suffix}" for suffix in ("", "-out", "-control", "-events")
    )
    ((path, headers, body),) = http_orchestrator.calls
    assert path == "/live-video-to-video"
    assert (headers["Livepeer-Payment"], headers["Livepeer-Segment"]) == ("cGF5", "c2Vn")
    assert json.loads(body) == {
        "model_id": "comfystream",
        "params": {"prompt": {}},
        "gateway_request_id": "r1",
        "stream_id": "cam",
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "changes",
    [
        {"manifest_id": None},
        {"manifest_id": ""},
        {"manifest_id": 7},
        {"publish_url": None},
        {"subscribe_url": ""},
        {"control_url": None},
        {"publish_url": "ftp://127.0.0.1/m"},
        {"publish_url": "https://10.0.0.1/m"},
        {"subscribe_url": "http://169.254.169.254/latest"},
        {"events_url": "https://[fd00::1]/m"},
        {"control_url": "https://no-such-host.invalid/m"},
    ],
    ids=str,
)
async def test_a_job_without_its_id_or_with_urls_that_lead_inside_is_refused(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, changes: dict[str, Any]
) -> None:
    http_orchestrator.answer = web.json_response(job(**changes))
    with pytest.raises(BadAnswer):
        await CALLS["start"](client, info)


@pytest.mark.asyncio
async def test_ticket_params_with_a_service_uri_that_leads_inside_are_refused(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, orchestrator_info: InfoMaker
) -> None:
    raw = orchestrator_info("http://169.254.169.254").SerializeToString()
    answers = {
        "payment": web.Response(body=livepeer_pb2.PaymentResult(info=raw).SerializeToString()),
        "refresh": web.json_response({"payment_params": base64.b64encode(raw).decode()}),
    }
    for name, answer in answers.items():
        http_orchestrator.answer = answer
        with pytest.raises(BadAnswer, match="private network"):
            await CALLS[name](client, info)


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"\xff\xfe", b'"text"'])
@every_call
async def test_a_200_with_garbage_is_a_bad_answer(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call, body: bytes
) -> None:
    http_orchestrator.answer = web.Response(body=body)
    with pytest.raises(BadAnswer):
        await call(client, info)


@pytest.mark.asyncio
async def test_a_job_needs_no_events_channel(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    http_orchestrator.answer = web.json_response(job(events_url=None))
    assert (await CALLS["start"](client, info)).events_url == ""


@pytest.mark.asyncio
async def test_trickle_may_be_served_by_name_on_the_same_machine(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    http_orchestrator.answer = web.json_response(job(publish_url="http://localhost:9/m1"))
    assert (await CALLS["start"](client, info)).publish_url == "http://localhost:9/m1"


@pytest.mark.asyncio
async def test_a_payments_answer_is_kept_byte_for_byte(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, orchestrator_info: InfoMaker
) -> None:
    next_raw = orchestrator_info(price=2000).SerializeToString() + bytes.fromhex("c23e0568656c6c6f")
    result = livepeer_pb2.PaymentResult(info=next_raw)
    http_orchestrator.answer = web.Response(body=result.SerializeToString())
    answer = await CALLS["payment"](client, info)
    assert answer.raw == next_raw
    assert answer.price == 2000
    ((path, headers, body),) = http_orchestrator.calls
    assert (path, body) == ("/payment", b"")
    assert (headers["Livepeer-Payment"], headers["Livepeer-Segment"]) == ("cGF5", "c2Vn")


@pytest.mark.asyncio
async def test_a_payment_of_a_hundred_tickets_fits(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    http_orchestrator.answer = web.Response(
        body=livepeer_pb2.PaymentResult(info=info.raw).SerializeToString()
    )
    payment = base64.b64encode(bytes(8_300)).decode()
    await client.deliver_payment(info, payment=payment, seg_creds="c2Vn")
    assert http_orchestrator.calls[0][1]["Livepeer-Payment"] == payment


@pytest.mark.asyncio
async def test_a_refresh_gives_the_params_of_the_running_session(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    http_orchestrator.answer = web.json_response(
        {"payment_params": base64.b64encode(info.raw).decode(), "manifest_id": "m1"}
    )
    assert (await CALLS["refresh"](client, info)).raw == info.raw
    ((path, _, body),) = http_orchestrator.calls
    assert (path, json.loads(body)) == ("/refresh-payment", {"sender": "0xab", "manifest_id": "m1"})


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 400, 401, 402, 403, 404, 409, 429])
@every_call
async def test_a_refusal_carries_its_status_and_words(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call, status: int
) -> None:
    http_orchestrator.answer = web.Response(
        status=status, text="insufficient\nbalance", headers={"Location": "/elsewhere"}
    )
    with pytest.raises(Refused) as caught:
        await call(client, info)
    assert caught.value.status == status
    assert caught.value.detail == f"HTTP {status}", "its words are not for everybody"
    assert caught.value.full == f"HTTP {status}: insufficient balance"
    assert len(http_orchestrator.calls) == 1, "a redirect is not followed"


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@every_call
async def test_a_server_error_may_have_been_processed(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call, status: int
) -> None:
    http_orchestrator.answer = web.Response(status=status)
    at_capacity = call is CALLS["start"] and status == 503
    with pytest.raises(NoCapacity if at_capacity else UnknownOutcome, match=f"HTTP {status}"):
        await call(client, info)


@pytest.mark.asyncio
async def test_a_worker_that_refused_the_start_is_named_and_what_it_said_is_not_for_everybody(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    words = "live-video-to-video container returned 400: Error during model execution."
    http_orchestrator.answer = web.Response(status=500, text=words)
    with pytest.raises(UnknownOutcome) as caught:
        await CALLS["start"](client, info)
    assert caught.value.detail == "its worker refused the start (400): mostly it cannot use the parameters"
    assert caught.value.said == words


@pytest.mark.asyncio
async def test_nonces_that_were_seen_are_told_from_other_refusals(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    http_orchestrator.answer = web.Response(status=400, text="invalid ticket senderNonce: already seen")
    with pytest.raises(AlreadySeen):
        await CALLS["payment"](client, info)
    http_orchestrator.answer = web.Response(status=400, text="invalid ticket senderNonce: too many values")
    with pytest.raises(Refused):
        await CALLS["payment"](client, info)


@pytest.mark.asyncio
@every_call
async def test_no_answer_in_time_is_an_unknown_outcome(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call
) -> None:
    release = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    http_orchestrator.answer = hang
    with pytest.raises(UnknownOutcome, match=r"no answer within 0\.5 s"):
        await call(client, info, SHORT)
    release.set()


@pytest.mark.asyncio
@every_call
async def test_a_reset_after_sending_is_an_unknown_outcome(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call
) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    http_orchestrator.answer = hang_up
    with pytest.raises(UnknownOutcome, match="connection was lost"):
        await call(client, info)


@pytest.mark.asyncio
@every_call
async def test_a_refused_connection_means_that_nothing_was_sent(
    client: OrchestratorClient, orchestrator_info: InfoMaker, call: Call
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    info = OrchestratorInfo.parse(orchestrator_info(f"https://127.0.0.1:{port}").SerializeToString(), HERE)
    with pytest.raises(Unreachable):
        await call(client, info)


@pytest.mark.asyncio
@every_call
async def test_a_peer_that_never_shakes_hands_got_nothing(
    client: OrchestratorClient, orchestrator_info: InfoMaker, call: Call
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        info = OrchestratorInfo.parse(orchestrator_info(url).SerializeToString(), HERE)
        with pytest.raises(Unreachable):
            await call(client, info, SHORT)


@pytest.mark.asyncio
async def test_an_answer_that_comes_in_pieces_is_read_to_its_end(
    client: OrchestratorClient, orchestrator_info: InfoMaker, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with answering_in_pieces(json.dumps(job(more="x" * 4000)).encode(), tls=tls()) as url:
        info = OrchestratorInfo.parse(orchestrator_info(url).SerializeToString(), HERE)
        assert (await CALLS["start"](client, info)).manifest_id == "m1"


@pytest.mark.asyncio
@every_call
async def test_an_endless_answer_is_cut_off(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call
) -> None:
    http_orchestrator.answer = web.Response(body=b"x" * (MAX_BODY + 1))
    with pytest.raises(BadAnswer, match="over the limit"):
        await call(client, info)


@pytest.mark.asyncio
async def test_a_certificate_is_checked_where_the_operator_asks_for_it(
    http_orchestrator: Any, info: OrchestratorInfo
) -> None:
    strict = OrchestratorClient(address="", signature=b"", capabilities=b"", verify_tls=True)
    with pytest.raises(Unreachable, match="certificate"):
        await CALLS["payment"](strict, info)
    assert http_orchestrator.calls == []
    await strict.close()


def test_every_error_is_an_orchestrator_error_with_words() -> None:
    for kind in (AlreadySeen, BadAnswer, NoCapacity, UnknownOutcome, Unreachable):
        assert issubclass(kind, OrchestratorError)
        assert kind("words").detail == "words"


def test_off_chain_credentials_hold_just_the_auth_token(orchestrator_info: InfoMaker) -> None:
    info = OrchestratorInfo.parse(orchestrator_info(session="s9").SerializeToString())
    segment = livepeer_pb2.SegData.FromString(base64.b64decode(unsigned_credentials(info)))
    assert segment == livepeer_pb2.SegData(auth_token=info.message.auth_token)


@pytest.mark.asyncio
@every_call
async def test_a_service_uri_that_leads_inside_is_not_called_for_who_is_outside(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call
) -> None:
    with pytest.raises(Unreachable, match="in a private network"):
        await call(client, replace(info, reach=PUBLIC))
    assert not http_orchestrator.calls


@pytest.mark.asyncio
@every_call
async def test_a_compressed_answer_is_a_bad_one(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call
) -> None:
    http_orchestrator.answer = web.Response(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b")
    with pytest.raises(BadAnswer, match="compressed"):
        await call(client, info)


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"a":' * 100_000, b"[" + b"[]," * 300_000 + b"0]"])
@pytest.mark.parametrize("call", [CALLS["start"], CALLS["refresh"]], ids=["start", "refresh"])
async def test_an_answer_that_is_deep_or_of_many_values_is_a_bad_one(
    client: OrchestratorClient, http_orchestrator: Any, info: OrchestratorInfo, call: Call, body: bytes
) -> None:
    http_orchestrator.answer = web.Response(body=body)
    with pytest.raises(BadAnswer):
        await call(client, info)
