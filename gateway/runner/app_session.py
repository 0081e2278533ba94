"""The app in a reserved session: its start, and the parameters that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.aio.inside import Reach
from gateway.orchestrator.errors import OrchestratorError
from gateway.reason import Ended, EndReason
from gateway.runner.app_start import AppChannels, start_app
from gateway.runner.client import RunnerClient
from gateway.runner.errors import AppRefused
from gateway.runner.profile import AppProfile
from gateway.runner.reserve import RunnerSession
from gateway.stream.seam import JobHost, Json, UpdateRefused


class AppSession:
    """Calls to one session's app, as `profile` says; `name` stands for it in errors, as its URL is a secret.

    `reach` is where the session's URLs may lead.
    """

    def __init__(
        self, client: RunnerClient, session: RunnerSession, reach: Reach, profile: AppProfile, *, name: str
    ) -> None:
        self.params: Json = {}
        """The stream's parameters that the app has."""
        self._client = client
        self._session = session
        self._reach = reach
        self._profile = profile
        self._name = name

    async def start(self, params: Mapping[str, Any]) -> AppChannels:
        """Start it with a stream's parameters. Raises Ended."""
        self.params = dict(params)
        try:
            channels = await start_app(
                self._client, self._session.app_url, self._reach, self._profile, self.params
            )
            self._client.check_tls(channels.input, channels.output)
            return channels
        except AppRefused as error:
            detail = f"{self._name}: the app refused its parameters: {error}"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from error
        except OrchestratorError as error:
            detail = f"{self._name}: the app did not start: {error}"
            raise Ended(EndReason.ORCHESTRATOR_LOST, detail) from error

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Change these of its parameters. Returns its answer. Raises UpdateRefused."""
        profile = self._profile
        if not profile.update.path:
            raise UpdateRefused("worker_refused", f"the app {profile.app} takes no updates")
        wanted = {**self.params, **params}
        body = profile.start_body(wanted) if profile.update.whole else profile.translate(params)
        if not body:
            accepted = ", ".join(profile.params.names)
            raise UpdateRefused("worker_refused", f"the app {profile.app} takes {accepted}")
        try:
            url = f"{self._session.app_url}{profile.update.path}"
            answer = await self._client.call_app(url, self._reach, body)
        except AppRefused as error:
            raise UpdateRefused("worker_refused", f"the app refused: {error.full}") from error
        except OrchestratorError as error:
            raise UpdateRefused("worker_silent", f"the app did not answer: {error}") from error
        self.params = wanted
        return dict(answer)

    async def catch_up(self, host: JobHost, log: FilteringBoundLogger) -> None:
        """Send what was updated of the stream's parameters since it has any."""
        newer = {key: value for key, value in host.params.items() if self.params.get(key) != value}
        if newer:
            try:
                await self.update(newer)
            except UpdateRefused as error:
                log.warning("the app did not take a change", detail=str(error))
