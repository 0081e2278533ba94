"""What a stream asks of its server: prompts, resolution and pause, over one connection after another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from structlog.typing import FilteringBoundLogger

from gateway.comfystream import nodes, prompts
from gateway.comfystream.channels import MAX_WAITING, Message
from gateway.comfystream.errors import BadParams, NoAnswer, TooMany
from gateway.comfystream.peer import ServerPeer
from gateway.comfystream.prompts import Template, Wanted, Workflow
from gateway.comfystream.timing import ServerTiming
from gateway.stream.seam import JobHost, Json, UpdateRefused


class ServerControl:
    """Turns updates into messages, and checks that the server does what it says.

    ComfyStream never gives prompts to a connection that was offered without any, nor texts to one that was
    offered without those. Such a change asks for a new connection: `renew` is set, and the job makes one.
    """

    def __init__(
        self, host: JobHost, template: Template | None, timing: ServerTiming, log: FilteringBoundLogger
    ) -> None:
        self.wanted = Wanted()
        self.paused = False
        """Whether the server is asked for no pictures. None are to be sent: it would keep them all."""
        self.workflow_error = ""
        """Why the server does not run its workflow; empty where it does."""
        self.renew = asyncio.Event()
        self._host = host
        self._template = template
        self._timing = timing
        self._log = log
        self._peer: ServerPeer | None = None
        self._up = asyncio.Event()
        """Set while the connection is up, and at the end."""
        self._changed = asyncio.Event()
        """Set when the prompts may be others than at the last check."""
        self._prompts_lock = asyncio.Lock()
        """Held while the prompts are changed, and while it is checked that the server runs them."""
        self._updates = 0
        """Updates that are not yet answered."""
        self._carries_texts = False

    # the connection's side

    def begin(self) -> Wanted:
        """A connection is to be made: returns what it is to be offered with. Raises BadParams."""
        self.wanted = prompts.wanted(self._host.params, self._template)
        self.renew.clear()
        self._up.clear()
        return self.wanted

    def connected(self, peer: ServerPeer) -> None:
        self._peer = peer
        self._carries_texts = prompts.gives_texts(self.wanted.prompts)
        self._up.set()

    def disconnected(self) -> None:
        self._peer = None
        self._up.clear()

    def close(self) -> None:
        """There is no further connection: what waits for one is refused."""
        self._peer = None
        self._up.set()

    async def catch_up(self) -> None:
        """Send what was updated while the workflow warmed up, and a pause that another server was in."""
        async with self._prompts_lock:
            now = prompts.wanted(self._host.params, self._template)
            if self._needs_connection(now.prompts):
                self.renew.set()
                return
            todo: list[Message] = []
            if now.resolution is not None and now.resolution != self.wanted.resolution:
                todo.append({"type": "update_resolution", **now.resolution})
            if now.prompts != self.wanted.prompts:
                todo.append({"type": "update_prompts", "prompts": now.prompts})
            if now.paused and now.prompts:
                todo.append({"type": "pause_prompts"})
            self.wanted = now
            for message in todo:
                try:
                    await self._ask(message)
                except UpdateRefused as error:
                    self._host.report_error(f"the server did not take a change: {error}")

    async def watch_workflow(self) -> NoReturn:
        """Say it in the status where the server does not run the workflow."""
        timing = self._timing
        soon = True
        while True:
            async with self._prompts_lock:
                self.workflow_error = await self._why_not_run(self.wanted.prompts)
            if self.workflow_error:
                self._host.report_error(self.workflow_error)
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timing.workflow_recheck if soon else timing.workflow_check):
                    await self._changed.wait()
            soon = self._changed.is_set()

    # the stream's side

    async def update(self, params: Mapping[str, Any], *, started: bool) -> Json:
        """Send the messages for these parameters; returns the server's answers. Raises UpdateRefused.

        Before the job has `started`, they wait for that; a message that only asks is waited for.
        """
        lasting = prompts.lasting(params)
        try:
            todo = prompts.messages(params, self._template)
            prompts.wanted(lasting, self._template)
        except BadParams as error:
            raise UpdateRefused("worker_refused", str(error)) from error
        if not started and lasting:
            self._host.keep_params(lasting)
            return {}
        if self._updates >= MAX_WAITING:
            raise UpdateRefused("worker_busy", f"{MAX_WAITING} updates wait for the server's answers already")
        self._updates += 1
        try:
            answers = [await self._do(message, lasting) for message in todo]
        finally:
            self._updates -= 1
        self.wanted = replace(
            self.wanted,
            resolution=prompts.read_resolution(lasting) or self.wanted.resolution,
            paused=self.paused,
        )
        if lasting:
            self._host.keep_params(lasting)
        return {"answers": answers}

    # messages

    async def _do(self, message: Message, params: Mapping[str, Any]) -> Message:
        """Do what one message of an update, which has these parameters, asks for. Raises UpdateRefused."""
        if message.get("type") != "update_prompts" or "prompts" not in message:
            return await self._ask(message)
        newer = prompts.read_prompts(message["prompts"], self._template)
        async with self._prompts_lock:
            return await self._change_prompts(newer, params)

    async def _change_prompts(self, newer: list[Workflow], params: Mapping[str, Any]) -> Message:
        """Have the server run these workflows, over a new connection where it needs one.

        Raises UpdateRefused, also where it takes but cannot run them: the former ones go on then.
        """
        await self._connection()
        former = self.wanted.prompts
        renews = self._needs_connection(newer)
        if renews:
            answer = await self._renew_with(params)
        else:
            answer = await self._ask({"type": "update_prompts", "prompts": newer})
        why_not = await self._why_not_run(newer)
        if why_not:
            await self._bring_back(former, renewed=renews)
            raise UpdateRefused("worker_refused", why_not)
        self.wanted = replace(self.wanted, prompts=newer)
        self.workflow_error = ""
        self._changed.set()
        return answer

    def _needs_connection(self, workflows: Sequence[Workflow]) -> bool:
        """Whether the server gives these workflows, or their texts, to a new connection only."""
        if bool(workflows) != bool(self.wanted.prompts):
            return True
        return prompts.gives_texts(workflows) and not self._carries_texts

    async def _why_not_run(self, workflows: Sequence[Workflow]) -> str:
        """Why the server does not run these workflows; empty where it does, or does not tell."""
        if not workflows or self._peer is None:
            return ""
        try:
            answer = await self._peer.request({"type": "get_nodes"})
        except (TooMany, NoAnswer):
            return ""
        return nodes.why_not_run(workflows, answer.get("nodes"))

    async def _bring_back(self, former: list[Workflow], *, renewed: bool) -> None:
        """Have the server run the former prompts again, and not its pass-through."""
        try:
            if len(former) == 1:  # as many as the pass-through has: an update may not change their number
                await self._ask({"type": "update_prompts", "prompts": former})
                if renewed:
                    self._host.keep_params({"prompts": former})
            else:
                await self._renew_with({"prompts": former})
        except UpdateRefused as error:
            self._log.warning("comfystream did not take the former prompts back", detail=str(error))

    async def _renew_with(self, params: Mapping[str, Any]) -> Message:
        """Have a new connection made with these parameters too, and wait until it is up."""
        self._host.keep_params(params)
        self.paused = False
        self._up.clear()
        self.renew.set()
        await self._connection()
        return {"type": "prompts_updated", "success": True}

    async def _ask(self, message: Message) -> Message:
        """Send one message, once the connection is up, and return its answer. Raises UpdateRefused."""
        peer = await self._connection()
        kind, paused = str(message.get("type")), self.paused
        if kind in ("pause_prompts", "stop_prompts") and self.wanted.prompts:
            self.paused = True  # before the server is, so that no picture comes to it that it would keep
        try:
            answer = await self._answer(peer, message)
        except UpdateRefused:
            self.paused = paused
            raise
        if kind == "resume_prompts" and self.paused:
            peer.skip_to_key_frame()
            self.paused = False
            self._host.request_key_frame()
        return answer

    async def _answer(self, peer: ServerPeer, message: Message) -> Message:
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

    async def _connection(self) -> ServerPeer:
        """The connection, when it is up. Raises UpdateRefused where it does not come up in time."""
        timeout = self._timing.offer_timeout
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            raise UpdateRefused("worker_silent", f"no answer in {timeout:g} s") from None
        if self._peer is None:
            raise UpdateRefused("worker_busy", "the connection to the server is not up: try again")
        return self._peer
