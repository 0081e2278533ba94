"""One session at the app: its channels, the job that changes the picture, its texts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog

from gateway.aio.tasks import TaskGroup
from gateway.devnet.runner.request import RunnerRequest
from gateway.devnet.runner.runner_job import TransformJob
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelError

TEXT_INTERVAL = 1.0
VIDEO, JSON = "video/mp2t", "application/json"
TIMEOUT = 5.0

Json = dict[str, Any]
log = structlog.get_logger("devnet.app")


class NoChannels(Exception):
    """The orchestrator made no channels for the session."""


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
        self.session_id = headers.get("Livepeer-Session-Id", "")
        self.answer: Json = {}
        self._http = http
        self._control = headers.get("Livepeer-Session-Control", "")
        self._token = headers.get("Livepeer-Session-Token", "")
        self._params = params
        self._text = text
        self._text_url: str | None = None
        self._works = works
        self._job: TransformJob | None = None

    async def start(self) -> None:
        """Make the channels; the answer to the client is in `answer`. Raises NoChannels."""
        wanted = [("in", VIDEO), ("out", VIDEO), *([("text", JSON)] if self._text else [])]
        urls: dict[str, str] = {}
        internal: dict[str, str] = {}
        try:
            async with self._http.post(
                f"{self._control}/channels",
                json={"channels": [{"name": name, "mime_type": mime} for name, mime in wanted]},
                headers={"Livepeer-Session-Token": self._token},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            ) as answer:
                if answer.status != 200:
                    raise NoChannels(f"the orchestrator answered {answer.status}")
                for channel in (await answer.json(content_type=None))["channels"]:
                    urls[channel["name"]] = channel["url"]
                    internal[channel["name"]] = channel.get("internal_url") or channel["url"]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            raise NoChannels(f"the orchestrator cannot be reached: {type(error).__name__}") from error
        # the session's id is a secret, which logs must not have
        name = hashlib.sha256(self.session_id.encode()).hexdigest()[:8]
        request = RunnerRequest(
            model_id="echo",
            subscribe_url=internal["in"],
            publish_url=internal["out"],
            params=self._params,
            manifest_id=name,
            stream_id=name,
        )
        self._job = TransformJob(request, http=self._http, default_effect="none")
        self._text_url = internal.get("text")
        self.answer = {"session": self.session_id, **urls}

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
