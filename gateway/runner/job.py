"""A job on a live runner: a reserved session that is paid, and frames over its app's channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from typing_extensions import override

from gateway.aio.tasks import TaskGroup
from gateway.candidates.refused_starts import ANYBODY
from gateway.media.frames import AccessUnit, Frame
from gateway.paid_job.former_run import FormerRun
from gateway.reason import Ended, EndReason, NoRoom, ParamsRefused
from gateway.runner.app_session import AppSession
from gateway.runner.app_start import AppChannels
from gateway.runner.first_picture import FirstPicture
from gateway.runner.profile import AppProfile
from gateway.runner.reserved_job import ReservedJob
from gateway.runner.session_details import shown
from gateway.runner.sound import SoundChannel
from gateway.stream.seam import JobStatus, Json
from gateway.trickle.errors import ChannelError
from gateway.trickle.liveness import Liveness
from gateway.trickle.relay import Relay


class RunnerJob(ReservedJob):
    """One job: challenge, first payment, reserve, the app's start, then frames and payments until the end.

    The session costs from its reserve on, so payments run beside the app's start. With `former` it goes on
    with the session that another run of the gateway left, and is held at first.
    """

    _app: AppSession | None = None
    _picture: FirstPicture | None = None
    _newest: int | None = None
    """The decoding time of the newest picture that came back, in ticks."""

    # the stream's side

    async def run(self) -> None:
        """Reserve, pay, start the app and relay. Raises Ended."""
        session = self._session
        if session is None:
            session = await self._reserve()
        else:
            self._log.info("session of a former run goes on")
        self._pins.hold(session.app_url, session.control_url)
        try:
            async with TaskGroup() as group:
                name = f"job {self._request.request_id}"
                if self._payer is not None:
                    group.create_task(self._payer.run(), name=f"{name} payments")
                picture = self._picture = self._first_picture()
                watch = picture.watch(self._url, lambda: self._held)
                group.create_task(watch, name=f"{name} first picture")
                app = self._app = AppSession(
                    self._resources.client,
                    session,
                    self._reach,
                    self._profile,
                    self._log,
                    name=self._url,
                    tell=self._host.on_worker_event,
                )
                group.create_task(app.run(), name=f"{name} app")
                self._begin(group, name, app, *await self._channels(app))
        except (ChannelError, Ended) as error:
            raise self._end_of(error) from None

    @property
    @override
    def paused(self) -> bool:
        return self._app is not None and self._app.paused

    @override
    def resume(self) -> None:
        super().resume()
        if self._picture is not None:
            self._picture.job_resumed()

    @override
    def push(self, frame: Frame) -> None:
        if self._relay is not None and (self._profile.media.audio or isinstance(frame, AccessUnit)):
            super().push(frame)

    async def update(self, params: Mapping[str, Any]) -> Json:
        if not self.started or self._app is None:
            return {}  # the stream keeps them for the start
        answer = await self._app.update(params)
        self._kept.app_has(None, self._app.params, updated=True)
        return answer

    def status(self) -> JobStatus:
        orchestrator = None if self._offer is None else shown(self._offer, self._payee)
        return replace(
            self._status(orchestrator),
            worker={} if self._app is None else self._app.status,
            channels=2 if self._relay and not self._closed else 0,
        )

    @override
    async def _end_work(self) -> None:
        if self._app is not None and self.started:
            await self._app.stop()

    def _end_of(self, error: ChannelError | Ended) -> Ended:
        if isinstance(error, ChannelError):
            return self._lost(type(error).__name__)  # its text may name a channel, a secret
        if self._payee is not None and self._payee.over:
            detail = f"{self._url} has ended the session: {error.detail}"
            error = Ended(EndReason.ORCHESTRATOR_LOST, detail)
        return self._excused(error)

    # the app

    @property
    def _profile(self) -> AppProfile:
        offer = self._offer
        assert offer is not None
        return self._resources.profiles[offer.app]

    def _first_picture(self) -> FirstPicture:
        payer = self._payer
        return FirstPicture(
            self._profile.limits.first_picture,
            proven=self._candidate.proven,
            payer=payer,
            before=Fraction(0) if self._former is None or payer is None else payer.seconds_paid,
        )

    async def _channels(self, app: AppSession) -> tuple[AppChannels, FormerRun | None]:
        """Its channels, with the former run that has used them; else it is started. Raises Ended."""
        kept = self._kept.now
        if kept is not None and kept.channels is not None:
            app.go_on(kept.channels, kept.params)
            if app.paused and self._picture is not None:
                self._picture.came()  # else it could not have been halted
            return kept.channels, self._former
        try:
            channels = await app.start(self._host.params)
        except (ParamsRefused, NoRoom) as error:
            if self._payer is not None:
                publisher = ANYBODY if isinstance(error, NoRoom) else self._request.publisher
                self._resources.start_refused(self._candidate, publisher, error.detail)
            raise
        self._kept.app_has(channels, app.params, updated=self._host.last_update is not None)
        if self._payer is not None:
            await self._payer.details_changed()  # an app may name its channels only once
        return channels, None

    def _begin(
        self, group: TaskGroup, name: str, app: AppSession, channels: AppChannels, former: FormerRun | None
    ) -> None:
        """Relay frames from now on."""
        http, host = self._resources.client.http_for(self._reach), self._host
        relay = Relay(
            http,
            channels.input,
            channels.output,
            host.request_key_frame,
            self._log,
            name=self._url,
            resume=former is not None,
            after=None if former is None else former.after,
        )
        self._pins.hold(*channels.urls)
        self._kept.written.position = relay.newest
        self._run_relay(group, name, relay)
        group.create_task(self._read(relay), name=f"{name} downlink")
        liveness = Liveness(
            http, channels.input, relay.silence, is_to_blame=self._is_to_blame, timing=self._liveness
        )
        group.create_task(liveness.run(), name=f"{name} liveness")
        group.create_task(app.catch_up(host), name=f"{name} catch-up")
        group.create_task(self._wait_first_picture(app), name=f"{name} shown")
        if channels.sound:
            sound = SoundChannel(http, channels.sound, self._log, name=self._url, resume=former is not None)
            group.create_task(sound.read(self._show, lambda: self._newest), name=f"{name} sound")
        relay.begin(host.on_started(), audio=self._profile.media.audio)
        self._has_started()

    async def _wait_first_picture(self, app: AppSession) -> None:
        assert self._picture is not None
        await self._picture.wait()
        await app.first_picture_came()

    async def _read(self, relay: Relay) -> None:
        await relay.read(self._show)
        raise Ended(EndReason.ORCHESTRATOR_LOST, f"{self._url}: the app has ended its output")

    @override
    def _show(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self._newest = frame.dts
            if self._picture is not None:
                self._picture.came()
        super()._show(frame)

    @override
    async def _is_to_blame(self) -> bool:
        return self._host.can_be_replaced()
