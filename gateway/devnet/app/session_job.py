"""One session at the app: its channels, the job that changes the picture, its texts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog

from gateway.aio.tasks import TaskGroup
from gateway.devnet.app.channels import ChannelMaker
from gateway.devnet.runner.request import RunnerRequest
from gateway.devnet.runner.runner_job import TransformJob
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelError

TEXT_INTERVAL = 1.0
VIDEO, JSON = "video/mp2t", "application/json"

Json = dict[str, Any]
log = structlog.get_logger("devnet.app")


class SessionJob:
    """`start` makes the channels, `run` does the work until they end or it is cancelled.

    `headers` are those that the orchestrator's proxy adds to each request of the session. Without `works` the
    channels are made and nothing else is done.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        headers: Mapping[str, str],
        params: Json,
        *,
        text: bool,
        works: bool = True,
    ) -> None:
        self.answer: Json = {}
        self._channels = ChannelMaker(http, headers)
        self._http = http
        self._params = params
        self._text = text
        self._text_url: str | None = None
        self._works = works
        self._job: TransformJob | None = None

    @property
    def session_id(self) -> str:
        return self._channels.session_id

    async def start(self) -> None:
        """Make the channels; the answer to the client is in `answer`. Raises NoChannels."""
        text = [("text", JSON)] if self._text else []
        made = await self._channels.make([("in", VIDEO), ("out", VIDEO), *text])
        self._job = work_of(
            self._http, self.session_id, made["in"].internal_url, made["out"].internal_url, self._params
        )
        self._text_url = made["text"].internal_url if "text" in made else None
        self.answer = {"session": self.session_id, **{name: one.url for name, one in made.items()}}

    def update(self, params: Json) -> None:
        """Change the effect."""
        if self._job is not None:
            self._job.apply_params(params)

    def description(self) -> Json:
        """What the job has done so far, without the session's id."""
        return {} if self._job is None else self._job.description()

    async def run(self) -> None:
        """Do the work. Raises only CancelledError."""
        assert self._job is not None
        if not self._works:
            await asyncio.Event().wait()
        async with TaskGroup() as group:
            texts = group.create_task(self._send_texts(), name="app-texts")
            await self._job.run()
            texts.cancel()

    async def _send_texts(self) -> None:
        """Say each second how many pictures were changed, where there is a channel for it."""
        if self._text_url is None or self._job is None:
            return
        channel = JsonPublisher(self._http, self._text_url, keep_alive=None, log=log)
        try:
            async with TaskGroup() as group:
                group.create_task(channel.run(), name="app-text-out")
                while True:
                    frames = self._job.description()["frames_out"]
                    channel.publish({"type": "text", "text": f"{frames} pictures"})
                    await asyncio.sleep(TEXT_INTERVAL)
        except ChannelError as error:
            log.info("no more texts", error=str(error))
        finally:
            await channel.close()


def work_of(
    http: aiohttp.ClientSession, session_id: str, subscribe_url: str, publish_url: str, params: Json
) -> TransformJob:
    """The job that changes the pictures of a session."""
    # the session's id is a secret, which logs must not have
    name = hashlib.sha256(session_id.encode()).hexdigest()[:8]
    request = RunnerRequest(
        model_id="echo",
        subscribe_url=subscribe_url,
        publish_url=publish_url,
        params=params,
        manifest_id=name,
        stream_id=name,
    )
    return TransformJob(request, http=http, default_effect="none")
