"""A job on one of the operator's own ComfyStream servers: nothing is paid, as the ledger says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any, NoReturn

from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.comfystream import prompts
from gateway.comfystream.control import ServerControl
from gateway.comfystream.errors import BadParams, ComfyStreamError
from gateway.comfystream.feedback import keep_feeding_back
from gateway.comfystream.peer import ServerPeer
from gateway.comfystream.prompts import Wanted
from gateway.comfystream.resources import ComfyResources
from gateway.comfystream.servers import COMFYSTREAM
from gateway.comfystream.texts import Texts
from gateway.media.frames import AccessUnit, Frame
from gateway.media.gop import GopBuffer
from gateway.payments.errors import LedgerError
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import SessionRecord
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.seam import (
    Candidate,
    JobHost,
    JobStatus,
    Json,
    OrchestratorRef,
    PublishRequest,
)


class ComfyJob:
    """One stream on one server, over one connection after another where its prompts need that."""

    def __init__(
        self,
        resources: ComfyResources,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
    ) -> None:
        self.started = False
        self.paid = False
        self._resources = resources
        self._server = resources.servers.server(candidate.addr)
        self._request = request
        self._host = host
        self._log = log.bind(comfystream=candidate.url)
        self._control = ServerControl(host, resources.template, resources.timing, self._log)
        self._peer: ServerPeer | None = None
        self._held: GopBuffer | None = None
        self._state = "starting"
        self._texts = Texts(self._log)
        self._dropped = 0
        self._session: str | None = None

    # the stream's side

    async def run(self) -> NoReturn:
        """Connect and relay. Raises Ended."""
        if not self._server.take(self, time.monotonic()):
            raise NoRoom(EndReason.ORCHESTRATOR_LOST, f"{self._server.url} has a stream already")
        try:
            await self._open_session()
            while True:
                former = self._control.wanted.prompts
                wanted = self._control.begin()
                if former and wanted.prompts:
                    await asyncio.sleep(self._resources.timing.rest)  # the former's end stops all prompts
                await self._one_connection(wanted)
        except BadParams as error:
            raise Ended(EndReason.NO_ORCHESTRATOR, f"the parameters cannot be used: {error}") from error
        except ComfyStreamError as error:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._server.url}: {error}") from error

    @property
    def paused(self) -> bool:
        return self._control.paused

    @property
    def longest_hold(self) -> float:
        return 0.0  # nothing is paid

    def hold(self) -> None: ...

    def resume(self) -> None: ...

    def push(self, frame: Frame) -> None:
        if self._peer is None or self._state != "online":
            return
        # a server that is paused keeps all that it gets
        control = self._control
        if control.paused and (isinstance(frame, AccessUnit) or prompts.takes_sound(control.wanted.prompts)):
            return
        self._peer.send(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        return await self._control.update(params, started=self.started)

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        """Close the connection and free the server: nothing of it can be left."""
        try:
            await self._close_peer()
        finally:
            self._state = "closed"
            self._control.close()
            self._server.warming = False
            self._server.give_back(self, time.monotonic())
            session, self._session = self._session, None
            if session is not None:
                # the ledger logs its own errors, and nothing was paid
                with suppress(LedgerError):
                    await self._resources.ledger.close_session(
                        session, reason, "the operator's own server: free"
                    )

    def status(self) -> JobStatus:
        control = self._control
        return JobStatus(
            worker={
                "type": "status",
                "comfystream": {
                    "state": "paused" if control.paused else self._state,
                    "prompts": len(control.wanted.prompts),
                    "resolution": control.wanted.resolution,
                    "texts": self._texts.newest(),
                    "texts_total": self._texts.total,
                    "workflow_error": control.workflow_error or None,
                },
            },
            orchestrator=OrchestratorRef(url=self._server.url, price=Fraction(0), kind=COMFYSTREAM),
            dropped=self._dropped + (self._peer.dropped if self._peer is not None else 0),
        )

    # the connection

    async def _open_session(self) -> None:
        """Note in the ledger that the stream costs nothing: a session at price 0."""
        request = self._request
        record = SessionRecord(
            job=JobIdentity(
                stream=request.name,
                stream_id=request.stream_id,
                request_id=request.request_id,
                addr=self._server.url,
                customer=request.customer,
            ),
            sender="",
            orchestrator_address="",
            orchestrator_url=self._server.url,
            price=Fraction(0),
            ceiling=None,
            interval_ns=0,
        )
        try:
            self._session = await self._resources.ledger.open_session(record)
        except LedgerError as error:
            # nothing is spent, so the stream may go on
            self._log.warning("this stream is not in the ledger", detail=str(error))

    def _take_text(self, text: str) -> None:
        self._texts.add(text)
        self._host.on_worker_event({"type": "text", "text": text})

    async def _one_connection(self, wanted: Wanted) -> None:
        """Relay over one connection until another one is needed. Raises ComfyStreamError."""
        peer = self._peer = ServerPeer(
            self._resources.webrtc,
            self._host.on_output,
            self._host.request_key_frame,
            self._take_text,
            self._log,
            self._resources.timing,
        )
        try:
            async with TaskGroup() as group:
                name = f"comfystream {self._request.request_id}"
                group.create_task(self._until_lost(), name=f"{name} health")
                group.create_task(self._relay(peer, wanted), name=f"{name} relay")
        except _NewConnectionNeeded:
            pass
        finally:
            self._host.limit_bitrate(None)
            await self._close_peer()

    async def _until_lost(self) -> NoReturn:
        raise ComfyStreamError(await self._server.wait_lost())

    async def _relay(self, peer: ServerPeer, wanted: Wanted) -> NoReturn:
        self._state, self._server.warming = "warming_up", True
        self._log.info("comfystream offer", prompts=len(wanted.prompts))
        offered = wanted
        if offered.resolution is None and self._host.size is not None:
            # else a workflow warms up for the server's default size
            width, height = self._host.size
            offered = replace(offered, resolution={"width": width, "height": height})
        await peer.connect(
            self._resources.http, self._server.url_with_password, offered, audio=self._host.audio_agreed
        )
        self._server.warming = False
        if self._held is None:
            self._held = self._host.on_started()
        for frame in self._held.frames():
            peer.send(frame)
        self._state, self.started = "online", True
        self._control.connected(peer)
        self._log.info("comfystream connected", prompts=len(wanted.prompts))
        highest = self._resources.webrtc.max_bitrate_kbps * 1000
        async with TaskGroup() as group:
            name = f"comfystream {self._request.request_id}"
            group.create_task(self._until_closed(peer), name=f"{name} connection")
            feedback = keep_feeding_back(peer, self._host, highest, self._resources.timing)
            group.create_task(feedback, name=f"{name} feedback")
            group.create_task(self._until_renewal(), name=f"{name} renewal")
            await self._control.catch_up()
            group.create_task(self._control.watch_workflow(), name=f"{name} workflow")
        raise AssertionError("a connection ends with a reason")

    async def _until_closed(self, peer: ServerPeer) -> NoReturn:
        raise ComfyStreamError(f"the connection ended: {await peer.wait_closed()}")

    async def _until_renewal(self) -> NoReturn:
        await self._control.renew.wait()
        raise _NewConnectionNeeded

    async def _close_peer(self) -> None:
        peer, self._peer = self._peer, None
        self._control.disconnected()
        if peer is not None:
            self._dropped += peer.dropped
            if peer.pending:
                self._server.settle(peer.settle())
            else:
                await peer.close()


class _NewConnectionNeeded(Exception):
    """Another connection is to replace this one."""
