"""The events of one stream: what happened to it, with the figures that an operator's programs need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import money
from gateway.payments.status import PaymentStatus
from gateway.reason import Ended
from gateway.stream.seam import Json, OrchestratorRef, PublishRequest
from gateway.telemetry.events import EventHub, EventType, StreamKey

WARN_AT = 0.8
"""The part of a stream's time limit after which `limit.near` is emitted."""


def stream_key(request: PublishRequest) -> StreamKey:
    return StreamKey(
        request.name, request.stream_id, request.request_id, request.publisher, request.customer.name
    )


class StreamEvents:
    """Emits the events of the stream of `request`."""

    def __init__(self, hub: EventHub, request: PublishRequest) -> None:
        self._hub = hub
        self._key = stream_key(request)
        self._pipeline = request.model
        self._served_by = ""
        self._swaps = 0

    def created(self) -> None:
        self._emit(EventType.STREAM_CREATED, {"pipeline": self._pipeline})

    def live(self, orchestrator: OrchestratorRef | None, swaps: int, seconds: float, failure: str) -> None:
        """Another job is the active one, after so many swaps; `failure` is why the last one is not."""
        before, self._served_by = self._served_by, "" if orchestrator is None else orchestrator.url
        data: Json = {"orchestrator": where(orchestrator), "elapsed_s": round(seconds, 3)}
        if swaps > self._swaps:
            self._swaps = swaps
            swapped = {"from_url": before, "swaps": swaps, "detail": failure}
            self._emit(EventType.STREAM_SWAPPED, {**data, **swapped})
        else:
            self._emit(EventType.STREAM_LIVE, data)

    def standby(self, state: str, detail: str, orchestrator: OrchestratorRef | None) -> None:
        """The job that stands by has pictures (`ready`), or is over (`none`)."""
        data = {"state": state, "detail": detail, "orchestrator": where(orchestrator)}
        self._emit(EventType.STREAM_STANDBY, data)

    def limit_near(self, limit: str, used: str, most: str, unit: str) -> None:
        self._emit(EventType.LIMIT_NEAR, {"limit": limit, "used": used, "most": most, "unit": unit})

    def ended(self, ended: Ended, seconds: float, swaps: int, payments: PaymentStatus | None) -> None:
        data: Json = {
            "reason": str(ended.reason),
            "detail": ended.detail,
            "elapsed_s": round(seconds, 3),
            "swaps": swaps,
            "credited_wei": "0" if payments is None else money.whole_wei(payments.credited),
            "owed_wei": "0" if payments is None else money.whole_wei(payments.owed),
            "payments": 0 if payments is None else payments.accepted,
        }
        self._emit(EventType.STREAM_ENDED, data)

    def worker_said(self, said: Mapping[str, Any]) -> None:
        self._hub.worker_said(self._key, said)

    def _emit(self, kind: EventType, data: Mapping[str, Any]) -> None:
        self._hub.emit(kind, data, self._key)


def where(one: OrchestratorRef | None) -> Json | None:
    """Where a job runs, without what is secret."""
    if one is None:
        return None
    price = None if one.price is None else money.text(one.price)
    shown = {"url": one.url, "kind": one.kind or "job", "address": one.address}
    return {**shown, "price_wei_per_second": price, **({"app": one.app} if one.app else {})}
