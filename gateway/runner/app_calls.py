"""Calls to the app of one session, by HTTP or by messages as its profile says, and its texts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.aio.inside import Reach
from gateway.aio.tasks import TaskGroup
from gateway.orchestrator.errors import BadAnswer, OrchestratorError
from gateway.orchestrator.urls import complete
from gateway.runner.app_start import AppChannels, start_app
from gateway.runner.client import TIMEOUT, RunnerClient
from gateway.runner.control import ControlChannel, channels_of
from gateway.runner.profile import AppProfile
from gateway.runner.text_route import TextRoute
from gateway.trickle.errors import ChannelError
from gateway.trickle.events import JsonSubscriber

STOP_TIMEOUT = 1.0
"""Seconds for the app's stop: its session is stopped then all the same."""
MAX_TEXT = 64 * 1024
"""Limit in bytes of one text."""

Json = dict[str, Any]


class AppCalls:
    """`run` carries messages and texts, and goes on beside the other calls.

    `app_url` and the channels are secrets: `name` stands for them in logs and errors. `reach` is where the
    session's URLs may lead. `tell` is called with each text.
    """

    def __init__(
        self,
        client: RunnerClient,
        app_url: str,
        reach: Reach,
        profile: AppProfile,
        log: FilteringBoundLogger,
        *,
        name: str,
        tell: Callable[[Json], None] = lambda text: None,
    ) -> None:
        self._tell = tell
        self.text: Json = {}
        """The app's newest."""
        self._client = client
        self._url = app_url
        self._reach = reach
        self._profile = profile
        self._log = log
        self._name = name
        self._control: ControlChannel | None = None
        self._text_url = ""
        self._called = asyncio.Event()

    async def start(self, params: Mapping[str, Any]) -> AppChannels:
        """Start it with a stream's parameters.

        Raises AppRefused where it does not take them, or another OrchestratorError.
        """
        profile = self._profile
        channels = await start_app(self._client, self._url, self._reach, profile, params)
        self.go_on(channels)
        if self._control is None:
            return channels
        wanted, timeout = profile.whole(params), profile.start.timeout
        await self._control.load(wanted, timeout=timeout)
        found = channels_of(await self._control.start(wanted, timeout=timeout))
        try:
            urls = {name: complete(url, self._url) for name, url in found.items()}
            started = replace(channels, input=urls["in"], output=urls["out"], sound=urls.get("sound", ""))
        except (KeyError, ValueError) as error:
            raise BadAnswer("the app's answer has no channels in and out") from error
        self._client.check_tls(*urls.values())
        return started

    def go_on(self, channels: AppChannels) -> None:
        """The app has these channels. Raises Unreachable where one must not be used without TLS."""
        self._client.check_tls(*channels.urls)
        if channels.control:
            assert self._profile.handshake is not None
            self._control = ControlChannel(
                self._client.http_for(self._reach),
                channels.control,
                channels.events,
                self._profile.handshake,
                self._log,
                name=self._name,
                resume=bool(channels.input),
                tell=self._said,
            )
        self._text_url = channels.text
        self._called.set()

    @property
    def takes_updates(self) -> bool:
        return self._control is not None or bool(self._profile.update.path)

    async def update(self, body: Mapping[str, Any]) -> Json:
        """Change the app's parameters; gives its answer. Raises AppRefused or another OrchestratorError."""
        if self._control is not None:
            return await self._control.update(body)
        url = f"{self._url}{self._profile.update.path}"
        return await self._call(url, body)

    async def pause(self, *, on: bool) -> Json:
        """Halt the app, or have it go on, as its profile says. Raises as `update`."""
        how = self._profile.pause
        assert how is not None, "the app can be halted"
        if how.param:
            return await self.update({how.param: on})
        url = f"{self._url}{how.path if on else how.resume_path}"
        return await self._call(url, {})

    async def stop(self) -> None:
        """Have the app end its work, where its profile says how: the session may end before it has."""
        path = self._profile.stop.path
        if path:
            try:
                await self._call(f"{self._url}{path}", {}, timeout=STOP_TIMEOUT)
            except OrchestratorError as error:
                self._log.info("the app was not stopped", error=error.full)

    async def run(self) -> None:
        """Raises ChannelError where a channel of messages has ended."""
        await self._called.wait()
        async with TaskGroup() as group:
            if self._control is not None:
                group.create_task(self._control.run(), name=f"app messages {self._name}")
            if self._text_url:
                group.create_task(self._read_texts(), name=f"app texts {self._name}")
            if self._profile.text.path:
                group.create_task(self._read_route(self._profile.text.path), name=f"app text {self._name}")

    async def _call(self, url: str, body: Mapping[str, Any], *, timeout: float = TIMEOUT) -> Json:
        errors = self._profile.errors
        return dict(await self._client.call_app(url, self._reach, body, errors=errors, timeout=timeout))

    def _said(self, text: Json) -> None:
        self.text = text
        self._tell(text)

    async def _read_route(self, path: str) -> None:
        route = TextRoute(
            self._client.http_for(self._reach), f"{self._url}{path}", self._log, max_text=MAX_TEXT
        )
        async for text in route.texts():
            self._said(text)

    async def _read_texts(self) -> None:
        texts = JsonSubscriber(
            self._client.http_for(self._reach),
            self._text_url,
            lines=True,
            name=self._name,
            max_message=MAX_TEXT,
            log=self._log,
        )
        try:
            async for text in texts:
                self._said(text)
        except ChannelError as error:
            self._log.info("no more texts of the app", error=str(error))
