"""Requests about streams and viewers that another node has: sent on to it, and answered with what it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from gateway.aio.json_text import parse_json
from gateway.cluster.errors import ClusterAway, ClusterError, NoAnswerInTime
from gateway.cluster.presence import NodeState
from gateway.cluster.requests import ForwardedAnswer, ForwardedRequest
from gateway.cluster.subjects import TAG_DIGITS
from gateway.http.bodies import BODY, MAX_JSON_BYTES, read_body
from gateway.http.forwarding import Forwarding
from gateway.http.outputs import OUTPUTS
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route
from gateway.http.sessions import PREFIX, STREAM
from gateway.http.whep import WHEP
from gateway.http.whip import WHIP
from gateway.stream.admission import RETRY_AFTER
from gateway.stream.names import is_name, output_name
from gateway.stream.registry import StreamRegistry

if TYPE_CHECKING:
    from gateway.cluster.node import ClusterNode  # imports nats-py, which takes a while

SESSION = "/{session}"
OF_STREAMS = frozenset(
    {
        ("PATCH", WHIP + SESSION),
        ("DELETE", WHIP + SESSION),
        ("POST", STREAM + "/update"),
        ("GET", STREAM + "/payments"),
        ("GET", OUTPUTS),
        ("POST", OUTPUTS),
        ("DELETE", OUTPUTS + "/{output}"),
    }
)
"""Method and path of the routes that the node serves which owns {stream}, beside the three below."""
CREATE = ("POST", PREFIX)
STATUS = ("GET", STREAM + "/status")
OF_A_PUBLISH = re.compile(r"(.+)-([0-9a-f]{16})")
"""Before `-out` in go-livepeer's playback path of one publish: its stream's name and its request id."""
OF_VIEWERS = frozenset({("PATCH", WHEP + SESSION), ("DELETE", WHEP + SESSION)})
NOT_SENT_ON = frozenset({"connection", "content-length", "expect", "host", "keep-alive", "origin", "te"})
"""Headers that are this connection's own, or checked here; lower case. X-Forwarded ones are made anew."""


class OtherNodes:
    """A middleware for `-httpAddr`, and the route that shows all nodes."""

    def __init__(self, node: ClusterNode, registry: StreamRegistry, forwarding: Forwarding) -> None:
        self._node = node
        self._registry = registry
        self._forwarding = forwarding

    @web.middleware
    async def send_on(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve the request here, or where it belongs."""
        resource = request.match_info.route.resource
        route = (request.method, resource.canonical if resource is not None else "")
        if route == ("POST", WHIP):
            answer = await self._publish(request)
        elif route == ("POST", WHEP):
            answer = await self._watch(request)
        elif route == STATUS:
            answer = await self._ask_owner(request) or await self._ask_where_it_ended(request)
        elif route == CREATE:
            answer = await self._create(request)
        elif route in OF_STREAMS:
            answer = await self._ask_owner(request)
        elif route in OF_VIEWERS:
            answer = await self._ask_viewers_node(request)
        else:
            answer = None
        return await handler(request) if answer is None else response_of(answer)

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/nodes", self.nodes, "all nodes, as this one sees them", {200: "the nodes"}),
        ]

    async def nodes(self, _: web.Request) -> web.Response:
        own = self._node.identity.node
        return web.json_response({"nodes": [_json(state, own) for state in self._node.nodes()]})

    async def _publish(self, request: web.Request) -> ForwardedAnswer | None:
        name = request.match_info["stream"]
        if self._registry.find(name) is not None or self._node.reasons_not_ready():
            return None  # the publisher may come back to a stream of this node, whatever is away
        message = await self._message(request)
        try:
            answer = await self._node.ask_owner(name, message)
        except NoAnswerInTime as late:
            if late.taken:
                raise silent(late) from late
            answer = None  # its owner may be dead: who takes the name finds out
        except ClusterError:
            return None
        if answer is not None:
            return answer
        try:
            return await self._node.place(message)
        except NoAnswerInTime as late:
            raise silent(late) from late
        except ClusterError:
            return None

    async def _create(self, request: web.Request) -> ForwardedAnswer | None:
        """Who has a stream of the wanted name knows whether it may be created anew."""
        request[BODY] = await read_body(request, MAX_JSON_BYTES)
        try:
            asked = parse_json(request[BODY])
        except ValueError:
            return None
        name = asked.get("name") if isinstance(asked, dict) else None
        if not isinstance(name, str) or not is_name(name):
            return None
        return await self._ask_owner(request, name)

    async def _watch(self, request: web.Request) -> ForwardedAnswer | None:
        """A viewer is served here where it can get its stream here, else by the stream's owner."""
        name = self._registry.watched_name(request.match_info["stream"])
        if self._registry.find(name) is not None or await self._node.relays(name):
            return None
        publish = OF_A_PUBLISH.fullmatch(output_name(request.match_info["stream"]) or "")
        if publish is not None and await self._is_publish(*publish.groups()):
            return await self._ask_owner(request, publish[1])
        return await self._ask_owner(request)

    async def _is_publish(self, name: str, request_id: str) -> bool:
        """Whether another node has a live stream of this name and request id."""
        try:
            answer = await self._node.ask_owner_of(name, "GET", STATUS[1].format(stream=name))
            told = None if answer is None else parse_json(answer.body)
            return isinstance(told, dict) and told["gateway_status"]["request_id"] == request_id
        except (ClusterError, ValueError, KeyError, TypeError):
            return False

    async def _ask_where_it_ended(self, request: web.Request) -> ForwardedAnswer | None:
        name = request.match_info["stream"]
        if self._registry.find_with_ended(name) is not None:
            return None
        try:
            return await self._node.ask_where_it_ended(name, await self._message(request))
        except ClusterError:
            return None

    async def _ask_owner(self, request: web.Request, name: str = "") -> ForwardedAnswer | None:
        name = name or request.match_info["stream"]
        if self._registry.find(name) is not None:
            return None
        message = await self._message(request)
        try:
            return await self._node.ask_owner(name, message)
        except NoAnswerInTime as late:
            raise silent(late) from late
        except ClusterAway:
            return None  # served from what is known here
        except ClusterError as error:
            raise away(error) from error

    async def _ask_viewers_node(self, request: web.Request) -> ForwardedAnswer | None:
        tag, dash, _ = request.match_info["session"].partition("-")
        if not dash or len(tag) != TAG_DIGITS or tag == self._node.tag:
            return None
        message = await self._message(request)
        try:
            return await self._node.ask_node(tag, message)
        except NoAnswerInTime as late:
            raise silent(late) from late
        except ClusterError as error:
            raise away(error) from error

    async def _message(self, request: web.Request) -> ForwardedRequest:
        """The request for another node. Its body stays with it, for the case that it is served here."""
        body = request[BODY] = await read_body(request, MAX_JSON_BYTES)
        scheme, host = self._forwarding.base(request)
        return ForwardedRequest(
            method=request.method,
            target=request.raw_path,
            headers=tuple(
                (name, value)
                for name, value in request.headers.items()
                if name.lower() not in NOT_SENT_ON and not name.lower().startswith("x-forwarded-")
            ),
            body=body,
            client=self._forwarding.client(request),
            scheme=scheme,
            host=host,
            prefix=self._forwarding.prefix(request),
        )


def response_of(answer: ForwardedAnswer) -> web.Response:
    """Another node's answer, for who asked this one."""
    return web.Response(status=answer.status, headers=CIMultiDict(answer.headers), body=answer.body)


def silent(error: NoAnswerInTime) -> Problem:
    """The refusal where a stream's node did not answer."""
    detail = f"the node that has it does not answer ({error}): try again"
    headers = {"Retry-After": str(RETRY_AFTER)}
    return Problem(504, ProblemCode.NODE_SILENT, detail, headers=headers)


def away(error: ClusterError) -> Problem:
    """The refusal where a stream's node cannot be asked."""
    detail = f"the node that has it cannot be reached ({error}): try again"
    headers = {"Retry-After": str(RETRY_AFTER)}
    return Problem(503, ProblemCode.CLUSTER_AWAY, detail, headers=headers)


def _json(state: NodeState, own: str) -> dict[str, object]:
    return {
        "name": state.identity.node,
        "url": state.url,
        "version": state.version,
        "streams": state.streams,
        "viewers": state.viewers,
        "lag_seconds": round(state.lag, 3),
        "takes_publishers": state.open,
        "draining": state.draining,
        "answers": state.identity.node == own,
    }
