"""The viewers, and the outputs that they watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import spawn
from gateway.media.fanout import Fanout
from gateway.stream.admission import Admission
from gateway.stream.quotas import Claim, Quotas, Reservation
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.viewer import Viewer


class Audience:
    """Viewers by stream name and id.

    An output belongs to a name, not to a publish: viewers stay while the name is published anew, and may
    come before it is. `is_live` says whether a name is published now, `request_key_frame` asks its publisher
    for a key frame.
    """

    def __init__(
        self,
        webrtc: WebRtcConfig,
        quotas: Quotas,
        admission: Admission,
        *,
        is_live: Callable[[str], bool],
        request_key_frame: Callable[[str], None],
    ) -> None:
        self._webrtc = webrtc
        self._quotas = quotas
        self._admission = admission
        self._is_live = is_live
        self._request_key_frame = request_key_frame
        self._outputs: dict[str, Fanout] = {}
        self._viewers: dict[tuple[str, str], Viewer] = {}

    def __len__(self) -> int:
        return len(self._viewers)

    async def watch(self, name: str, viewer_id: str, offer: str, claims: Sequence[Claim] = ()) -> Viewer:
        """Answer a viewer of `name`, published or not yet.

        Raises NotAdmitted, LimitReached or OfferRefused, with nothing left behind.
        """
        self._admission.check_viewer()
        log = structlog.get_logger("viewer").bind(stream=name, viewer=viewer_id[:8])
        reservation = self._quotas.take(claims)
        try:
            profile = self._outputs[name].profile if name in self._outputs else ""
            viewer = await Viewer.answer_offer(offer, config=self._webrtc, log=log, profile=profile)
        except BaseException:
            reservation.release()
            raise
        self._viewers[name, viewer_id] = viewer
        spawn(self._serve(name, viewer_id, viewer, reservation, log), name=f"viewer {viewer_id[:8]}")
        return viewer

    async def _serve(
        self, name: str, viewer_id: str, viewer: Viewer, reservation: Reservation, log: FilteringBoundLogger
    ) -> None:
        try:
            await viewer.connect()
            viewer.on_key_frame_needed = partial(self._request_key_frame, name)
            if not self.output(name).add(viewer):
                self._request_key_frame(name)
            log.info("viewer connected")
            why = await viewer.wait_closed()
            log.info("viewer left", detail=why)
        except ConnectFailed as error:
            log.warning("viewer never connected", detail=str(error))
        finally:
            self._viewers.pop((name, viewer_id), None)
            reservation.release()
            if name in self._outputs:
                self._outputs[name].remove(viewer)
                self.drop_unused(name)
            await viewer.close()

    def find(self, name: str, viewer_id: str) -> Viewer | None:
        """The viewer of this id among those of `name`."""
        return self._viewers.get((name, viewer_id))

    async def stop(self, name: str, viewer_id: str) -> None:
        """Send a viewer away; no error where it is not there."""
        viewer = self.find(name, viewer_id)
        if viewer is not None:
            await viewer.close()

    def viewers_of(self, name: str) -> int:
        """How many are connected to the output of `name`."""
        return len(self._outputs[name]) if name in self._outputs else 0

    def output(self, name: str) -> Fanout:
        """The output of `name`, made where there is none."""
        if name not in self._outputs:
            self._outputs[name] = Fanout(on_key_frame_needed=partial(self._request_key_frame, name))
        return self._outputs[name]

    def drop_unused(self, name: str) -> None:
        """Drop the output of `name` where nobody publishes or watches it."""
        output = self._outputs.get(name)
        if output is not None and not self._is_live(name) and len(output) == 0:
            del self._outputs[name]

    @property
    def held_bytes(self) -> int:
        """Bytes held for viewers that join."""
        return sum(output.held_bytes for output in self._outputs.values())

    async def close(self) -> None:
        """Send every viewer away."""
        await asyncio.gather(*(viewer.close() for viewer in list(self._viewers.values())))
