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
from gateway.comfystream.channels import Message
from gateway.comfystream.errors import BadParams, ComfyStreamError, NoAnswer, TooMany
from gateway.comfystream.feedback import keep_feeding_back
from gateway.comfystream.peer import ServerPeer
from gateway.comfystream.prompts import Wanted
from gateway.comfystream.resources import ComfyResources
from gateway.comfystream.servers import COMFYSTREAM
from gateway.comfystream.texts import Texts
from gateway.media.frames import Frame
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
    UpdateRefused,
    merge_params,
)


class ComfyJob:
    """One stream on one server.

    ComfyStream never gives prompts to a connection that was offered without any. So a change between no
    prompts and some makes a new connection; job and stream stay.
    """

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
        self.paused = False
        self._resources = resources
        self._server = resources.servers.server(candidate.addr)
        self._request = request
        self._host = host
        self._log = log.bind(comfystream=candidate.url)
        self._wanted = Wanted()
        self._peer: ServerPeer | None = None
        self._held: GopBuffer | None = None
        self._renew = asyncio.Event()
        self._renewed = asyncio.Event()
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
                self._wanted = prompts.wanted(self._host.params, self._resources.template)
                self._renew.clear()
                await self._one_connection()
        except BadParams as error:
            raise Ended(EndReason.NO_ORCHESTRATOR, f"the parameters cannot be used: {error}") from error
        except ComfyStreamError as error:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._server.url}: {error}") from error

    @property
    def longest_hold(self) -> float:
        return 0.0  # nothing is paid

    def hold(self) -> None: ...

    def resume(self) -> None: ...

    def push(self, frame: Frame) -> None:
        if self._peer is not None and self._state == "online":
            self._peer.send(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Send the messages for these parameters; returns the server's answers. Raises UpdateRefused."""
        try:
            todo = prompts.messages(params, self._resources.template)
            wanted = prompts.wanted(merge_params(self._host.params, params), self._resources.template)
        except BadParams as error:
            raise UpdateRefused("worker_refused", str(error)) from error
        answers = []
        for message in todo:
            if message.get("type") == "update_prompts" and "prompts" in message:
                prompts_now = prompts.read_prompts(message["prompts"], self._resources.template)
                if bool(prompts_now) != bool(self._wanted.prompts):
                    answers.append(await self._renew_with(params))
                    continue
            answers.append(await self._ask(message))
        self._wanted = Wanted(wanted.prompts, wanted.resolution, self.paused)
        return {"answers": answers}

    async def close(self, reason: EndReason) -> None:
        """Close the connection and free the server."""
        try:
            await self._close_peer()
        finally:
            self._state = "closed"
            self._renewed.set()
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
        return JobStatus(
            worker={
                "type": "status",
                "comfystream": {
                    "state": "paused" if self.paused else self._state,
                    "prompts": len(self._wanted.prompts),
                    "resolution": self._wanted.resolution,
                    "texts": self._texts.newest(),
                    "texts_total": self._texts.total,
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

    async def _one_connection(self) -> None:
        """Relay over one connection until another one is needed. Raises ComfyStreamError."""
        peer = self._peer = ServerPeer(
            self._resources.webrtc,
            self._host.on_output,
            self._host.request_key_frame,
            self._texts.add,
            self._log,
            self._resources.timing,
        )
        try:
            async with TaskGroup() as group:
                name = f"comfystream {self._request.request_id}"
                group.create_task(self._until_lost(), name=f"{name} health")
                group.create_task(self._relay(peer), name=f"{name} relay")
        except _NewConnectionNeeded:
            pass
        finally:
            self._host.limit_bitrate(None)
            await self._close_peer()

    async def _until_lost(self) -> NoReturn:
        raise ComfyStreamError(await self._server.wait_lost())

    async def _relay(self, peer: ServerPeer) -> NoReturn:
        self._state, self._server.warming = "warming_up", True
        self._log.info("comfystream offer", prompts=len(self._wanted.prompts))
        offered = self._wanted
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
        self._renewed.set()
        self._log.info("comfystream connected", prompts=len(self._wanted.prompts))
        highest = self._resources.webrtc.max_bitrate_kbps * 1000
        async with TaskGroup() as group:
            name = f"comfystream {self._request.request_id}"
            group.create_task(self._until_closed(peer), name=f"{name} connection")
            feedback = keep_feeding_back(peer, self._host, highest, self._resources.timing)
            group.create_task(feedback, name=f"{name} feedback")
            group.create_task(self._until_renewal(), name=f"{name} renewal")
            group.create_task(self._catch_up(), name=f"{name} catch up")
        raise AssertionError("a connection ends with a reason")

    async def _until_closed(self, peer: ServerPeer) -> NoReturn:
        raise ComfyStreamError(f"the connection ended: {await peer.wait_closed()}")

    async def _until_renewal(self) -> NoReturn:
        await self._renew.wait()
        raise _NewConnectionNeeded

    async def _catch_up(self) -> None:
        """Send what was updated while the workflow warmed up, and a pause that another server was in."""
        now = prompts.wanted(self._host.params, self._resources.template)
        if bool(now.prompts) != bool(self._wanted.prompts):
            self._renew.set()
            return
        todo: list[Message] = []
        if now.resolution is not None and now.resolution != self._wanted.resolution:
            todo.append({"type": "update_resolution", **now.resolution})
        if now.prompts != self._wanted.prompts:
            todo.append({"type": "update_prompts", "prompts": now.prompts})
        if now.paused and now.prompts:
            todo.append({"type": "pause_prompts"})
        self._wanted = now
        for message in todo:
            try:
                await self._ask(message)
            except UpdateRefused as error:
                self._log.warning("comfystream did not take a change", detail=str(error))

    async def _close_peer(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            self._dropped += peer.dropped
            await peer.close()

    # messages

    async def _ask(self, message: Message) -> Message:
        """Send one message and return its answer. Raises UpdateRefused."""
        peer = self._peer
        if peer is None:
            raise UpdateRefused("worker_busy", "the connection to the server is not up: try again")
        try:
            answer = await peer.request(message)
        except TooMany as error:
            raise UpdateRefused("worker_busy", str(error)) from error
        except NoAnswer as error:
            raise UpdateRefused("worker_silent", str(error)) from error
        if answer.get("success") is False:
            if message.get("type") == "update_prompts":
                await self._go_on(peer)
            raise UpdateRefused("worker_refused", f"the server refused: {answer.get('error')}")
        if self._wanted.prompts:
            self.paused = {"pause_prompts": True, "stop_prompts": True, "resume_prompts": False}.get(
                str(message.get("type")), self.paused
            )
        return answer

    async def _go_on(self, peer: ServerPeer) -> None:
        """Resume the former prompts.

        ComfyStream halts them when it refuses an update, and resumes only what was stopped.
        """
        try:
            await peer.request({"type": "stop_prompts"})
            if not self.paused:
                await peer.request({"type": "resume_prompts"})
        except (TooMany, NoAnswer) as error:
            self._log.warning("comfystream may have halted the prompts", detail=str(error))

    async def _renew_with(self, params: Mapping[str, Any]) -> Message:
        """Make a new connection with these parameters too, and wait until it is up."""
        timeout = self._resources.timing.offer_timeout
        self._host.keep_params(params)
        self.paused = False
        self._renewed.clear()
        self._renew.set()
        try:
            async with asyncio.timeout(timeout):
                await self._renewed.wait()
        except TimeoutError:
            raise UpdateRefused("worker_silent", f"no answer in {timeout:g} s") from None
        if self._state != "online":
            raise UpdateRefused("worker_busy", "the server failed: the next one gets the prompts")
        return {"type": "prompts_updated", "success": True}


class _NewConnectionNeeded(Exception):
    """Another connection is to replace this one."""
