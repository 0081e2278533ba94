"""The seam between a stream and what transforms it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.media.frames import Frame, FrameSink
from gateway.media.gop import GopBuffer
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.reason import Ended, EndReason

Json = dict[str, Any]


@dataclass(frozen=True)
class PublishRequest:
    """What a publisher asked for."""

    name: str
    stream_id: str
    request_id: str
    model: str
    params: Json = field(default_factory=dict)
    orchestrator: str | None = None
    """Use this one only, by its URL or address."""
    standby: bool = False
    """Whether a second job is to stand by on another orchestrator, paid like the first."""
    limits: StreamLimits = NO_LIMITS
    """What this stream may cost and how long it may last: the operator's limits, lowered at will."""


class UpdateRefused(Exception):
    """The worker did not take new parameters; the text says why.

    `code` is `worker_busy` (too many wait for it), `worker_refused` or `worker_silent`.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Candidate(Protocol):
    """Somebody who could take a job."""

    @property
    def url(self) -> str:
        """What it is told apart by."""

    @property
    def usable(self) -> bool:
        """Whether a job may be opened here."""

    @property
    def verdict(self) -> str:
        """Why, or why not: one of `Verdict`."""

    def json(self) -> Json:
        """As status lists it: url, price, verdict and the verdict's detail."""

    def choose(self) -> None:
        """Note that the job goes here."""

    def passed_over(self, detail: str) -> None:
        """Note that a job was tried here and why it did not start."""


class Ingest(Protocol):
    """The publisher, as a job sees it."""

    @property
    def has_audio(self) -> bool:
        """Whether sound was agreed with it."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of its pictures in pixels; None before the first key frame."""

    def request_key_frame(self) -> None:
        """Ask its encoder for a key frame; too soon after the former request this does nothing."""

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        """Have its encoder stay under this rate too; None lifts that."""


C = TypeVar("C", bound=Candidate)


class Job(Protocol):
    """One job: frames go in, changed frames come out through the sink that it was opened with.

    `run` brings the job up and relays until cancelled or until it raises Ended. Whatever it ended with,
    `close` follows: it gives back all that the job took, and is bounded in time.
    """

    @property
    def live(self) -> bool:
        """Whether the job came up: an end before that is a failed start."""

    @property
    def paused(self) -> bool:
        """Whether no output is to be expected for now, because somebody asked for that."""

    async def run(self) -> None: ...

    def push(self, frame: Frame) -> None:
        """Take one frame of the publisher, in order and from a key frame on."""

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker; what it answers, empty where it never does.

        Raises UpdateRefused.
        """

    async def close(self, reason: EndReason) -> None: ...

    def status(self) -> JobStatus: ...


@dataclass
class JobStatus:
    """What a job tells about itself, in the forms that the status route uses."""

    worker: Json = field(default_factory=dict)
    """The worker's newest status, merged over its events."""
    orchestrator: Json | None = None
    payments: Json | None = None
    segments: int = 0
    """Segments of output that came."""
    gaps: int = 0
    """Segments of output that were lost."""
    dropped: int = 0
    """Segments of input that were given up; pictures, where a relay sends them one by one."""
    held_bytes: int = 0
    channels: int = 0
    """Trickle channels that are open."""
    sessions: int = 0
    """Payment sessions that are open."""
    credited: Fraction = Fraction(0)
    """Wei that were credited, exactly; `payments` shows them rounded."""
    owed: Fraction = Fraction(0)
    """Wei that the time used costs, exactly."""

    def after(self, former: JobStatus) -> JobStatus:
        """This job's account with the sums of the jobs before it."""
        return replace(
            self,
            worker=self.worker or former.worker,
            orchestrator=self.orchestrator or former.orchestrator,
            payments=self._payments_after(former),
            **{name: getattr(self, name) + getattr(former, name) for name in _SUMMED},
        )

    def _payments_after(self, former: JobStatus) -> Json | None:
        before, now = former.payments, self.payments
        if before is None or now is None:
            return before if now is None else now
        return {
            **now,
            "accepted": before["accepted"] + now["accepted"],
            "tickets": before["tickets"] + now["tickets"],
            "alarms": before["alarms"] + now["alarms"],
            "credited_wei": money.whole_wei(former.credited + self.credited),
            "owed_wei": money.whole_wei(former.owed + self.owed),
        }


_SUMMED = ("segments", "gaps", "dropped", "held_bytes", "channels", "sessions", "credited", "owed")


class JobSource(Protocol[C]):
    """Where jobs come from: orchestrators of the network, or servers of one's own."""

    def candidates(self, request: PublishRequest) -> Sequence[C]:
        """Everybody known with a verdict, the usable ones first and best first; asks nobody."""

    def set_aside(self, candidate: C, failure: Ended) -> None:
        """Have every stream pass the candidate over for a while, longer for a fault than for NoRoom."""

    def open(
        self,
        candidate: C,
        request: PublishRequest,
        sink: FrameSink,
        on_live: Callable[[], GopBuffer],
        ingest: Ingest,
        log: FilteringBoundLogger,
    ) -> Job:
        """A job on the candidate, not yet run.

        It calls `on_live` once, when it takes frames: the answer is what it begins with.
        """
