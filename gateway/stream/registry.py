"""Every stream by name: who may publish, and what all streams come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from gateway.aio.tasks import spawn
from gateway.eth_rate import EthRate
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from gateway.stream.admission import Admission, NotAdmitted
from gateway.stream.audience import Audience
from gateway.stream.claims import NameClaims, NameTaken, NoClaims
from gateway.stream.ended import KEEP_ENDED, EndedStream, EndedStreams
from gateway.stream.names import output_name
from gateway.stream.paid_starts import PaidStarts
from gateway.stream.quotas import Claim, Quotas, SharedCounts
from gateway.stream.room import count_room_of, make_room, wait_for_room
from gateway.stream.seam import Candidate, FormerStream, PublishRequest
from gateway.stream.sources import JobSources
from gateway.stream.stream import TAKEOVER_AFTER, Stream
from gateway.stream.swap import SwapPolicy
from gateway.stream.totals import sample_of, totals_of
from gateway.telemetry.events import EventHub
from gateway.telemetry.metrics import Metrics, Snapshot, Totals
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.feedback import KEY_FRAME_EVERY

LeftStreams = Callable[[str], Awaitable[Sequence[FormerStream]]]
StartsElsewhere = Callable[[str], Awaitable[Mapping[str, int]]]


class NoOrchestrator(Exception):
    """Nobody may take the stream; carries everybody's verdict."""

    def __init__(self, candidates: list[Candidate]) -> None:
        super().__init__("no orchestrator can take this stream")
        self.candidates = candidates


class StreamRegistry:
    """The live streams, those that ended a short while ago, and the audience.

    `limits` hold for every stream. A paid job waits for its publisher for `resume_timeout` seconds.
    """

    def __init__(
        self,
        sources: JobSources,
        metrics: Metrics,
        *,
        webrtc: WebRtcConfig,
        ingest_timeout: float,
        swaps: SwapPolicy,
        admission: Admission,
        resume_timeout: float = 0.0,
        limits: StreamLimits = NO_LIMITS,
        names: NameClaims | None = None,
        left_streams: LeftStreams | None = None,
        events: EventHub | None = None,
        counts: SharedCounts | None = None,
        starts_elsewhere: StartsElsewhere | None = None,
        rate: EthRate | None = None,
    ) -> None:
        """What other nodes of a cluster have is known by these; None without one.

        `left_streams` gives what a node that is gone left of the stream of a name, to be gone on with.
        `starts_elsewhere` gives how many nanoseconds ago a publisher's paid publishes started, by request id.
        """
        self._starts_elsewhere = starts_elsewhere
        self._events = events or EventHub()
        self._left_streams = left_streams
        self._rate = EthRate() if rate is None else rate
        self._names = names or NoClaims()
        self._sources = sources
        self._metrics = metrics
        self._webrtc = webrtc
        self._ingest_timeout = ingest_timeout
        self._swaps = swaps
        self._resume_timeout = resume_timeout
        self._limits = limits
        self._admission = admission
        self._ended = EndedStreams()
        self._live: dict[str, Stream] = {}
        """By name: those that requests may find."""
        self._running: list[Stream] = []
        """All that have not given everything back yet, the live ones among them."""
        self._quotas = Quotas(counts)
        self._paid_starts = PaidStarts()
        self.audience = Audience(
            webrtc,
            self._quotas,
            admission,
            is_live=self._live.__contains__,
            request_key_frame=self._request_key_frame,
        )
        self._totals_of_ended = Totals()
        metrics.attach(self._snapshot)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds of jobs, each of which a publisher may ask for."""
        return self._sources.kinds

    # publishing

    async def publish(self, request: PublishRequest, offer: str, claims: Sequence[Claim] = ()) -> Stream:
        """Admit a publisher under the limits that it falls under, and answer its offer.

        It may go on with a paid job that it had, and replace a publisher of the same name that has fallen
        silent, which ends only when all is checked. Raises NotAdmitted, NameTaken, NoOrchestrator,
        SpendLimitReached, LedgerUnavailable, LimitReached, MayNotStart, UnknownModel, TooManyModels or
        OfferRefused, each with nothing changed.
        """
        limits = self._limits.lowered_by(request.limits)
        request = replace(request, limits=limits, eth_usd=self._rate.last)
        self._check(request)
        inherited = await self._names.claim(names_of(request))
        try:
            if inherited:
                await self._take_over(request.name)
            stream = await self._publish(request, offer, claims)
        except BaseException:
            self._names.release(names_of(request), left=inherited)
            raise
        if stream.request is not request:
            self._names.release(names_of(request))  # it goes on with a stream that has claims of its own
        return stream

    async def _take_over(self, name: str) -> None:
        """Have the paid jobs wait for their publisher that a node left which is gone."""
        if self._left_streams is None or name in self._live:
            return
        for former in await self._left_streams(name):
            if former.request.name not in self._live:
                self.restore(former)

    async def _publish(self, request: PublishRequest, offer: str, claims: Sequence[Claim]) -> Stream:
        await self._sources.prepare(request)
        elsewhere: Mapping[str, float] = {}
        if self._starts_elsewhere is not None and request.limits.paid_starts is not None:
            ages = await self._starts_elsewhere(request.publisher)
            elsewhere = {one: age / NANOSECONDS for one, age in ages.items()}
        former = self._check(request)
        if former is not None and former.may_be_resumed_by(request):
            if await self._resume(former, request, offer, claims):
                return former
            former = self._check(request)
        candidates = count_room_of(former, self._sources.candidates(request))
        self._make_room(candidates)
        if await wait_for_room(self._running, candidates):
            former = self._check(request)
            candidates = count_room_of(former, self._sources.candidates(request))
        self._check_rate(request, candidates)
        if not any(candidate.admissible for candidate in candidates):
            raise NoOrchestrator(candidates)
        self._sources.admit(request, candidates)
        best = next(candidate for candidate in candidates if candidate.admissible)
        most_starts = request.limits.paid_starts if best.first_payment else None
        if best.first_payment:
            self._paid_starts.check_accepted(request.publisher, request.customer)
            self._paid_starts.check_shown(request.publisher)
        self._paid_starts.check(request.publisher, most_starts, elsewhere)
        replacing = former.publishers.reservation if former else None
        reservation = await self._quotas.reserve(claims, replacing=replacing)
        with self.audience.kept_output(request.name) as output:
            stream = Stream(
                request,
                self._sources,
                candidates,
                output,
                ingest_timeout=self._ingest_timeout,
                resume_timeout=self._longest_hold,
                swaps=self._swaps,
                make_room=self._make_room,
                reservation=reservation,
                await_room=former is not None,
                events=self._events,
            )
            try:
                await stream.publishers.session.answer(offer, self._webrtc)
                former = self._check(request)
                self._paid_starts.count(request.publisher, request.request_id, most_starts, elsewhere)
            except BaseException:
                reservation.release()
                await stream.discard()
                raise
            self._live[request.name] = stream
            self._running.append(stream)
            self.audience.began(request.name)
        if former is not None:
            former.end(EndReason.PUBLISHER_LEFT, "another publisher took the name over")
            self._forget(former)
        stream.events.created()
        spawn(self._run(stream), name=f"stream {request.request_id}")
        return stream

    def restore(self, former: FormerStream) -> Stream:
        """Have the paid jobs of a former run wait for their publisher. To be called before anybody comes."""
        self._names.restore(names_of(former.request))
        stream = Stream(
            former.request,
            self._sources,
            [job.candidate for job in former.jobs],
            self.audience.output(former.request.name),
            ingest_timeout=self._ingest_timeout,
            resume_timeout=self._longest_hold,
            swaps=self._swaps,
            make_room=self._make_room,
            reservation=self._quotas.take(()),
            await_room=True,
            former=former,
            events=self._events,
        )
        self._live[former.request.name] = stream
        self._running.append(stream)
        self.audience.began(former.request.name)
        spawn(self._run(stream), name=f"stream {former.request.request_id}")
        return stream

    async def _resume(
        self, stream: Stream, request: PublishRequest, offer: str, claims: Sequence[Claim]
    ) -> bool:
        """Let a publisher go on with the paid job of its stream. False where that ended meanwhile."""
        reservation = await self._quotas.reserve(claims, replacing=stream.publishers.reservation)
        session, resumed = None, False
        try:
            session = await stream.publishers.answer_next(offer, self._webrtc)
            if self._check(request) is stream and stream.may_be_resumed_by(request):
                stream.publishers.resume(session, reservation)
                resumed = True
        finally:
            if not resumed:
                reservation.release()
                if session is not None:
                    await session.close()
        if resumed:
            await stream.adopt_params(request.params)
        return resumed

    def _longest_hold(self) -> float:
        """Seconds that a paid job may wait for its publisher: none where that would not be admitted."""
        return 0.0 if self._admission.draining else self._resume_timeout

    def _check(self, request: PublishRequest) -> Stream | None:
        """Check that a publisher may come in now under this name and id. Raises NotAdmitted or NameTaken.

        Returns the stream of that name that it replaces, if there is one.
        """
        self._admission.check()
        former = self._live.get(request.name)
        busy = former is not None and former.publishers.peer is not None and not former.ending
        if former is not None and busy and former.publishers.session.silent_for < TAKEOVER_AFTER:
            raise NameTaken(f"{request.name!r} is being published: stop that publisher, or use another name")
        for other in self._live.values():
            if other is former:
                continue
            if request.stream_id in (other.request.stream_id, other.request.name):
                raise NameTaken(f"the stream id {request.stream_id!r} belongs to a live stream: use another")
            if request.name == other.request.stream_id:
                raise NameTaken(f"the name {request.name!r} is the id of a live stream: use another")
        return former

    def _check_rate(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        """Raises NotAdmitted where a start would cost something and needs a rate that is not known now."""
        if not self._rate.required and not request.limits.in_usd:
            return
        refusal = self._rate.refusal()
        best = next((candidate for candidate in candidates if candidate.admissible), None)
        if refusal is not None and (best is None or best.first_payment):
            raise NotAdmitted("rate_unknown", refusal)

    def _make_room(self, candidates: Sequence[Candidate]) -> bool:
        return make_room(self._live.values(), candidates)

    async def _run(self, stream: Stream) -> None:
        try:
            await stream.run()
        finally:
            self._forget(stream)
            self._names.release(names_of(stream.request), left=stream.left_behind)
            self._running.remove(stream)
            self._ended.add(stream)
            self._names.remember(names_of(stream.request), KEEP_ENDED)
            self._totals_of_ended += totals_of(stream)
            if stream.supervisor.was_live:
                self._paid_starts.shown(stream.request.publisher)
            elif stream.supervisor.no_worker_showed_it and stream.ended is not None:
                self._paid_starts.unshown(stream.request.publisher, stream.ended[0].detail)
            if stream.ended is not None and stream.ended[0].reason is EndReason.SIGNER_REFUSED:
                self._paid_starts.refused(
                    stream.request.publisher, stream.request.customer, stream.ended[0].detail
                )
            elif stream.supervisor.was_live:
                self._paid_starts.accepted(stream.request.publisher, stream.request.customer)
            if stream.job_status().payments is None:
                self._paid_starts.give_back(stream.request.publisher, stream.request.request_id)
            if stream.ended is not None:
                self._metrics.ends.labels(stream.ended[0].reason.value).inc()
            if stream.first_frame_after is not None:
                self._metrics.first_frame_seconds.observe(stream.first_frame_after)

    def _forget(self, stream: Stream) -> None:
        """Give its name and its quotas to others."""
        if self._live.get(stream.request.name) is stream:
            del self._live[stream.request.name]
        stream.publishers.reservation.release()
        self.audience.ended(stream.request.name)

    def lose(self, name: str) -> None:
        """End the stream of this name or id, which another node has taken."""
        stream = self.find(name)
        if stream is not None:
            detail = f"another node of the cluster has taken the name {name!r} while this one was cut off"
            stream.end(EndReason.TAKEN_OVER, detail)

    def _request_key_frame(self, name: str) -> None:
        """A viewer cannot go on without one: the publisher's makes the worker begin anew with one too."""
        stream = self._live.get(name)
        if stream is not None and stream.publishers.peer is not None:
            stream.publishers.peer.request_key_frame(KEY_FRAME_EVERY)

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

    def forget_ended(self, name: str) -> None:
        """A stream of this name has ended on another node since."""
        self._ended.forget(name)

    def by_session(self, session_id: str) -> Stream | None:
        """The live stream whose publisher's session this is."""
        return next((s for s in self._live.values() if s.publishers.session.id == session_id), None)

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

    def running(self) -> list[Stream]:
        """The live streams, and those that have yet to give everything back."""
        return list(self._running)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    # being looked at

    def burn(self) -> Fraction:
        """What the live streams cost now, in wei per second."""
        return sum((stream.supervisor.burn() for stream in self), Fraction(0))

    def _snapshot(self) -> Snapshot:
        totals = sum((totals_of(stream) for stream in self._running), self._totals_of_ended)
        return Snapshot([sample_of(stream) for stream in self], len(self.audience), totals)

    # the end

    @property
    def holds_jobs(self) -> bool:
        """Whether paid jobs wait for publishers, who may come back however full all orchestrators are."""
        return any(stream.publishers.held_job is not None for stream in self)

    def leave_held(self, why: str) -> None:
        """End the streams that nobody publishes; their jobs wait for their publishers in the next run."""
        for stream in self:
            if stream.publishers.held_job is not None:
                stream.end(EndReason.DRAINED, why, leave=True)

    async def wait_idle(self) -> None:
        """Wait until every stream of now has ended."""
        for stream in self.running():
            await stream.finished.wait()

    async def close(self, reason: EndReason, detail: str, *, leave: bool = False) -> None:
        """End every stream and send every viewer away, and wait until that is done.

        With `leave`, paid jobs that may wait for their publishers do so in the next run of the gateway.
        """
        for stream in self:
            stream.end(reason, detail, leave=leave and self._resume_timeout > 0)
        await self.wait_idle()
        await self.audience.close()


def names_of(request: PublishRequest) -> tuple[str, str]:
    """What no other live stream may be called: its name and its id."""
    return (request.name, request.stream_id)
