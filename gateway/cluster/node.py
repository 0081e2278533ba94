"""This node among the others: its parts, and requests to those that own a stream or a viewer."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.beats import KEEP_KEY, Beats
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus
from gateway.cluster.counts import ClusterCounts
from gateway.cluster.duty import Duty
from gateway.cluster.errors import ClusterAway, ClusterError, NoAnswerInTime, NobodyAnswers
from gateway.cluster.names import ClusterNames
from gateway.cluster.placement import Placement
from gateway.cluster.presence import Condition, Identity, NodeState, NodeView
from gateway.cluster.relay import MediaRelay
from gateway.cluster.remembered import Remembered
from gateway.cluster.requests import BadNodeMessage, ForwardedAnswer, ForwardedRequest
from gateway.cluster.responder import Responder
from gateway.cluster.settings import ClusterSettings
from gateway.cluster.shared_events import SharedEvents
from gateway.cluster.subjects import Subjects, node_tag
from gateway.cluster.sweep import Sweep
from gateway.stream.audience import Audience
from gateway.telemetry.events import EventHub

SIGN_TIMEOUT = 3.0
"""Seconds for a node to say that a request came in."""
OTHERS_TIMEOUT = 3.0
"""Seconds for the answers of all nodes to the operator."""
REQUEST_TIMEOUT = 45.0
"""Seconds for a node's answer: a publish may wait for a webhook and for an orchestrator's room."""


class ClusterNode:
    """One node. `open` makes it; `start` has the others know of it."""

    def __init__(self, settings: ClusterSettings, bus: Bus, folder: Path) -> None:
        self.bus = bus
        self.identity = Identity(settings.node_name, secrets.token_hex(8))
        self.tag = node_tag(settings.node_name)
        self.socket = folder / "socket"
        """Where this node's own application is to serve what other nodes send on."""
        self.view = NodeView(self.identity)
        self.relay: MediaRelay | None = None
        """Media between this node and others, by `relay_for`."""
        self._url = ""
        self._beating: asyncio.Task[None] | None = None
        self._condition: Callable[[], Condition] = lambda: Condition(0, 0, 0.0, open=False, draining=False)
        self._lost: Callable[[str], None] = lambda name: None
        self._placement = Placement()
        self._responder = Responder(bus, self.socket)
        subjects = bus.subjects
        nodes = Bucket(bus, subjects.nodes_bucket, ttl=KEEP_KEY, in_memory=True)
        self._beats = Beats(bus, nodes, self.view, self._state, stood_still=self._check_names)
        counts = Bucket(bus, subjects.counts_bucket)
        self.counts = ClusterCounts(bus, counts, self.view, self.identity)
        self._forget: Callable[[str], None] = lambda name: None
        self._remembered = Remembered(bus, self.tag, serve=self._responder.serve, forget=self._when_newer)
        names = Bucket(bus, subjects.names_bucket)
        self.names = ClusterNames(
            bus,
            names,
            self.view,
            self.identity,
            serve=self._responder.serve,
            lost=self._when_lost,
            remembered=self._remembered,
            beat=self._beats.beat_now,
            before_release=self.counts.settle,
        )
        self.duty = Duty(self.names, lambda: bus.connected)
        """Whether this node does what one does for all."""
        self._sweep = Sweep(names, counts, self.view, lambda: self.duty.mine)

    @classmethod
    async def open(cls, settings: ClusterSettings, stack: AsyncExitStack) -> ClusterNode:
        """A node that is connected, or goes on trying to be; `stack` undoes it."""
        folder = Path(tempfile.mkdtemp(prefix="livepeer-node-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        bus = await stack.enter_async_context(
            Bus(
                settings.servers,
                Subjects(settings.name),
                name=settings.node_name,
                credentials=settings.credentials,
            )
        )
        node = cls(settings, bus, folder)
        await stack.enter_async_context(node._responder)
        stack.push_async_callback(node._leave)
        return node

    async def do_what_is_done_once(self, keep: float) -> None:
        """Until cancelled: be on duty where nobody else is, and sweep the buckets then.

        `keep` is for how many seconds a paid job may wait for its publisher.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.duty.run(), name="cluster duty")
            group.create_task(self._sweep.run(keep), name="cluster sweep")

    async def start(self, url: str, condition: Callable[[], Condition]) -> None:
        """Have the others send requests. The application serves on `socket` by now, and clients at `url`."""
        self._url, self._condition = url, condition
        await self.bus.subscribe(self.bus.subjects.node(self.tag), self._responder.serve)
        self._beating = spawn(self._beats.run(), name="cluster beats")

    async def _leave(self) -> None:
        """The last thing that a node does, when its streams have ended: it gives back their names."""
        await cancel(self._beating)
        if self.relay is not None:
            await self.relay.close()
        await self._remembered.close()
        await self.counts.close()
        await self.names.close()
        if self._beating is not None:
            await self._beats.leave()

    def _check_names(self) -> None:
        self.names.check()

    def when_lost(self, lost: Callable[[str], None]) -> None:
        """Have `lost` called with each name of this node that another one has taken."""
        self._lost = lost

    def when_ended_elsewhere(self, forget: Callable[[str], None]) -> None:
        """Have `forget` called with each name of which another node knows a stream that ended later."""
        self._forget = forget

    def _when_newer(self, name: str) -> None:
        self._forget(name)

    def _when_lost(self, name: str) -> None:
        self._lost(name)

    def relay_for(self, audience: Audience) -> MediaRelay:
        """Have `audience` share outputs with other nodes. To be called before anybody comes."""
        self.relay = audience.remote = MediaRelay(
            self.bus,
            self.tag,
            is_live=audience.is_live,
            request_key_frame=audience.request_key_frame,
            epoch_of=self.names.revision,
        )
        return self.relay

    def share_events(self, hub: EventHub, stack: AsyncExitStack) -> None:
        """Have readers of `hub` get the events of streams on other nodes, too."""
        shared = hub.remote = SharedEvents(self.bus, self.tag, hub)
        stack.push_async_callback(shared.close)

    async def relays(self, name: str) -> bool:
        """Whether viewers here can be served a stream of this name (not id) that another node publishes."""
        return self.relay is not None and await self.relay.is_elsewhere(name)

    # what is known of the others

    def reasons_not_ready(self) -> list[str]:
        """Why no publisher can be taken, as far as the cluster is concerned."""
        failure = self._beats.failure
        return [] if failure is None else [f"cluster_away: NATS does not serve: {failure}"]

    def nodes(self) -> list[NodeState]:
        """All nodes that are not dead, this one among them."""
        return self.view.alive()

    # requests to others

    async def ask_owner(self, name: str, request: ForwardedRequest) -> ForwardedAnswer | None:
        """The answer of the node that owns this name or id; None where none does.

        Raises ClusterError.
        """
        if self.names.holds(name):
            return None
        return await self._ask(self.bus.subjects.stream(name), request)

    async def ask_where_it_ended(self, name: str, request: ForwardedRequest) -> ForwardedAnswer | None:
        """The answer of the node where a stream of this name or id ended last; None where none knows it.

        Raises ClusterError.
        """
        return await self._ask(self.bus.subjects.ended(name), request)

    async def ask_owner_of(self, name: str, method: str, target: str) -> ForwardedAnswer | None:
        """The same as `ask_owner`, for a request of this node's own."""
        return await self.ask_owner(name, _own_request(method, target))

    async def ask_others(self, method: str, target: str) -> dict[str, ForwardedAnswer | None]:
        """What each other node answers to a request of this node's own; None where it does not in time."""
        request = _own_request(method, target)

        async def ask(tag: str) -> ForwardedAnswer | None:
            try:
                async with asyncio.timeout(OTHERS_TIMEOUT):
                    return await self.ask_node(tag, request)
            except (ClusterError, TimeoutError):
                return None

        others = [one.identity.node for one in self.nodes() if one.identity != self.identity]
        answers = await asyncio.gather(*(ask(node_tag(node)) for node in others))
        return dict(zip(others, answers, strict=True))

    async def ask_node(self, tag: str, request: ForwardedRequest) -> ForwardedAnswer | None:
        """The answer of the node with this tag; None where it is gone. Raises ClusterError."""
        return await self._ask(self.bus.subjects.node(tag), request)

    async def place(self, request: ForwardedRequest) -> ForwardedAnswer | None:
        """Have the least loaded node take a publisher, or the next one where that is full or drains by now.

        None: this one is to do it. Raises ClusterError.
        """
        own, refusal = self.identity.node, None
        nodes = [self._state() if one.identity == self.identity else one for one in self.nodes()]
        for node in self._placement.order(nodes, own, time.monotonic()):
            self._placement.sent(node, time.monotonic())
            if node == own:
                return None
            try:
                answer = await self.ask_node(node_tag(node), request)
            except NoAnswerInTime as late:
                if late.taken:
                    raise  # it may have taken the publisher
                continue
            if answer is not None and not answer.takes_nobody:
                return answer
            refusal = answer or refusal
        return refusal

    async def _ask(self, subject: str, request: ForwardedRequest) -> ForwardedAnswer | None:
        try:
            data = await self.bus.ask(subject, request.encode(), timeout=REQUEST_TIMEOUT, sign=SIGN_TIMEOUT)
            return ForwardedAnswer.decode(data)
        except NobodyAnswers:
            return None
        except BadNodeMessage as error:
            raise ClusterAway(f"another node's answer cannot be read: {error}") from error

    def _state(self) -> NodeState:
        condition = self._condition()
        return NodeState(
            self.identity,
            version=version("livepeer-live-gateway"),
            url=self._url,
            streams=condition.streams,
            viewers=condition.viewers,
            lag=condition.lag,
            open=condition.open,
            draining=condition.draining,
        )


def _own_request(method: str, target: str) -> ForwardedRequest:
    return ForwardedRequest(method, target, (), b"", client="127.0.0.1", scheme="http", host="node")
