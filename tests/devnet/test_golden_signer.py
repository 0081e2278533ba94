"""The signer against the recorded answers of go-livepeer's."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from gateway.devnet.account import Account
from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.signer import SignerConfig, serve
from gateway.devnet.signer.state import SignerSession
from gateway.orchestrator import livepeer_pb2
from gateway.payments.ticket import recover
from tests.devnet.golden import GOLDEN, own_headers, recorded, recorded_json

KEY = bytes([4]) * 32
ACCOUNT = Account(KEY)
BLOCK_TIMES = {"signer": 12.0, "signer-errors": 1.0}
"""Seconds between the blocks of the chains that were recorded on."""
RECORDED_AT = 1_795_905_902 * 10**9
"""Unix nanoseconds: when signer-errors/ was recorded."""
MOMENT = 1_000_000

CALLS = [f"signer/0{number}-generate-live-payment" for number in range(2, 8)]
GOOD = ["signer-errors/200-null-state", "signer-errors/200-second-at-once"]
ERRORS = sorted(
    f"signer-errors/{path.name.removesuffix('-request.json')}"
    for path in (GOLDEN / "signer-errors").glob("4*-request.json")
)


def known_answer(name: str) -> dict[str, Any]:
    if name.startswith("signer/"):
        answer: dict[str, Any] = recorded_json(f"{name}-response.json")
        return answer
    parsed: dict[str, Any] = json.loads(recorded(f"{name}-response.txt").body)
    return parsed


def state_in(signed: dict[str, str]) -> SignerSession:
    return SignerSession.from_json(base64.b64decode(signed["State"]))


def request_of(name: str) -> bytes:
    """The recorded request; its state is signed again, by the signer under test."""
    raw = (GOLDEN / f"{name}-request.json").read_bytes()
    body = json.loads(raw)
    if not isinstance(body, dict) or "state" not in body or name.endswith("bad-sig"):
        return raw
    state = base64.b64decode(body["state"]["State"])
    body["state"]["Sig"] = base64.b64encode(ACCOUNT.sign(state)).decode()
    return json.dumps(body).encode()


def moment_of(name: str) -> int:
    """When it was answered, in unix nanoseconds."""
    if "state" in known_answer(name):
        at = state_in(known_answer(name)["state"]).last_update
    else:
        body = json.loads((GOLDEN / f"{name}-request.json").read_bytes())
        given = body.get("state") if isinstance(body, dict) else None
        at = state_in(given).last_update if given else RECORDED_AT
        at = None if at is None else at + MOMENT
    assert at is not None
    return at


@asynccontextmanager
async def asked(name: str) -> AsyncIterator[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of the answer to the recorded request at its time."""
    at = moment_of(name)
    clock = ChainClock(block_time=BLOCK_TIMES[name.partition("/")[0]], now_ns=lambda: at)
    signer = await serve(SignerConfig(key=KEY, clock=clock))
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{signer.url}/generate-live-payment", data=request_of(name)) as answer,
        ):
            yield answer.status, own_headers(answer.headers), await answer.read()
    finally:
        await signer.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ERRORS)
async def test_a_refusal_is_go_livepeers_byte_for_byte(name: str) -> None:
    known = recorded(f"{name}-response.txt")
    async with asked(name) as (status, headers, body):
        assert (status, headers, body) == (known.status, known.headers, known.body)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", [*CALLS, *GOOD])
async def test_a_payment_is_go_livepeers_but_for_keys_and_random_ids(name: str) -> None:
    known = known_answer(name)
    async with asked(name) as (status, headers, body):
        answer = json.loads(body)
        assert (status, headers) == (200, {"content-type": "application/json"})
        assert body == json.dumps(answer, separators=(",", ":")).encode() + b"\n"
        assert list(answer) == list(known)
        assert _without_keys(answer) == _without_keys(known)
        assert recover(base64.b64decode(answer["state"]["State"]), base64.b64decode(answer["state"]["Sig"]))


@pytest.mark.parametrize("name", [*CALLS, *GOOD])
def test_a_state_is_written_as_go_livepeer_writes_it(name: str) -> None:
    raw = base64.b64decode(known_answer(name)["state"]["State"])
    assert SignerSession.from_json(raw).to_json() == raw


@pytest.mark.asyncio
async def test_the_identity_is_answered_as_go_livepeer_answers_it() -> None:
    known = recorded_json("signer/01-sign-orchestrator-info-response.json")
    signer = await serve(SignerConfig(key=KEY))
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{signer.url}/sign-orchestrator-info") as answer,
        ):
            body = await answer.read()
    finally:
        await signer.stop()
    assert {name: len(value) for name, value in json.loads(body).items()} == {
        name: len(value) for name, value in known.items()
    }
    assert len(body) == len(
        (GOLDEN / "signer/01-sign-orchestrator-info-response.json").read_bytes().rstrip()
    ) + len("\n")


def _without_keys(answer: dict[str, Any]) -> Any:
    """What the key, a random state id and a manifest id of the signer's own do not change."""
    payment = livepeer_pb2.Payment.FromString(base64.b64decode(answer["payment"]))
    payment.sender = b""
    for ticket in payment.ticket_sender_params:
        ticket.sig = bytes(len(ticket.sig))
    credentials = livepeer_pb2.SegData.FromString(base64.b64decode(answer["segCreds"]))
    credentials.sig = bytes(len(credentials.sig))
    state = state_in(answer["state"])
    if state.sequence == 0:
        credentials.manifestId = bytes(len(credentials.manifestId))
        state = replace(state, state_id="x" * len(state.state_id))
    return payment, credentials, state
