"""The app in a reserved session: its start, and the parameters that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.aio.inside import Reach
from gateway.orchestrator.errors import OrchestratorError
from gateway.reason import Ended, EndReason, NoRoom, ParamsRefused
from gateway.runner.app_calls import AppCalls
from gateway.runner.app_start import AppChannels
from gateway.runner.client import RunnerClient
from gateway.runner.errors import AppRefused
from gateway.runner.profile import AppProfile, pause_in
from gateway.runner.reserve import RunnerSession
from gateway.stream.seam import JobHost, Json, UpdateRefused

REFUSALS: Mapping[int, type[Ended]] = {400: ParamsRefused, 409: NoRoom, 422: ParamsRefused}
"""What an app means that answers a start with this status: 409 is another session that it has."""


class AppSession:
    """One session's app, as `profile` says; `name` stands for it in errors, as its URL is a secret.

    `reach` is where the session's URLs may lead. `tell` gets each of its texts. `run` goes on
    beside all other calls.
    """

    def __init__(
        self,
        client: RunnerClient,
        session: RunnerSession,
        reach: Reach,
        profile: AppProfile,
        log: FilteringBoundLogger,
        *,
        name: str,
        tell: Callable[[Json], None] = lambda text: None,
    ) -> None:
        self.params: Json = {}
        """The stream's parameters that the app has, the newest last."""
        self.paused = False
        """Whether it was asked for no pictures."""
        self._shown = False
        """Whether it has shown a picture: until then it is in doubt, and is not halted."""
        self._calls = AppCalls(client, session.app_url, reach, profile, log, name=name, tell=tell)
        self._profile = profile
        self._log = log
        self._name = name

    @property
    def status(self) -> Json:
        """What the app says of itself, its newest text, and whether it is halted."""
        text = {"text": self._calls.text} if self._calls.text else {}
        return {**text, "paused": True} if self.paused else text

    async def run(self) -> None:
        """Carry the app's messages and texts. Raises ChannelError."""
        await self._calls.run()

    async def start(self, params: Mapping[str, Any]) -> AppChannels:
        """Start it with a stream's parameters. Raises Ended: ParamsRefused and NoRoom are not its fault."""
        self.params = dict(params)
        try:
            return await self._calls.start(self.params)
        except AppRefused as error:
            kind = REFUSALS.get(error.status, Ended)
            detail = f"{self._name}: the app did not take the start: {error.full}"
            raise kind(EndReason.ORCHESTRATOR_LOST, detail) from error
        except OrchestratorError as error:
            detail = f"{self._name}: the app did not start: {error}"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from error

    async def stop(self) -> None:
        """It is not needed any more."""
        await self._calls.stop()

    def go_on(self, channels: AppChannels, params: Mapping[str, Any]) -> None:
        """A former run of the gateway has started it. Raises Ended."""
        self.params = dict(params)
        self.paused = self._shown = self._profile.pause is not None and bool(pause_in(params))
        try:
            self._calls.go_on(channels)
        except OrchestratorError as error:
            raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._name}: {error}") from error

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Change these of its parameters. Returns its answer. Raises UpdateRefused."""
        profile = self._profile
        pause = None if profile.pause is None else pause_in(params)
        halts = pause if self._shown or not pause else None
        if pause is None and not self._calls.takes_updates:
            raise UpdateRefused("worker_refused", f"the app {profile.app} takes no updates")
        wanted = {name: value for name, value in self.params.items() if name not in params} | dict(params)
        body = profile.translate(params)
        if profile.update.whole and (body or pause is None):
            body = profile.whole(wanted)
        if not body and pause is None:
            accepted = ", ".join(profile.params.names)
            raise UpdateRefused("worker_refused", f"the app {profile.app} takes {accepted}")
        try:
            answer = await self._calls.update(body) if body else {}
            if halts is not None:
                answer = {**answer, **await self._calls.pause(on=halts)}
        except AppRefused as error:
            raise UpdateRefused("worker_refused", f"the app refused: {error.full}") from error
        except OrchestratorError as error:
            raise UpdateRefused("worker_silent", f"the app did not answer: {error}") from error
        self.params = wanted
        if halts is not None:
            self.paused = halts
        if pause is not None:
            self.params = {name: value for name, value in wanted.items() if name != "resume"} | {
                "pause": pause
            }
        return answer

    async def first_picture_came(self) -> None:
        """Halt it where its stream was halted before that."""
        self._shown = True
        if self._profile.pause is not None and pause_in(self.params) and not self.paused:
            try:
                await self.update({"pause": True})
            except UpdateRefused as error:
                self._log.warning("the app was not halted", detail=str(error))

    async def catch_up(self, host: JobHost) -> None:
        """Send what was updated of the stream's parameters since it has any."""
        newer = {key: value for key, value in host.params.items() if self.params.get(key) != value}
        if newer:
            try:
                await self.update(newer)
            except UpdateRefused as error:
                self._log.warning("the app did not take a change", detail=str(error))
