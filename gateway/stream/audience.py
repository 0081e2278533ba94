"""The viewers, and the outputs that they watch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import spawn
from gateway.media.fanout import Fanout
from gateway.stream.admission import Admission
from gateway.stream.quotas import Claim, Quotas, Reservation
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.viewer import Viewer


class RemoteOutputs(Protocol):
    """Other nodes, as the audience sees them: outputs of theirs that are watched here, and the reverse.

    Names are those of streams. Calls that are not coroutines do not block.
    """

    def began(self, name: str, output: Fanout) -> None:
        """`name` is published here: other nodes may have its output. Idempotent."""

    def ended(self, name: str) -> None:
        """`name` is not published here any more."""

    async def watch(self, name: str, output: Fanout) -> None:
        """One more viewer here watches `name`: while another node publishes it, its frames go to `output`.

        Returns when frames have come, if there are any now. To be followed by `unwatch`, whatever it raises.
        """

    def unwatch(self, name: str) -> None:
        """One viewer less."""

    def watches(self, name: str) -> bool:
        """Whether viewers here watch `name`, those among them that are about to connect."""

    def viewers_of(self, name: str) -> int:
        """Viewers on other nodes of a name that is published here."""

    def request_key_frame(self, name: str) -> None:
        """Ask the node that publishes `name` for a key frame."""


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
        self.is_live = is_live
        self._ask_publisher = request_key_frame
        self.remote: RemoteOutputs | None = None
        """Set before anybody publishes or watches; None without other nodes."""
        self._outputs: dict[str, Fanout] = {}
        self._followers: Counter[str] = Counter()
        self._viewers: dict[tuple[str, str], Viewer] = {}

    def __len__(self) -> int:
        return len(self._viewers)

    async def watch(self, name: str, viewer_id: str, offer: str, claims: Sequence[Claim] = ()) -> Viewer:
        """Answer a viewer of `name`, published or not yet.

        Raises NotAdmitted, LimitReached or OfferRefused, with nothing left behind.
        """
        self.check_viewer()
        log = structlog.get_logger("viewer").bind(stream=name, viewer=viewer_id[:8])
        reservation = await self._quotas.reserve(claims)
        try:
            if self.remote is not None:
                await self.remote.watch(name, self.output(name))
            profile = self._outputs[name].profile if name in self._outputs else ""
            viewer = await Viewer.answer_offer(offer, config=self._webrtc, log=log, profile=profile)
        except BaseException:
            self._unwatch(name)
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
            viewer.on_key_frame_needed = partial(self.request_key_frame, name)
            if not self.output(name).add(viewer):
                self.request_key_frame(name)
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
            self._unwatch(name)
            await viewer.close()

    def check_viewer(self) -> None:
        """Check that somebody may begin to watch now. Raises NotAdmitted."""
        self._admission.check_viewer()

    async def follow(self, name: str) -> Fanout:
        """The output of `name` for a reader that is no viewer, kept over publishes until `unfollow`.

        `check_viewer` goes before it; `unfollow` follows in every case.
        """
        self._followers[name] += 1
        if self.remote is not None:
            await self.remote.watch(name, self.output(name))
        return self.output(name)

    def unfollow(self, name: str) -> None:
        """One such reader less."""
        self._followers[name] -= 1
        if self._followers[name] == 0:
            del self._followers[name]
        self._unwatch(name)

    @contextmanager
    def kept_output(self, name: str) -> Iterator[Fanout]:
        """The output of `name` for a publisher that is about to come: a former one's end does not drop it."""
        self._followers[name] += 1
        try:
            yield self.output(name)
        finally:
            self._followers[name] -= 1
            if self._followers[name] == 0:
                del self._followers[name]
            self.drop_unused(name)

    def _unwatch(self, name: str) -> None:
        if self.remote is not None:
            self.remote.unwatch(name)
        self.drop_unused(name)

    def request_key_frame(self, name: str) -> None:
        """Ask for a key frame of `name`, whoever publishes it."""
        if self.remote is None or self.is_live(name):
            self._ask_publisher(name)
        else:
            self.remote.request_key_frame(name)

    def find(self, name: str, viewer_id: str) -> Viewer | None:
        """The viewer of this id among those of `name`."""
        return self._viewers.get((name, viewer_id))

    async def stop(self, name: str, viewer_id: str) -> None:
        """Send a viewer away; no error where it is not there."""
        viewer = self.find(name, viewer_id)
        if viewer is not None:
            await viewer.close()

    def viewers_of(self, name: str) -> int:
        """How many are connected to the output of `name`, on all nodes where it is published here."""
        elsewhere = 0 if self.remote is None else self.remote.viewers_of(name)
        return elsewhere + (len(self._outputs[name]) if name in self._outputs else 0)

    def output(self, name: str) -> Fanout:
        """The output of `name`, made where there is none."""
        if name not in self._outputs:
            self._outputs[name] = Fanout(on_key_frame_needed=partial(self.request_key_frame, name))
        return self._outputs[name]

    def began(self, name: str) -> None:
        """`name` is published here from now on."""
        if self.remote is not None:
            self.remote.began(name, self.output(name))

    def ended(self, name: str) -> None:
        """A publish of `name` here is over; another may have taken its place."""
        if self.remote is not None and not self.is_live(name):
            self.remote.ended(name)
        self.drop_unused(name)

    def drop_unused(self, name: str) -> None:
        """Drop the output of `name` where nobody publishes or watches it."""
        output = self._outputs.get(name)
        if output is None or self.is_live(name) or len(output) > 0 or self._followers[name] > 0:
            return
        if self.remote is None or not self.remote.watches(name):
            del self._outputs[name]

    @property
    def held_bytes(self) -> int:
        """Bytes held for viewers that join."""
        return sum(output.held_bytes for output in self._outputs.values())

    async def close(self) -> None:
        """Send every viewer away."""
        await asyncio.gather(*(viewer.close() for viewer in list(self._viewers.values())))
