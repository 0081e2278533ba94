"""What the operator sees and does by hand: live streams and limits; end, move and drain."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway import money
from gateway.http.all_nodes import AllNodes
from gateway.http.other_nodes import response_of
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
STREAMS = "/node/control/streams"
END = STREAMS + "/{stream}/end"
SWAP = STREAMS + "/{stream}/swap"
"""Routes that only other nodes reach."""
NO_STORE = {"Cache-Control": "no-store"}


class ControlRoutes:
    """`limits` gives what is used of each limit; `nodes` are the others of a cluster."""

    def __init__(
        self,
        registry: StreamRegistry,
        admission: Admission,
        events: EventHub,
        limits: Callable[[], list[Json]],
        nodes: AllNodes,
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._events = events
        self._limits = limits
        self._nodes = nodes

    def own_routes(self) -> list[Route]:
        """What other nodes ask of this one."""
        done = {200: "it is done", 404: "no such stream is live here"}
        return [
            Route("GET", STREAMS, self._own_streams, "this node's streams, with cost", {200: "streams"}),
            Route("POST", END, self._end_own, "end a stream of this node", done),
            Route(
                "POST", SWAP, self._swap_own, "move a stream of this node", {**done, 503: "nobody takes it"}
            ),
        ]

    def routes(self) -> list[Route]:
        elsewhere = {404: "no such stream is live", 504: "its node does not answer"}
        return [
            Route(
                "GET",
                "/streams",
                self.streams,
                "the live streams of this node, with cost and health",
                {200: "streams and totals"},
                query={"nodes": "`all`: those of all nodes of a cluster; `away` names who does not answer"},
            ),
            Route(
                "DELETE",
                "/streams/{stream}",
                self.end,
                "end a stream, by name or id, whichever node has it",
                {200: "it ends as terminated", **elsewhere, 503: "its node cannot be reached"},
            ),
            Route(
                "POST",
                "/streams/{stream}/swap",
                self.swap,
                "move a stream to another orchestrator",
                {200: "it moves", **elsewhere, 503: "nobody else can take it now, or it is not live"},
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

    async def streams(self, request: web.Request) -> web.Response:
        told: list[Json] = [self._own()]
        away: list[str] = []
        if request.query.get("nodes") == "all":
            for node, answer in sorted((await self._nodes.told(STREAMS)).items()):
                if is_readable(answer):
                    told.append(answer)
                else:
                    away.append(node)
        rows = [row for one in told for row in one["streams"]]
        totals = together([one["totals"] for one in told])
        body = {"streams": rows, "totals": totals, "draining": self._admission.draining, "away": away}
        return web.json_response(body, headers=NO_STORE)

    async def end(self, request: web.Request) -> web.Response:
        return await self._elsewhere(request, END) or await self._end_own(request)

    async def swap(self, request: web.Request) -> web.Response:
        return await self._elsewhere(request, SWAP) or await self._swap_own(request)

    async def _elsewhere(self, request: web.Request, target: str) -> web.Response | None:
        """What the node answers that has the stream; None where this one has it, or nobody."""
        name = request.match_info["stream"]
        if self._registry.find(name) is not None:
            return None
        answer = await self._nodes.at_owner(name, "POST", target.format(stream=quote(name, safe="")))
        return None if answer is None else response_of(answer)

    async def _own_streams(self, _: web.Request) -> web.Response:
        return web.json_response(self._own())

    async def _end_own(self, request: web.Request) -> web.Response:
        self._find(request).end(EndReason.TERMINATED, ENDED)
        return web.json_response({"status": "ok"})

    async def _swap_own(self, request: web.Request) -> web.Response:
        try:
            self._find(request).move(MOVED)
        except CannotMove as error:
            raise Problem(503, ProblemCode.NO_ORCHESTRATOR, str(error)) from error
        return web.json_response({"status": "ok"})

    def _own(self) -> Json:
        streams = list(self._registry)
        totals = {
            "streams": len(streams),
            "viewers": len(self._registry.audience),
            "cost_wei_per_second": money.text(self._registry.burn()),
            "credited_wei": money.whole_wei(sum((_credited(one) for one in streams), Fraction(0))),
        }
        return {"streams": [self._row(stream) for stream in streams], "totals": totals}

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
            detail = f"no live stream has the name or id {name[:140]!r}"
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


def together(totals: list[Json]) -> Json:
    """Totals of several nodes as one."""
    cost = sum((Fraction(one["cost_wei_per_second"]) for one in totals), Fraction(0))
    return {
        "streams": sum(one["streams"] for one in totals),
        "viewers": sum(one["viewers"] for one in totals),
        "cost_wei_per_second": money.text(cost),
        "credited_wei": str(sum(int(one["credited_wei"]) for one in totals)),
    }


def is_readable(answer: Any) -> bool:
    """Whether another node told its streams in a form that is known here."""
    try:
        together([answer["totals"]])
        return all(isinstance(row, dict) for row in answer["streams"])
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return False
