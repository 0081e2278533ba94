"""Answers of orchestrators in protobuf."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError

from benchmarks.fuzz.target import Target
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.grpc import MAX_MESSAGE
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.ticket_limits import TicketLimits

VECTORS = Path(__file__).parents[3] / "tests" / "data" / "protobuf.json"


def check(data: bytes) -> None:
    with suppress(DecodeError):
        livepeer_pb2.PaymentResult.FromString(data)
    with suppress(ValueError):
        info = OrchestratorInfo.parse(data)
        for model in ("comfystream", ""):
            info.offers(model)
            info.warm(model)
        _ = info.address, info.recipient, info.ticket_seconds, info.expiration_block, info.token_expires_at
        if info.has_ticket_params and info.price:
            TicketLimits().refusal(info, info.price)
        assert info.message.ByteSize() <= len(data)


PROTOBUF = Target(
    "protobuf",
    check,
    limit=MAX_MESSAGE,
    seeds=[bytes.fromhex(one["hex"]) for one in json.loads(VECTORS.read_text())],
    words=[
        *(b"\x0a\x16https://127.0.0.1:8935", b"\x12\x00", b"\x0a\x02\x08\x23"),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
