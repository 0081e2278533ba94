"""Every stream and every output by name: who may come in, and who watches what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from gateway.aio.tasks import spawn
from gateway.candidates.verdict import Verdict
from gateway.media.fanout import Fanout
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.reason import EndReason
from gateway.stream.admission import Admission
from gateway.stream.ended import EndedStream, EndedStreams
from gateway.stream.names import output_name
from gateway.stream.quotas import Claim, Lease, Quotas
from gateway.stream.seam import Candidate, JobSource, PublishRequest
from gateway.stream.stream import TAKEOVER_AFTER, Stream
from gateway.stream.swap import SwapPolicy
from gateway.telemetry.metrics import Metrics, Snapshot, StreamSample, Totals
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.publisher import KEY_FRAME_EVERY
from gateway.webrtc.viewer import Viewer

LEAVING = 5.0
"""Seconds, at most, that a publisher waits for those to be gone whose room it may have."""


class NameTaken(Exception):
    """Another live stream has this name or id, as a sentence."""


class NoOrchestrator(Exception):
    """Nobody may take the stream; carries everybody's verdict."""

    def __init__(self, candidates: list[Candidate]) -> None:
        super().__init__("no orchestrator can take this stream")
        self.candidates = candidates


class Registry:
    """The live streams, the recently ended ones, and the outputs that viewers hang on.

    An output belongs to a name, not to a publish: viewers stay over a republish, and may come first.
    """

    def __init__(
        self,
        relays: JobSource[Any],
        metrics: Metrics,
        *,
        webrtc: WebRtcConfig,
        ingest_timeout: float,
        swaps: SwapPolicy,
        admission: Admission,
        limits: StreamLimits = NO_LIMITS,
        afford: Callable[[PublishRequest, Sequence[Any]], None] = lambda request, candidates: None,
    ) -> None:
        """`limits` hold for every stream, `afford` raises where a stream's first payment cannot be made."""
        self._relays = relays
        self._metrics = metrics
        self._webrtc = webrtc
        self._ingest_timeout = ingest_timeout
        self._swaps = swaps
        self._limits = limits
        self._afford = afford
        self._admission = admission
        self._ended = EndedStreams()
        self._live: dict[str, Stream] = {}
        self._ending: set[Stream] = set()
        self._outputs: dict[str, Fanout] = {}
        self._viewers: dict[tuple[str, str], Viewer] = {}
        self._places = Quotas()
        self._leases: dict[Stream, Lease] = {}
        self._totals_of_ended = Totals()
        metrics.attach(self._snapshot)

    # publishing

    async def publish(self, request: PublishRequest, offer: str, claims: Sequence[Claim] = ()) -> Stream:
        """Admit a publisher under the limits that it falls under, and answer its offer.

        Raises NotAdmitted, NameTaken, NoOrchestrator, SpendLimitReached, LedgerUnavailable, LimitReached or
        OfferRefused, each with nothing left behind.
        """
        self._admission.check()
        self._admit(request)
        request = replace(request, limits=self._limits.lowered_by(request.limits))
        candidates = await self._find_room(request)
        self._afford(request, candidates)
        lease = self._places.take(claims)
        stream = Stream(
            request,
            self._relays,
            candidates,
            self._output(request.name),
            ingest_timeout=self._ingest_timeout,
            swaps=self._swaps,
        )
        self._live[request.name] = stream
        self._leases[stream] = lease
        try:
            await stream.answer(offer, self._webrtc)
        except BaseException:
            self._forget(stream)
            raise
        spawn(self._run(stream), name=f"stream {request.request_id}")
        return stream

    def _admit(self, request: PublishRequest) -> None:
        former = self._live.get(request.name)
        if former is not None:
            if former.silent_for < TAKEOVER_AFTER and not former.ending:
                raise NameTaken(
                    f"{request.name!r} is being published: stop that publisher, or use another name"
                )
            former.end(EndReason.PUBLISHER_LEFT, "another publisher took the name over")
            self._forget(former)
        for other in self._live.values():
            if request.stream_id in (other.request.stream_id, other.request.name):
                raise NameTaken(f"the stream id {request.stream_id!r} belongs to a live stream: use another")
            if request.name == other.request.stream_id:
                raise NameTaken(f"the name {request.name!r} is the id of a live stream: use another")

    async def _find_room(self, request: PublishRequest) -> list[Any]:
        """The candidates, one of which may take the stream. Raises NoOrchestrator, or NameTaken meanwhile.

        Where room is all that is missing, streams that are ending give theirs back first.
        """
        candidates = list(self._relays.candidates(request))
        if any(candidate.usable for candidate in candidates):
            return candidates
        leaving = [stream for stream in self._ending if stream.ending]
        if leaving and any(candidate.verdict == Verdict.NO_CAPACITY for candidate in candidates):
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVING):
                    for stream in leaving:
                        await stream.finished.wait()
            self._admit(request)
            candidates = list(self._relays.candidates(request))
        if not any(candidate.usable for candidate in candidates):
            raise NoOrchestrator(candidates)
        return candidates

    async def _run(self, stream: Stream) -> None:
        self._ending.add(stream)
        try:
            await stream.run()
        finally:
            self._ending.discard(stream)
            self._forget(stream)
            self._ended.add(stream)
            self._totals_of_ended += _totals(stream)
            if stream.ended is not None:
                self._metrics.ends.labels(stream.ended[0].reason.value).inc()
            if stream.first_frame_after is not None:
                self._metrics.first_frame_seconds.observe(stream.first_frame_after)

    def _forget(self, stream: Stream) -> None:
        if self._live.get(stream.request.name) is stream:
            del self._live[stream.request.name]
        if stream in self._leases:
            self._leases.pop(stream).release()
        self._drop_output_if_unused(stream.request.name)

    # finding

    def find(self, name_or_id: str) -> Stream | None:
        """The live stream of this name or id."""
        stream = self._live.get(name_or_id)
        if stream is not None:
            return stream
        return next((s for s in self._live.values() if s.request.stream_id == name_or_id), None)

    def find_with_ended(self, name_or_id: str) -> Stream | EndedStream | None:
        """The live stream of this name or id, else the newest that ended within the last minute."""
        return self.find(name_or_id) or self._ended.find(name_or_id)

    def by_request_id(self, request_id: str) -> Stream | None:
        return next((s for s in self._live.values() if s.request.request_id == request_id), None)

    def watched_name(self, path_name: str) -> str:
        """Which stream name a playback path means: a name, an id, or go-livepeer's forms with `-out`."""
        base = output_name(path_name)
        if base is None:
            stream = self.find(path_name)
            return stream.request.name if stream else path_name
        for stream in self._live.values():
            if base == f"{stream.request.name}-{stream.request.request_id}":
                return stream.request.name
        return base

    def with_ending(self) -> set[Stream]:
        """The live streams, and those that have yet to give everything back."""
        return {*self._live.values(), *self._ending}

    def output_bytes(self) -> int:
        """Bytes held for viewers that join."""
        return sum(output.held_bytes for output in self._outputs.values())

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    # watching

    async def watch(self, name: str, viewer_id: str, offer: str, claims: Sequence[Claim] = ()) -> Viewer:
        """Answer a viewer of `name`, published or not yet.

        Raises LimitReached or OfferRefused, with nothing left behind.
        """
        log = structlog.get_logger("viewer").bind(stream=name, viewer=viewer_id)
        lease = self._places.take(claims)
        try:
            viewer = await Viewer.answer_offer(offer, config=self._webrtc, log=log)
        except BaseException:
            lease.release()
            raise
        self._viewers[name, viewer_id] = viewer
        spawn(self._serve(name, viewer_id, viewer, lease, log), name=f"viewer {viewer_id}")
        return viewer

    async def _serve(
        self, name: str, viewer_id: str, viewer: Viewer, lease: Lease, log: FilteringBoundLogger
    ) -> None:
        try:
            await viewer.connect()
            viewer.on_key_frame_needed = partial(self._request_key_frame, name)
            if not self._output(name).add(viewer):
                self._request_key_frame(name)
            log.info("viewer connected")
            why = await viewer.wait_closed()
            log.info("viewer left", detail=why)
        except ConnectFailed as error:
            log.warning("viewer never connected", detail=str(error))
        finally:
            self._viewers.pop((name, viewer_id), None)
            lease.release()
            if name in self._outputs:
                self._outputs[name].remove(viewer)
                self._drop_output_if_unused(name)
            await viewer.close()

    def _request_key_frame(self, name: str) -> None:
        """A viewer cannot go on without one: the publisher's makes the worker begin anew with one too."""
        stream = self._live.get(name)
        if stream is not None and stream.publisher is not None:
            stream.publisher.request_key_frame(KEY_FRAME_EVERY)

    def viewer(self, name: str, viewer_id: str) -> Viewer | None:
        """The viewer of this id among those of `name`."""
        return self._viewers.get((name, viewer_id))

    async def stop_watching(self, name: str, viewer_id: str) -> None:
        viewer = self.viewer(name, viewer_id)
        if viewer is not None:
            await viewer.close()

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def viewers_of(self, name: str) -> int:
        return len(self._outputs[name]) if name in self._outputs else 0

    def _output(self, name: str) -> Fanout:
        if name not in self._outputs:
            ask = partial(self._request_key_frame, name)
            self._outputs[name] = Fanout(on_key_frame_needed=ask)
        return self._outputs[name]

    def _drop_output_if_unused(self, name: str) -> None:
        output = self._outputs.get(name)
        if output is not None and name not in self._live and len(output) == 0:
            del self._outputs[name]

    # being looked at

    def burn(self) -> Fraction:
        """What the live streams cost now, in wei per second."""
        return sum((stream.supervisor.burn() for stream in self), Fraction(0))

    def _snapshot(self) -> Snapshot:
        samples = []
        for stream in self:
            payments, ingest = stream.current_relay_status().payments or {}, stream.ingest_stats
            samples.append(
                StreamSample(
                    stream.request.name,
                    payments.get("credit_left_s"),
                    payments.get("last_accepted_age_s"),
                    None if ingest is None else ingest.fps,
                    None if ingest is None else ingest.bitrate_bps,
                )
            )
        totals = sum((_totals(stream) for stream in self.with_ending()), self._totals_of_ended)
        return Snapshot(samples, len(self._viewers), totals)

    # the end

    async def wait_idle(self) -> None:
        """Wait until every stream of now has ended."""
        for stream in self.with_ending():
            await stream.finished.wait()

    async def close(self, reason: EndReason, detail: str) -> None:
        """End every stream and send every viewer away, and wait until that is done."""
        for stream in self:
            stream.end(reason, detail)
        await asyncio.gather(*(stream.finished.wait() for stream in list(self._ending)))
        await asyncio.gather(*(viewer.close() for viewer in list(self._viewers.values())))


def _totals(stream: Stream) -> Totals:
    relay = stream.current_relay_status()
    payments, ingest = relay.payments or {}, stream.ingest_stats
    return Totals(
        payments_accepted=payments.get("accepted", 0),
        tickets=payments.get("tickets", 0),
        credited_wei=int(payments.get("credited_wei", 0)),
        payment_alarms=payments.get("alarms", 0),
        segments_dropped=relay.dropped,
        segments_missed=relay.gaps,
        swaps=stream.supervisor.swaps,
        packets_lost=0 if ingest is None else ingest.packets_lost,
    )
