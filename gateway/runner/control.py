"""An app that is started and updated by messages: JSON lines on a control and an events channel.

Each request has a `request_id`, and its answer, or an `error`, has the same. The messages are Scope's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import TaskGroup
from gateway.orchestrator.errors import BadAnswer, UnknownOutcome
from gateway.runner.errors import AppRefused
from gateway.runner.profile import Handshake
from gateway.trickle.control import JsonPublisher
from gateway.trickle.events import JsonSubscriber
from gateway.trickle.wire import NEXT

ANSWER_TIMEOUT = 10.0
"""Seconds for the answer to a message, unless the caller says otherwise."""
MAX_SAID = 300
"""Characters of an app's error, and of a text that it sends unasked, that are kept."""
UNASKED = ("type", "status", "message", "error", "detail", "progress")
"""What is told of a message that answers nothing: others may hold channels and ids, which are secrets."""

Json = dict[str, Any]


class ControlChannel:
    """Requests to one app. `run` does the I/O, and raises ChannelError where a channel has ended.

    The URLs are secrets: `name` stands for them in logs and errors. With `resume` it goes on with channels
    that another process has used. `tell` is called with what the app says unasked.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        control_url: str,
        events_url: str,
        handshake: Handshake,
        log: FilteringBoundLogger,
        *,
        name: str,
        resume: bool = False,
        tell: Callable[[Json], None] = lambda said: None,
    ) -> None:
        self._tell = tell
        self._handshake = handshake
        self._messages = JsonPublisher(
            http, control_url, name=name, lines=True, keep_alive=None, resume=resume, log=log
        )
        self._events = JsonSubscriber(
            http, events_url, name=name, lines=True, start=NEXT if resume else 0, log=log
        )
        self._waiting: dict[str, asyncio.Future[Json]] = {}

    async def run(self) -> None:
        """Send, read and ping until cancelled."""
        try:
            async with TaskGroup() as group:
                group.create_task(self._messages.run(), name="app control")
                group.create_task(self._read(), name="app events")
                group.create_task(self._ping(), name="app ping")
        finally:
            # the end of the session ends the channels
            await asyncio.gather(self._messages.close(leave=True), self._events.close())

    async def load(self, wanted: Mapping[str, Any], *, timeout: float) -> None:
        """Have the app load what the profile's `load` names, with a stream's parameters over it."""
        handshake = self._handshake
        if not handshake.load_path:
            return
        body = {name: wanted.get(name, value) for name, value in handshake.load.items()}
        answer = await self._ask(
            {"type": "api", "method": "POST", "path": handshake.load_path, "body": body}, timeout=timeout
        )
        status = answer.get("status")
        if isinstance(status, int) and status >= 400:
            raise AppRefused(status, f"HTTP {status} from {handshake.load_path}")

    async def start(self, wanted: Mapping[str, Any], *, timeout: float) -> Json:
        """Start the stream. Gives the answer, which has its channels."""
        return await self._ask({"type": "start_stream", "params": dict(wanted)}, timeout=timeout)

    async def update(self, changes: Mapping[str, Any]) -> Json:
        """Change parameters of the stream that runs."""
        answer = await self._ask({"type": "parameters", "params": dict(changes)})
        return {key: value for key, value in answer.items() if key not in ("type", "request_id")}

    async def _ask(self, message: Json, *, timeout: float = ANSWER_TIMEOUT) -> Json:
        """The answer to a message. Raises AppRefused for an error, UnknownOutcome where none comes."""
        request_id = secrets.token_hex(8)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            if not self._messages.publish({**message, "request_id": request_id}):
                raise UnknownOutcome("the app takes no messages")
            async with asyncio.timeout(timeout):
                found = await answer
        except TimeoutError:
            raise UnknownOutcome(f"no answer to {message['type']} within {timeout:g} s") from None
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        finally:
            del self._waiting[request_id]
        if found.get("type") == "error":
            said = found.get("message") or found.get("error")
            raise AppRefused(400, "an error", said=said[:MAX_SAID] if isinstance(said, str) else "")
        return found

    async def _read(self) -> None:
        async for event in self._events:
            request_id = event.get("request_id")
            waiting = self._waiting.get(request_id) if isinstance(request_id, str) else None
            if waiting is not None and not waiting.done():
                waiting.set_result(event)
            elif request_id is None and event.get("type") != "pong" and (said := unasked(event)):
                self._tell(said)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._handshake.ping)
            self._messages.publish({"type": "ping"})


def unasked(event: Mapping[str, Any]) -> Json:
    """What may be told of a message that answers nothing: its type and short texts. Empty without a type."""
    said: Json = {}
    for name in UNASKED:
        match event.get(name):
            case str(text) if "://" not in text:
                said[name] = text[:MAX_SAID]
            case bool() | int() | float() as value:
                said[name] = value
    return said if isinstance(said.get("type"), str) else {}


def channels_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """The URLs in the answer to a start: of the pictures' channels `in` and `out`, and of `sound` that comes
    apart from them."""
    found: dict[str, str] = {}
    listed = answer.get("channels")
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or not isinstance(one.get("url"), str):
            continue
        mime, direction = one.get("mime_type"), one.get("direction")
        sounds = isinstance(mime, str) and mime.lower().startswith("audio/")
        if direction == "out" and sounds:
            found.setdefault("sound", one["url"])
        elif direction in ("in", "out") and not sounds:
            found.setdefault(direction, one["url"])
    return found
