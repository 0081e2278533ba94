"""What the operator sees and does by hand: live streams and limits; end, move and drain."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from aiohttp import web

from gateway import money
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route
from gateway.payments.figures import json_seconds
from gateway.reason import EndReason
from gateway.stream.admission import Admission
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import Json, PublishRequest
from gateway.stream.status import ingest_json, orchestrator_json, output_json, rfc3339
from gateway.stream.stream import CannotMove, Stream
from gateway.telemetry.events import EventHub, EventType

ENDED = "the operator ended it"
MOVED = "the operator moves it to another orchestrator"
NO_STORE = {"Cache-Control": "no-store"}


class ControlRoutes:
    """`limits` gives what is used of each limit."""

    def __init__(
        self,
        registry: StreamRegistry,
        admission: Admission,
        events: EventHub,
        limits: Callable[[], list[Json]],
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._events = events
        self._limits = limits

    def routes(self) -> list[Route]:
        unknown = {404: "no such stream is live here"}
        return [
            Route(
                "GET",
                "/streams",
                self.streams,
                "the live streams of this node, with cost and health",
                {200: "streams and totals"},
            ),
            Route(
                "DELETE",
                "/streams/{stream}",
                self.end,
                "end a stream, by name or id",
                {200: "it ends as terminated", **unknown},
            ),
            Route(
                "POST",
                "/streams/{stream}/swap",
                self.swap,
                "move a stream to another orchestrator",
                {200: "it moves", **unknown, 503: "nobody else can take it now, or it is not live"},
            ),
            Route(
                "GET",
                "/limits",
                self.limits,
                "the limits, and how much of each this node has used",
                {200: "a row for each limit"},
            ),
            Route(
                "POST", "/drain", self.drain, "take no more publishers; live streams go on", {200: "draining"}
            ),
            Route("DELETE", "/drain", self.undrain, "take publishers again", {200: "not draining"}),
        ]

    async def streams(self, _: web.Request) -> web.Response:
        streams = list(self._registry)
        credited = sum((_credited(stream) for stream in streams), Fraction(0))
        totals = {
            "streams": len(streams),
            "viewers": len(self._registry.audience),
            "cost_wei_per_second": money.text(self._registry.burn()),
            "credited_wei": money.whole_wei(credited),
        }
        rows = [self._row(stream) for stream in streams]
        body = {"streams": rows, "totals": totals, "draining": self._admission.draining}
        return web.json_response(body, headers=NO_STORE)

    async def end(self, request: web.Request) -> web.Response:
        self._find(request).end(EndReason.TERMINATED, ENDED)
        return web.json_response({"status": "ok"})

    async def swap(self, request: web.Request) -> web.Response:
        try:
            self._find(request).move(MOVED)
        except CannotMove as error:
            raise Problem(503, ProblemCode.NO_ORCHESTRATOR, str(error)) from error
        return web.json_response({"status": "ok"})

    async def limits(self, _: web.Request) -> web.Response:
        return web.json_response({"limits": self._limits()}, headers=NO_STORE)

    async def drain(self, _: web.Request) -> web.Response:
        if not self._admission.draining:
            self._admission.draining = True
            data = {"streams": len(self._registry), "detail": "the operator asked for it"}
            self._events.emit(EventType.NODE_DRAINING, data)
        return web.json_response({"draining": True})

    async def undrain(self, _: web.Request) -> web.Response:
        self._admission.draining = False
        return web.json_response({"draining": False})

    def _find(self, request: web.Request) -> Stream:
        name = request.match_info["stream"]
        stream = self._registry.find(name)
        if stream is None:
            detail = f"no live stream of this node has the name or id {name[:140]!r}"
            raise Problem(404, ProblemCode.UNKNOWN_STREAM, detail)
        return stream

    def _row(self, stream: Stream) -> Json:
        job, error = stream.job_status(), stream.current_error()
        payments = job.payments
        return {
            **_named(stream.request),
            "node": self._events.node,
            "state": str(stream.state),
            "started_at": rfc3339(stream.started_at),
            "elapsed_s": round(stream.elapsed, 1),
            "orchestrator": orchestrator_json(job.orchestrator),
            "cost_wei_per_second": money.text(stream.supervisor.burn()),
            "credited_wei": money.whole_wei(_credited(stream)),
            "owed_wei": "0" if payments is None else money.whole_wei(payments.owed),
            "credit_left_s": None if payments is None else json_seconds(payments.credit_left),
            "swaps": stream.supervisor.swaps,
            "resumed": stream.publishers.resumed,
            "ingest": ingest_json(stream, segments_dropped=job.dropped),
            "output": output_json(stream, self._registry.audience.viewers_of(stream.request.name)),
            "problem": None if error is None else error[0],
        }


def _named(request: PublishRequest) -> Json:
    return {
        "stream": request.name,
        "stream_id": request.stream_id,
        "request_id": request.request_id,
        "pipeline": request.model,
        "publisher": request.publisher,
        "customer": request.customer.name,
    }


def _credited(stream: Stream) -> Fraction:
    payments = stream.job_status().payments
    return Fraction(0) if payments is None else payments.credited
