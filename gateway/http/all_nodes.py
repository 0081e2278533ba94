"""What all nodes of a cluster know, for the operator: asked of each when it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.aio.json_text import parse_json
from gateway.cluster.errors import ClusterError, NoAnswerInTime
from gateway.cluster.requests import ForwardedAnswer
from gateway.http.other_nodes import away, silent
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route
from gateway.reason import EndReason
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import Json
from gateway.stream.status import orchestrator_json, rfc3339
from gateway.stream.stream import Stream
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.node_metrics import together

if TYPE_CHECKING:
    from gateway.cluster.node import ClusterNode  # imports nats-py, which takes a while

log = structlog.get_logger("cluster")

STREAMS = "/node/streams"
ORCHESTRATORS = "/node/orchestrators"
METRICS = "/node/metrics"
END = STREAMS + "/{stream}/end"
"""Routes that only other nodes reach."""
BY_HEARTBEAT = "the heartbeat's answer named it"


class AllNodes:
    """This node and the others; only this one where `node` is None."""

    def __init__(
        self,
        registry: StreamRegistry,
        metrics: Metrics,
        orchestrators: Callable[[], Json],
        node: ClusterNode | None = None,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._orchestrators = orchestrators
        self._node = node
        self._known: dict[str, list[Json]] = {}
        """The streams of each other node as it said last."""

    def own_routes(self) -> list[Route]:
        """What other nodes ask of this one."""
        told = {200: "what this node knows"}
        return [
            Route("GET", STREAMS, self._own_streams, "this node's streams", told),
            Route("GET", ORCHESTRATORS, self._own_orchestrators, "this node's orchestrators", told),
            Route("GET", METRICS, self._own_metrics, "this node's metrics", told, gives="text/plain"),
            Route(
                "POST", END, self._end, "end a stream of this node", {200: "it ends", 404: "it is not here"}
            ),
        ]

    async def streams(self) -> list[Json]:
        """The live streams of all nodes, by name; of a node that does not answer, what it said last."""
        own = [self._summary(stream) for stream in self._registry]
        others = {} if self._node is None else await self._node.ask_others("GET", STREAMS)
        known = {}
        for name, answer in others.items():
            read = _parsed(answer)
            streams = [one for one in read if isinstance(one, dict)] if isinstance(read, list) else None
            known[name] = self._known.get(name, []) if streams is None else streams
        self._known = known
        everywhere = [*own, *(stream for streams in known.values() for stream in streams)]
        return sorted(everywhere, key=lambda stream: str(stream.get("name")))

    async def told(self, target: str) -> dict[str, Any]:
        """The JSON that each other node gives at a route of its own; None where it does not answer."""
        others = {} if self._node is None else await self._node.ask_others("GET", target)
        return {name: _parsed(answer) for name, answer in others.items()}

    async def at_owner(self, name: str, method: str, target: str) -> ForwardedAnswer | None:
        """What the node answers that has a stream of this name or id; None where no other has.

        Raises Problem 503 or 504 where it cannot be asked, or does not answer.
        """
        if self._node is None:
            return None
        try:
            return await self._node.ask_owner_of(name, method, target)
        except NoAnswerInTime as late:
            raise silent(late) from late
        except ClusterError as error:
            raise away(error) from error
        except ValueError:
            return None  # it is no name of a stream

    async def stream_ids(self) -> list[str]:
        """The ids of the live streams of all nodes."""
        return [str(stream["id"]) for stream in await self.streams() if "id" in stream]

    async def end(self, stream_id: str) -> None:
        """End a stream as the heartbeat's answer says, whichever node has it."""
        stream = self._registry.find(stream_id)
        if stream is not None:
            stream.end(EndReason.TERMINATED, BY_HEARTBEAT)
        elif self._node is not None:
            try:
                await self._node.ask_owner_of(stream_id, "POST", END.format(stream=quote(stream_id, safe="")))
            except (ClusterError, ValueError) as error:
                log.warning(
                    "a stream of another node cannot be ended", stream=stream_id[:140], detail=str(error)
                )

    async def orchestrators(self, own: Json) -> Json:
        """`own` is what this node shows of orchestrators; in a cluster `nodes` is what each does."""
        if self._node is None:
            return own
        nodes: dict[str, Json | None] = {self._node.identity.node: self._orchestrators()}
        for name, answer in (await self._node.ask_others("GET", ORCHESTRATORS)).items():
            read = _parsed(answer)
            nodes[name] = read if isinstance(read, dict) else None
        return {**own, "nodes": dict(sorted(nodes.items()))}

    async def metrics(self, *, everywhere: bool) -> bytes:
        """This node's metrics, or those of all nodes that answer."""
        own = self._metrics.render()
        if self._node is None or not everywhere:
            return own
        answers = (await self._node.ask_others("GET", METRICS)).values()
        texts = [own, *(one.body for one in answers if one is not None and one.status == 200)]
        return await asyncio.to_thread(together, texts)

    async def _own_streams(self, _: web.Request) -> web.Response:
        return web.json_response([self._summary(stream) for stream in self._registry])

    async def _own_orchestrators(self, _: web.Request) -> web.Response:
        return web.json_response(self._orchestrators())

    async def _own_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render())

    async def _end(self, request: web.Request) -> web.Response:
        stream = self._registry.find(request.match_info["stream"])
        if stream is None:
            raise Problem(404, ProblemCode.UNKNOWN_STREAM, "this node has no such stream")
        stream.end(EndReason.TERMINATED, BY_HEARTBEAT)
        return web.Response()

    def _summary(self, stream: Stream) -> Json:
        request = stream.request
        return {
            "name": request.name,
            "id": request.stream_id,
            "request_id": request.request_id,
            "node": None if self._node is None else self._node.identity.node,
            "state": str(stream.state),
            "publisher": request.publisher,
            "model": request.model,
            "viewers": self._registry.audience.viewers_of(request.name),
            "started_at": rfc3339(stream.started_at),
            "orchestrator": orchestrator_json(stream.job_status().orchestrator),
        }


def _parsed(answer: ForwardedAnswer | None) -> Any:
    """What another node told; None where it did not, or not in a way that can be read."""
    try:
        return None if answer is None or answer.status != 200 else parse_json(answer.body)
    except ValueError:
        return None
