"""JSON Schemas (2020-12) of the larger answers, for /openapi.json."""

from __future__ import annotations

from typing import Any

from gateway.outputs.output import OutputState
from gateway.reason import EndReason
from gateway.stream.stream import State

Schema = dict[str, Any]


def _object(required: str = "", /, **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": required.split()} if required else schema


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
TIME: Schema = {"type": "string", "format": "date-time"}
WEI: Schema = {"type": "string", "description": "wei, in decimal; n/d where it is not whole"}

RUNNER_APP: dict[str, Schema] = {"app": TEXT, "version": TEXT, "gpu": TEXT}
ORCHESTRATOR = _or_null(
    _object(
        "url kind address price_wei_per_second",
        url=TEXT,
        kind=TEXT,
        address=TEXT,
        price_wei_per_second=_or_null(WEI),
        manifest_id=TEXT,
        **RUNNER_APP,
    )
)
PAYMENTS = _or_null(
    _object(
        "accepted credited_wei owed_wei overpaid_wei",
        accepted=WHOLE,
        tickets=WHOLE,
        credited_wei=WEI,
        owed_wei=WEI,
        overpaid_wei=WEI,
        last_accepted_age_s=_or_null(NUMBER),
        next_due_in_s=_or_null(NUMBER),
        credit_left_s=_or_null(NUMBER),
        state=TEXT,
        alarms=WHOLE,
    )
)
AUDIO = _object(codec=TEXT, packets=WHOLE, packets_lost=WHOLE, packets_dropped=WHOLE, live=FLAG)
CREATED: Schema = _object(
    "name whip_url whep_url status_url events_url publish_token play_token expires_at",
    name=TEXT,
    customer=_or_null(TEXT),
    whip_url=TEXT,
    whep_url=TEXT,
    status_url=TEXT,
    events_url=TEXT,
    publish_token=TEXT,
    play_token=TEXT,
    expires_at=TIME,
)
STATUS: Schema = _object(
    "gateway_status",
    gateway_status=_object(
        "state request_id stream whep_url started_at elapsed_s orchestrator candidates swaps resumed "
        "payments ingest output error ended",
        state={"type": "string", "enum": [str(state) for state in State]},
        request_id=TEXT,
        stream=TEXT,
        node=TEXT,
        whep_url=TEXT,
        started_at=TIME,
        elapsed_s=NUMBER,
        usd=_or_null(
            _object(
                "eth_usd credited owed",
                eth_usd=TEXT,
                credited=TEXT,
                owed=TEXT,
                price_per_hour=_or_null(TEXT),
            )
        ),
        first_frame_s=_or_null(NUMBER),
        orchestrator=ORCHESTRATOR,
        candidates={
            "type": "array",
            "items": _object(
                "url verdict",
                url=TEXT,
                price_wei_per_second=_or_null(WEI),
                verdict=TEXT,
                detail=_or_null(TEXT),
            ),
        },
        swaps=WHOLE,
        resumed=WHOLE,
        standby=_or_null(
            _object(
                "state",
                state={"type": "string", "enum": ["none", "starting", "ready"]},
                detail=TEXT,
                orchestrator=ORCHESTRATOR,
                payments=PAYMENTS,
            )
        ),
        payments=PAYMENTS,
        ingest=_or_null(
            _object(
                "codec rejected",
                packets_lost=WHOLE,
                segments_dropped=WHOLE,
                gop_note=_or_null(TEXT),
                layer=_or_null(TEXT),
                rejected={"type": "array", "items": _object("kind reason", kind=TEXT, reason=TEXT)},
                audio=_or_null(AUDIO),
            )
        ),
        output=_object("viewers", fps=_or_null(NUMBER), segments=WHOLE, gaps=WHOLE, viewers=WHOLE),
        outputs={
            "type": "array",
            "items": _object(
                "id url source state bytes dropped restarts error",
                id=TEXT,
                url=TEXT,
                source=FLAG,
                state={"type": "string", "enum": [str(state) for state in OutputState]},
                bytes=WHOLE,
                dropped=WHOLE,
                restarts=WHOLE,
                error=TEXT,
            ),
        },
        error=_or_null(_object("error_message error_time", error_message=TEXT, error_time=WHOLE)),
        ended=_or_null(
            _object(
                "reason at",
                reason={"type": "string", "enum": [str(reason) for reason in EndReason]},
                detail=TEXT,
                at=TIME,
            )
        ),
    ),
)
READINESS: Schema = _object(
    "status",
    status=TEXT,
    reasons={"type": "array", "items": TEXT},
    notes={"type": "array", "items": TEXT},
)


def _list(row: Schema) -> Schema:
    return {"type": "array", "items": row}


def _candidates(**properties: Schema) -> Schema:
    """Rows with a verdict each."""
    row = _object("url verdict", url=TEXT, verdict=TEXT, price_wei_per_second=_or_null(WEI), **properties)
    return _list(row)


SUSPENSION = _or_null(_object("reason seconds_left", reason=TEXT, seconds_left=NUMBER))
TRUST = _or_null(
    _object(
        "paid_wei delivered_s proven",
        paid_wei=WEI,
        delivered_s=NUMBER,
        starts=WHOLE,
        empty_starts=WHOLE,
        proven=FLAG,
        starts_at_once=_or_null(WHOLE),
    )
)
LISTS = _list(_object("name", name=TEXT, listed=WHOLE, age_s=_or_null(NUMBER), error=_or_null(TEXT)))
ORCHESTRATORS: Schema = _object(
    "eth_usd",
    model=TEXT,
    max_price_wei_per_second=_or_null(WEI),
    orchestrators=_candidates(address=_or_null(TEXT), trust=TRUST),
    runners=_candidates(
        **RUNNER_APP,
        room=_or_null(WHOLE),
        detail=_or_null(TEXT),
        address=TEXT,
        ticket_wei=_or_null(WEI),
        set_aside=SUSPENSION,
        trust=TRUST,
    ),
    runner_sources=LISTS,
    comfystreams=_candidates(kind=TEXT, detail=_or_null(TEXT), suspended=SUSPENSION),
    eth_usd=_or_null(TEXT),
    nodes={"type": "object", "additionalProperties": _or_null({"type": "object"})},
)
