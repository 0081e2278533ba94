"""The seam between streams and kinds of jobs: all that they know of each other.

A kind of job is a `JobSource` in a folder of its own. A stream asks the sources for candidates, has one of
them opened as a `Job`, and is a `JobHost` to that job.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.candidates.verdict import Judged
from gateway.media.frames import Frame
from gateway.media.gop import GopBuffer
from gateway.payments.customer import ANYBODY, Customer
from gateway.payments.spending import NO_LIMITS, PublisherBudget, StreamLimits
from gateway.payments.status import PaymentStatus
from gateway.reason import Ended, EndReason

Json = dict[str, Any]


@dataclass(frozen=True)
class PublishRequest:
    """What a publisher asked for."""

    name: str
    stream_id: str
    request_id: str
    model: str
    model_granted: bool = False
    """Whether the operator, by the auth webhook or a token, says that this model may be used."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters for the worker. Updates are not in it: `JobHost.params` has them."""
    orchestrator: str | None = None
    """Use only this source, by its name, or only this candidate, by its URL or address."""
    standby: bool = False
    """Whether a second job is to stand by on another orchestrator, paid like the first."""
    limits: StreamLimits = NO_LIMITS
    """What this stream may cost and how long it may last: the operator's limits or lower ones."""
    publisher: str = ""
    """Whom limits over time count: a token, a customer or an address; empty where nobody is told apart."""
    customer: Customer = ANYBODY
    """Whom the stream is for, and who it is to the signer."""
    eth_usd: Fraction | None = field(default=None, compare=False)
    """Dollars for an ether when it came: its limits in dollars stay what they were then."""
    wall_ns: int = field(default_factory=time.time_ns, compare=False)
    """When it came, in nanoseconds since 1970."""

    @property
    def wei_limits(self) -> StreamLimits:
        """The limits without dollars."""
        return self.limits.in_wei(self.eth_usd) if self.limits.in_usd else self.limits

    @property
    def budget(self) -> PublisherBudget:
        limits = self.wei_limits
        return PublisherBudget(
            self.publisher, limits.publisher_hour, limits.publisher_day, limits.paid_starts
        )

    def continues(self, former: PublishRequest) -> bool:
        """Whether it asks for the former one's job. Its parameters may be others: they go as an update."""
        alike = replace(
            self,
            request_id=former.request_id,
            model_granted=former.model_granted,
            params=former.params,
            standby=former.standby,
        )
        return alike == former

    def json(self) -> Json:
        """All of it, for `parse` in another run of the gateway: secret, as the signer's headers are."""
        limits = {name: _json(limit) for name, limit in asdict(self.limits).items()}
        changed = {"customer": self.customer.json(), "limits": limits, "eth_usd": _json(self.eth_usd)}
        return {**asdict(self), **changed}

    @classmethod
    def parse(cls, value: object) -> PublishRequest:
        """Raises ValueError for what `json` cannot have given."""
        if isinstance(value, dict):
            value = {"customer": ANYBODY.json(), "eth_usd": None, **value}  # which came with 0.2
        if not isinstance(value, dict) or set(value) != {one.name for one in fields(cls)}:
            raise ValueError("it has other fields than a publish")
        limits = value["limits"]
        if isinstance(limits, dict):
            limits = {**dict.fromkeys(_DOLLARS), **limits}
        if not isinstance(limits, dict) or set(limits) != {one.name for one in fields(StreamLimits)}:
            raise ValueError("it has other fields than a stream's limits")
        texts = (value[name] for name in ("name", "stream_id", "request_id", "model", "publisher"))
        dollars: dict[str, Any] = {name: _exact(limits.pop(name)) for name in _DOLLARS}
        numbers = (value["wall_ns"], *(limit for limit in limits.values() if limit is not None))
        if not all(isinstance(text, str) for text in texts) or not isinstance(value["params"], dict):
            raise ValueError("a publish has texts, and parameters")
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError("the limits and the time of a publish are numbers")
        flags = (value["standby"], value["model_granted"])
        if not isinstance(value["orchestrator"], str | None) or not all(
            isinstance(one, bool) for one in flags
        ):
            raise ValueError("a publish names an orchestrator or none")
        customer = Customer.parse(value["customer"])
        rate = _exact(value["eth_usd"])
        if rate == 0:
            raise ValueError("a rate is above 0")
        changed = {"limits": StreamLimits(**limits, **dollars), "customer": customer, "eth_usd": rate}
        return cls(**{**value, **changed})


_DOLLARS = ("usd", "publisher_hour_usd", "publisher_day_usd")


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, Fraction) else value


def _exact(value: object) -> Fraction | None:
    """A number of `json`, which JSON has as text. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,60}(/[1-9][0-9]{0,59})?", value):
        raise ValueError("an exact number is missing")
    return Fraction(value)


class UnknownModel(Exception):
    """No job with this model can be had; `offered` are some that can be asked for."""

    def __init__(self, detail: str, offered: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.offered = offered


class TooManyModels(Exception):
    """As many other models are in use as may be at once."""


class UpdateRefused(Exception):
    """The worker did not take new parameters; the text says why.

    `code` is `worker_busy` (too many wait for it), `worker_refused`, `worker_silent` or `too_large` (all
    parameters together).
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate(Judged):
    """An orchestrator or server that could take a job, as one stream sees it when it looks for one."""

    source: JobSource
    url: str
    """Where jobs go, as status and logs show it."""
    addr: str
    """What its source asks it by."""
    price: Fraction | None
    """Wei per second, 0 where nothing is paid; None where it is not known."""
    first_payment: Fraction = Fraction(0)
    """Wei that a job's start costs."""
    kind: str | None = None
    """The kind of job, as status shows it; None for a job on the network's orchestrators."""
    restart: float = 0.0
    """For how many seconds a stream whose job was live there waits for it to come back."""
    address: str = ""
    """What its source counts faults and deliveries by: the address that is paid, else its own."""
    proven: bool = True
    """Whether it has delivered for its pay before, or is not paid."""
    paid_without_picture: bool = False
    """Whether its job was paid for and has shown no picture so far; the job sets it."""
    starts_under_way: bool = False
    """Whether its room is being taken by our own starts: once they are over it may have some left."""

    @property
    def key(self) -> str:
        """What suspensions and failed starts are counted by."""
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorRef:
    """Where a job runs."""

    url: str
    address: str = ""
    """Ethereum address with its checksum; empty where nobody is paid."""
    price: Fraction | None
    """Wei per second, 0 where nothing is paid; None on a network without prices."""
    manifest_id: str = ""
    """Empty before the start, and where it is a secret."""
    kind: str | None = None
    """As `Candidate.kind`."""
    app: str = ""
    """The app of a live runner, its version and the name of its GPU."""
    version: str = ""
    gpu: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a job tells about itself."""

    worker: Mapping[str, Any] = field(default_factory=dict)
    """The worker's newest status, merged over its events."""
    orchestrator: OrchestratorRef | None = None
    payments: PaymentStatus | None = None
    """None where nothing is paid."""
    segments: int = 0
    """Segments of output that came."""
    gaps: int = 0
    """Segments of output that were lost."""
    dropped: int = 0
    """Segments of input that were given up; pictures, where a job sends them one by one."""
    held_bytes: int = 0
    channels: int = 0
    """Trickle channels that are open."""
    sessions: int = 0
    """Payment sessions that are open."""
    problem: tuple[str, float] | None = None
    """Why nothing that comes back can be shown, and since when (monotonic seconds)."""

    def after(self, former: JobStatus) -> JobStatus:
        """This job's status with the sums of the jobs before it."""
        payments = self.payments or former.payments
        if self.payments is not None and former.payments is not None:
            payments = self.payments.after(former.payments)
        return replace(
            self,
            worker=self.worker or former.worker,
            orchestrator=self.orchestrator or former.orchestrator,
            payments=payments,
            segments=self.segments + former.segments,
            gaps=self.gaps + former.gaps,
            dropped=self.dropped + former.dropped,
            held_bytes=self.held_bytes + former.held_bytes,
            channels=self.channels + former.channels,
            sessions=self.sessions + former.sessions,
        )


class PublisherControl(Protocol):
    """What a job may know of the publisher, and ask of it."""

    @property
    def audio_agreed(self) -> bool:
        """Whether sound was agreed with it."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of its pictures in pixels; None before the first key frame."""

    def request_key_frame(self) -> None:
        """Ask its encoder for a key frame; too soon after the former request this does nothing."""

    def limit_bitrate(self, bits_per_second: int | None) -> None:
        """Have its encoder stay under this rate too; None lifts that."""


class JobHost(PublisherControl, Protocol):
    """The stream, as one of its jobs sees it."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The stream's parameters for its worker now, updates among them, the newest last."""

    @property
    def last_update(self) -> Mapping[str, Any] | None:
        """The newest update as it was, for workers for which that is the whole set; None before the first."""

    def keep_params(self, params: Mapping[str, Any]) -> None:
        """Make these the newest of the stream's parameters, with which a later job starts too.

        Raises UpdateRefused where all are too large together. What a job takes in `update` is kept by the
        stream itself, once it returns.
        """

    def report_error(self, detail: str) -> None:
        """Show in the status what the worker does not do though the job goes on."""

    def on_worker_event(self, event: Json) -> None:
        """Tell those who read the stream's events what its worker said: a status, a text or data."""

    def on_started(self) -> GopBuffer:
        """The job takes frames from now on, to be called once. Returns what it begins with."""

    def on_output(self, frame: Frame) -> None:
        """Take one frame that came back."""

    def can_be_replaced(self) -> bool:
        """Whether another candidate could take the stream now."""


class Job(Protocol):
    """One job: frames go in, changed frames come out through its `JobHost`.

    `run` brings the job up and relays until cancelled or until it raises Ended. However it ended, `close`
    follows: it gives back all that the job took, and is bounded in time.
    """

    @property
    def started(self) -> bool:
        """Whether it came up: it takes frames and updates. It is live when its first picture is back."""

    @property
    def paid(self) -> bool:
        """Whether a first payment was signed for it."""

    @property
    def paused(self) -> bool:
        """Whether no output is to be expected for now, because somebody asked for that."""

    async def run(self) -> None: ...

    @property
    def longest_hold(self) -> float:
        """For how many seconds it could be held now: 0 where it cannot."""

    def hold(self) -> None:
        """Nobody publishes for now: sign nothing until `resume`. Frames then come from another encoder."""

    def resume(self) -> None: ...

    def push(self, frame: Frame) -> None:
        """Take one frame of the publisher, in order and from a key frame on."""

    async def update(self, params: Mapping[str, Any]) -> Json:
        """Hand new parameters to the worker. Returns its answer, empty where it never answers.

        A job that has not started takes them at its start. Raises UpdateRefused.
        """

    async def close(self, reason: EndReason, *, leave: bool = False) -> None:
        """Give back what it took. With `leave`, what another run of the gateway can go on with stays."""

    def status(self) -> JobStatus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumableJob:
    """A paid job of a former run of the gateway. `open` gives it as it is held for its publisher."""

    candidate: Candidate
    open: Callable[[JobHost, FilteringBoundLogger], Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerStream:
    """A stream of a former run of the gateway, whose jobs wait for its publisher for so many seconds.

    The first job is the active one, the next one stands by.
    """

    request: PublishRequest
    last_update: Mapping[str, Any] | None
    """The newest update of its parameters as it was."""
    jobs: Sequence[ResumableJob]
    seconds: float


class JobSource(Protocol):
    """One kind of job, and who could take one: orchestrators of the network, servers of one's own."""

    @property
    def name(self) -> str:
        """What a publisher names it by, in `orchestrator=`."""

    async def prepare(self, request: PublishRequest) -> None:
        """Look for candidates with the request's model, if that was not done yet.

        Raises UnknownModel or TooManyModels.
        """

    def candidates(self, request: PublishRequest) -> Sequence[Candidate]:
        """All that are known, each with a verdict, the usable ones first and best first. Asks nobody.

        `request.orchestrator`, where given, leaves only the one that it names.
        """

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        """Check that a job could be paid on one of these candidates, all admissible and its own.

        Raises SpendLimitReached or LedgerUnavailable.
        """

    def open(
        self, candidate: Candidate, request: PublishRequest, host: JobHost, log: FilteringBoundLogger
    ) -> Job:
        """A job on the candidate, not yet run."""

    def suspend(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        """Have all streams pass the candidate over for a while, longer after a fault than after NoRoom."""

    def forgive(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        """Take back what `suspend` noted for this request's failure, unless others' jobs failed there too."""

    def reasons_not_ready(self) -> list[str]:
        """Why no stream would be taken now, a sentence each; empty when one would be."""
