"""A session of the app that is started by messages, as Daydream's Scope: JSON lines on two channels."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog

from gateway.aio.tasks import TaskGroup
from gateway.devnet.app.channels import ChannelMaker, NoChannels
from gateway.devnet.app.echo_request import BadEcho, read_params
from gateway.devnet.app.session_job import JSON, VIDEO, work_of
from gateway.devnet.app.tone import send_tone
from gateway.devnet.runner.runner_job import TransformJob
from gateway.trickle.control import JsonPublisher
from gateway.trickle.errors import ChannelError
from gateway.trickle.events import JsonSubscriber

AUDIO = "audio/MP2T"
LOAD = "/api/v1/pipeline/load"

Json = dict[str, Any]
log = structlog.get_logger("devnet.app")


class BadMessage(ValueError):
    """A message cannot be served; the text says why."""


class ScopeSession:
    """`start` makes the channels of messages, `run` serves them until one ends or it is cancelled.

    `headers` are those that the orchestrator's proxy adds to each request of the session. Loading takes
    `warm_up` seconds.
    """

    def __init__(self, http: aiohttp.ClientSession, headers: Mapping[str, str], *, warm_up: float) -> None:
        self.answer: Json = {}
        self._channels = ChannelMaker(http, headers)
        self._http = http
        self._warm_up = warm_up
        self._loaded = False
        self._job: TransformJob | None = None
        self._work: asyncio.Task[None] | None = None
        self._sound: asyncio.Task[None] | None = None

    @property
    def session_id(self) -> str:
        return self._channels.session_id

    async def start(self) -> None:
        """Make the channels; the answer to the client is in `answer`. Raises NoChannels."""
        made = await self._channels.make([("control", JSON), ("events", JSON)])
        self.answer = {
            "manifest_id": self.session_id,
            "control_url": made["control"].url,
            "events_url": made["events"].url,
        }
        self._control, self._events = made["control"].internal_url, made["events"].internal_url

    async def run(self) -> None:
        """Serve messages. Raises only CancelledError."""
        messages = JsonSubscriber(self._http, self._control, lines=True, name="control", log=log)
        answers = JsonPublisher(self._http, self._events, lines=True, name="events", keep_alive=None, log=log)
        try:
            async with TaskGroup() as group:
                sending = group.create_task(answers.run(), name="app-events")
                async for message in messages:
                    answers.publish(await self._answer(message, group))
                sending.cancel()
                if self._sound is not None:
                    self._sound.cancel()
        except ChannelError as error:
            log.info("no more messages", error=str(error))
        finally:
            await asyncio.gather(messages.close(), answers.close())

    def description(self) -> Json:
        """What the job has done so far."""
        return {} if self._job is None else self._job.description()

    async def _answer(self, message: Json, group: TaskGroup) -> Json:
        request_id = message.get("request_id")
        try:
            answer = await self._serve(message, group)
        except (BadMessage, BadEcho, NoChannels) as error:
            answer = {"type": "error", "error": str(error)}
        return answer if request_id is None else {**answer, "request_id": request_id}

    async def _serve(self, message: Json, group: TaskGroup) -> Json:
        match message.get("type"):
            case "ping":
                return {"type": "pong"}
            case "api":
                return await self._api(message)
            case "start_stream":
                return await self._start_stream(_object(message, "params"), group)
            case "parameters":
                if self._job is None:
                    raise BadMessage("no stream is running")
                self._change(self._job, _object(message, "params"))
                return {"type": "parameters_ack"}
            case "stop_stream":
                for work in (self._work, self._sound):
                    if work is not None:
                        work.cancel()
                return {"type": "stream_stopped"}
            case other:
                raise BadMessage(f"unknown type {other!r}")

    async def _api(self, message: Json) -> Json:
        if (message.get("method"), message.get("path")) != ("POST", LOAD):
            return {"type": "api_response", "status": 404, "body": {"detail": "Not Found"}}
        if not _object(message, "body").get("pipeline_ids"):
            return {"type": "api_response", "status": 422, "body": {"detail": "pipeline_ids is missing"}}
        await asyncio.sleep(self._warm_up)
        self._loaded = True
        return {"type": "api_response", "status": 200, "body": {"message": "loading initiated"}}

    async def _start_stream(self, params: Json, group: TaskGroup) -> Json:
        if not self._loaded:
            raise BadMessage("no pipeline is loaded")
        if self._work is not None:
            # as in Scope: who asks again is not told the channels again
            return {"type": "stream_started", "status": "already_running"}
        graph = params.get("graph")
        nodes = graph.get("nodes") if isinstance(graph, dict) else None
        types = {node.get("type") for node in nodes or () if isinstance(node, dict)}
        if "sink" not in types:
            raise BadMessage("the graph has no sink")
        effect = read_params(json.dumps(params).encode())
        wanted = [("in", VIDEO), ("out", VIDEO)] if "source" in types else [("out", VIDEO)]
        if params.get("produces_audio") is True:
            wanted.append(("sound", AUDIO))
        made = await self._channels.make(wanted)
        sound = made.pop("sound", None)
        if "in" in made:
            self._job = work_of(
                self._http,
                self.session_id,
                made["in"].internal_url,
                made["out"].internal_url,
                {"effect": "negative", **effect},
            )
            self._work = group.create_task(self._job.run(), name="app-work")
        channels = [
            {"url": one.url, "direction": name, "mime_type": VIDEO, "role": "media"}
            for name, one in made.items()
        ]
        if sound is not None:
            self._sound = group.create_task(send_tone(self._http, sound.internal_url), name="app-tone")
            channels.append(
                {"url": sound.url, "direction": "out", "mime_type": AUDIO, "role": "output_audio"}
            )
        return {"type": "stream_started", "channels": channels}

    def _change(self, job: TransformJob, params: Json) -> None:
        """What the parameters do not name stays as it is, as in Scope."""
        changes = read_params(json.dumps(params).encode())
        if isinstance(params.get("paused"), bool):
            job.pause(on=params["paused"])
        if changes:
            job.apply_params(changes)


def _object(message: Json, name: str) -> Json:
    value = message.get(name)
    if not isinstance(value, dict):
        raise BadMessage(f"{name} must be an object")
    return value
