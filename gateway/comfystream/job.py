"""A stream on one of the operator's own ComfyStream servers: nothing is paid, and the ledger says so."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NoReturn

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.comfystream import prompts
from gateway.comfystream.channels import Message
from gateway.comfystream.errors import BadParams, ComfyStreamError, NoAnswer, TooMany
from gateway.comfystream.feedback import keep_feeding_back
from gateway.comfystream.peer import OFFER_TIMEOUT, ServerPeer
from gateway.comfystream.prompts import Template, Wanted
from gateway.comfystream.servers import COMFYSTREAM, ComfyServers
from gateway.media.frames import Frame
from gateway.media.gop import GopBuffer
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, LedgerError, SessionRecord
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
from gateway.webrtc.config import WebRtcConfig

TEXTS_SHOWN = 8
"""The newest text results that the status shows."""
TEXT_LOGGED = 200
"""Characters of a text result in the log, where one stands that differs from the one before."""


@dataclass(frozen=True)
class ComfyResources:
    """What every job on the own servers shares."""

    http: aiohttp.ClientSession
    servers: ComfyServers
    ledger: Ledger
    webrtc: WebRtcConfig
    template: Template | None


class ComfyJob:
    """One stream on one server. A connection offered without prompts stays a pass-through for its whole
    life, so that a change between none and some makes a new connection; the stream stays."""

    def __init__(
        self,
        own: ComfyResources,
        candidate: Candidate,
        request: PublishRequest,
        host: JobHost,
        log: FilteringBoundLogger,
    ) -> None:
        self.live = False
        self.paused = False
        self._own = own
        self._server = own.servers.server(candidate.addr)
        self._request = request
        self._host = host
        self._log = log.bind(comfystream=candidate.url)
        self._wanted = Wanted()
        self._peer: ServerPeer | None = None
        self._held: GopBuffer | None = None
        self._renew = asyncio.Event()
        self._renewed = asyncio.Event()
        self._state = "starting"
        self._texts: deque[str] = deque(maxlen=TEXTS_SHOWN)
        self._text_count = 0
        self._dropped = 0
        self._session: str | None = None

    # the stream's side

    async def run(self) -> NoReturn:
        """Connect and relay. Raises Ended; `close` gives back what was taken."""
        if not self._server.take(self, time.monotonic()):
            raise NoRoom(EndReason.ORCHESTRATOR_LOST, f"{self._server.url} has a stream already")
        try:
            await self._write_down()
            while True:
                self._wanted = prompts.wanted(self._host.params, self._own.template)
                self._renew.clear()
                await self._one_connection()
        except BadParams as error:
            raise Ended(EndReason.NO_ORCHESTRATOR, f"the parameters cannot be used: {error}") from error
        except ComfyStreamError as error:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._server.url}: {error}") from error

    def push(self, frame: Frame) -> None:
        if self._peer is not None and self._state == "online":
            self._peer.send(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Send what the parameters come to, in order; the server's answers. Raises UpdateRefused."""
        try:
            todo = prompts.messages(params, self._own.template)
            wanted = prompts.wanted(merge_params(self._host.params, params), self._own.template)
        except BadParams as error:
            raise UpdateRefused("worker_refused", str(error)) from error
        answers = []
        for message in todo:
            if message.get("type") == "update_prompts" and "prompts" in message:
                prompts_now = prompts.read_prompts(message["prompts"], self._own.template)
                if bool(prompts_now) != bool(self._wanted.prompts):
                    answers.append(await self._renew_with(params))
                    continue
            answers.append(await self._ask(message))
        self._wanted = Wanted(wanted.prompts, wanted.resolution, self.paused)
        return {"answers": answers}

    async def close(self, reason: EndReason) -> None:
        """Close the connection, and let the server be used by others."""
        try:
            await self._close_peer()
        finally:
            self._state = "closed"
            self._renewed.set()
            self._server.warming = False
            self._server.give_back(self, time.monotonic())
            session, self._session = self._session, None
            if session is not None:
                # what cannot be written is the ledger's trouble, which it tells of itself: nothing was paid
                with suppress(LedgerError):
                    await self._own.ledger.close_session(session, reason, "the operator's own server: free")

    def status(self) -> JobStatus:
        return JobStatus(
            worker={
                "type": "status",
                "comfystream": {
                    "state": "paused" if self.paused else self._state,
                    "prompts": len(self._wanted.prompts),
                    "resolution": self._wanted.resolution,
                    "texts": list(self._texts),
                    "texts_total": self._text_count,
                },
            },
            orchestrator=OrchestratorRef(url=self._server.url, price=Fraction(0), kind=COMFYSTREAM),
            dropped=self._dropped + (self._peer.dropped if self._peer is not None else 0),
        )

    # the connection

    async def _write_down(self) -> None:
        """A session at price 0: the ledger knows of the stream, and that it costs nothing."""
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
            self._session = await self._own.ledger.open_session(record)
        except LedgerError as error:
            # nothing is spent, so a full disk is no reason to end the stream
            self._log.warning("the ledger does not know of this stream", detail=str(error))

    async def _one_connection(self) -> None:
        """Job over one connection until another is wanted. Raises ComfyStreamError."""
        peer = self._peer = ServerPeer(
            self._own.webrtc, self._host.on_output, self._host.request_key_frame, self._on_text, self._log
        )
        try:
            async with TaskGroup() as group:
                name = f"comfystream {self._request.request_id}"
                group.create_task(self._until_lost(), name=f"{name} health")
                group.create_task(self._relay(peer), name=f"{name} relay")
        except _Renewed:
            pass
        finally:
            self._host.limit_bitrate(None)
            await self._close_peer()

    async def _until_lost(self) -> NoReturn:
        raise ComfyStreamError(await self._server.wait_lost())

    async def _relay(self, peer: ServerPeer) -> NoReturn:
        self._state, self._server.warming = "warming_up", True
        self._log.info("comfystream is offered the stream", prompts=len(self._wanted.prompts))
        offered = self._wanted
        if offered.resolution is None and self._host.size is not None:
            # so that a workflow warms up for the pictures that come, not for a size of the server's own
            width, height = self._host.size
            offered = replace(offered, resolution={"width": width, "height": height})
        await peer.connect(self._own.http, self._server.url, offered, audio=self._host.has_audio)
        self._server.warming = False
        if self._held is None:
            self._held = self._host.on_live()
        for frame in self._held.frames():
            peer.send(frame)
        self._state, self.live = "online", True
        self._renewed.set()
        self._log.info("comfystream takes the stream", prompts=len(self._wanted.prompts))
        highest = self._own.webrtc.max_bitrate_kbps * 1000
        async with TaskGroup() as group:
            name = f"comfystream {self._request.request_id}"
            group.create_task(self._until_closed(peer), name=f"{name} connection")
            group.create_task(keep_feeding_back(peer, self._host, highest), name=f"{name} feedback")
            group.create_task(self._until_renewal(), name=f"{name} renewal")
            group.create_task(self._catch_up(), name=f"{name} catch up")
        raise AssertionError("a connection ends with a reason")

    async def _until_closed(self, peer: ServerPeer) -> NoReturn:
        raise ComfyStreamError(f"the connection ended: {await peer.wait_closed()}")

    async def _until_renewal(self) -> NoReturn:
        await self._renew.wait()
        raise _Renewed

    async def _catch_up(self) -> None:
        """Send what was updated while the workflow warmed up, and the pause that a former server was in."""
        now = prompts.wanted(self._host.params, self._own.template)
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
        """Have one message answered. Raises UpdateRefused."""
        peer = self._peer
        if peer is None:
            raise UpdateRefused("worker_busy", "the server is being connected to: try again")
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
        """Have the former prompts run again: ComfyStream halts them over an update that it refuses, and
        resumes only what was stopped."""
        try:
            await peer.request({"type": "stop_prompts"})
            if not self.paused:
                await peer.request({"type": "resume_prompts"})
        except (TooMany, NoAnswer) as error:
            self._log.warning("comfystream's prompts may stand still", detail=str(error))

    async def _renew_with(self, params: Mapping[str, Any]) -> Message:
        """Make a new connection with these parameters among the others, and wait until it is up."""
        self._host.keep_params(params)
        self.paused = False
        self._renewed.clear()
        self._renew.set()
        try:
            async with asyncio.timeout(OFFER_TIMEOUT):
                await self._renewed.wait()
        except TimeoutError:
            raise UpdateRefused("worker_silent", f"no answer in {OFFER_TIMEOUT:g} s") from None
        if self._state != "online":
            raise UpdateRefused("worker_busy", "the server was lost meanwhile: another one gets the prompts")
        return {"type": "prompts_updated", "success": True}

    def _on_text(self, text: str) -> None:
        if not self._texts or text != self._texts[-1]:
            self._log.info("text result", text=text[:TEXT_LOGGED])
        self._texts.append(text)
        self._text_count += 1


class _Renewed(Exception):
    """Another connection is to take the place of this one."""
