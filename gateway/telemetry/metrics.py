"""Metrics for Prometheus, in a registry of their own: a process can hold more than one gateway."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from gateway.aio import tasks
from gateway.telemetry.events import EventHub, EventType
from gateway.telemetry.lag import LoopWatch
from gateway.telemetry.node_metrics import of_node

KINDS = ("job", "runner", "comfystream")
"""Kinds of jobs that are told of where there is none, too."""
MAX_CUSTOMERS = 100
"""Customers with a row of their own: those of the highest cost; the others are together in `OTHERS`."""
OTHERS = "(others)"
START_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30)


@dataclass
class Totals:
    """Sums over live and ended streams. Wei are for graphs here; exact sums are in the ledger."""

    payments_accepted: int = 0
    tickets: int = 0
    credited_wei: Fraction = Fraction(0)
    overpaid_wei: Fraction = Fraction(0)
    """Of ended streams what their orchestrators kept of it, of live ones what the signer billed too much."""
    payment_alarms: int = 0
    segments_dropped: int = 0
    segments_missed: int = 0
    swaps: int = 0
    packets_lost: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class StreamSample:
    """One live stream at the time of a scrape."""

    name: str
    credit_left_s: float | None
    last_payment_age_s: float | None
    ingest_fps: float | None
    ingest_bps: float | None
    kind: str | None = None
    """What kind of job it has; None while it has none."""
    customer: str = ""
    cost: Fraction = Fraction(0)
    """Wei a second."""


@dataclass(frozen=True)
class Snapshot:
    """What is read from the streams at each scrape."""

    streams: list[StreamSample]
    viewers: int
    totals: Totals


@dataclass(frozen=True)
class RelayCounts:
    """Media between the nodes of a cluster, since the start."""

    gaps: int
    """How often messages from other nodes were missing."""
    dropped: int
    """Frames that other nodes were not sent."""


class Metrics:
    """The gateway's metrics. `attach` sets where the streams are read from at each scrape."""

    def __init__(self, node: str = "") -> None:
        """`node` is the name of this node of a cluster, for the label `node`."""
        self._node = node
        self.registry = CollectorRegistry()
        self.starts = Counter(
            "livepeer_stream_starts", "WHIP requests by outcome", ["outcome"], registry=self.registry
        )
        self.ends = Counter(
            "livepeer_stream_ends", "Streams that ended, by reason", ["reason"], registry=self.registry
        )
        self.first_frame_seconds = Histogram(
            "livepeer_first_frame_seconds",
            "Seconds from the WHIP request to the first frame back",
            buckets=START_BUCKETS,
            registry=self.registry,
        )

    def watch(self, loop: LoopWatch) -> None:
        """Add the event loop's lag."""
        self.registry.register(_Loop(loop))

    def attach(self, look: Callable[[], Snapshot]) -> None:
        """Add the streams."""
        self.registry.register(_Streams(look))

    def attach_events(self, hub: EventHub) -> None:
        """Add the events for others."""
        self.registry.register(_Events(hub))

    def attach_chain(self, look: Callable[[], dict[str, Any]]) -> None:
        """Add the signer's funds on chain, from the JSON of `/chain`."""
        self.registry.register(_Chain(look))

    def attach_trust(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Add how many orchestrators are proven, new or suspended."""
        self.registry.register(_Trust(count))

    def attach_relay(self, look: Callable[[], RelayCounts]) -> None:
        """Add what was lost between the nodes of a cluster."""
        self.registry.register(_Relay(look))

    def render(self) -> bytes:
        """Every metric, in Prometheus' text format."""
        return of_node(self.registry, self._node) if self._node else generate_latest(self.registry)


class _Loop(Collector):
    def __init__(self, watch: LoopWatch) -> None:
        self._watch = watch

    @override
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "livepeer_loop_lag_seconds",
            "How late the event loop is: the median of 2 s",
            self._watch.window.median,
        )
        yield CounterMetricFamily(
            "livepeer_loop_blocked",
            "Times that the event loop was blocked for over 100 ms",
            self._watch.blocked,
        )
        failed = CounterMetricFamily(
            "livepeer_task_failures", "Tasks that ended with an unexpected exception", labels=["task"]
        )
        for name, count in tasks.failures.items():
            failed.add_metric([name], count)
        yield failed


class _Relay(Collector):
    def __init__(self, look: Callable[[], RelayCounts]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()

    @override
    def collect(self) -> Iterator[Metric]:
        counts = self._look()
        yield CounterMetricFamily(
            "livepeer_relay_gaps", "Gaps in what came from other nodes, each up to a key frame", counts.gaps
        )
        yield CounterMetricFamily(
            "livepeer_relay_drops", "Frames that NATS did not take in time for other nodes", counts.dropped
        )


class _Events(Collector):
    def __init__(self, hub: EventHub) -> None:
        self._hub = hub

    @override
    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        emitted = CounterMetricFamily("livepeer_events", "Events for others, by type", labels=["type"])
        for kind in EventType:
            emitted.add_metric([kind.value], hub.emitted[kind])
        yield emitted
        yield CounterMetricFamily(
            "livepeer_events_delivered", "Events that the webhook's server took", hub.delivered
        )
        yield CounterMetricFamily(
            "livepeer_event_attempts_failed",
            "Requests to the webhook's server that failed",
            hub.failed_attempts,
        )
        dropped = CounterMetricFamily(
            "livepeer_events_dropped", "Events that never reached the webhook or the file", labels=["to"]
        )
        for to in ("webhook", "file"):
            dropped.add_metric([to], hub.dropped[to])
        yield dropped


class _Chain(Collector):
    def __init__(self, look: Callable[[], dict[str, Any]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()

    @override
    def collect(self) -> Iterator[Metric]:
        seen = self._look()
        for name, key, meaning in (
            ("deposit_wei", "deposit_wei", "Deposit of the signer, in wei for graphs"),
            ("reserve_wei", "reserve_wei", "Reserve of the signer, in wei for graphs"),
            ("deposit_hours_left", "hours_left", "Hours that the deposit lasts at the present spending"),
            ("chain_age_seconds", "age_s", "Seconds since the chain was last read"),
        ):
            if seen[key] is not None:
                yield GaugeMetricFamily(f"livepeer_{name}", meaning, float(seen[key]))
        for name, key, meaning in (
            ("tickets_refused", "refusal", "1 where tickets would be refused for lack of funds"),
            ("funds_warning", "warning", "1 where the deposit is low or the funds are being unlocked"),
        ):
            yield GaugeMetricFamily(f"livepeer_{name}", meaning, float(seen[key] is not None))


class _Trust(Collector):
    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def describe(self) -> Iterable[Metric]:
        return ()

    @override
    def collect(self) -> Iterator[Metric]:
        known = GaugeMetricFamily(
            "livepeer_paid_addresses",
            "Addresses that were ever paid: proven by pictures, new, or suspended for a fault",
            labels=["trust"],
        )
        for trust, count in self._count().items():
            known.add_metric([trust], count)
        yield known


def _customers(streams: Iterable[StreamSample]) -> Iterator[Metric]:
    """Live streams and their cost by customer; those without a customer have an empty name."""
    live: dict[str, tuple[Fraction, int]] = {}
    for one in streams:
        cost, count = live.get(one.customer, (Fraction(0), 0))
        live[one.customer] = cost + one.cost, count + 1
    ranked = sorted(live.items(), key=lambda item: item[1], reverse=True)
    rows = dict(ranked[:MAX_CUSTOMERS])
    rest = [row for _, row in ranked[MAX_CUSTOMERS:]]
    if rest:
        rows[OTHERS] = sum((cost for cost, _ in rest), Fraction(0)), sum(count for _, count in rest)
    number = GaugeMetricFamily("livepeer_customer_streams", "Live streams of a customer", labels=["customer"])
    price = GaugeMetricFamily(
        "livepeer_customer_cost_wei", "Wei a second that a customer's live streams cost", labels=["customer"]
    )
    for customer, (cost, count) in rows.items():
        number.add_metric([customer], count)
        price.add_metric([customer], float(cost))
    yield number
    yield price


_STREAM_GAUGES = (
    ("credit_left_seconds", "Seconds of stream that are paid for in advance", "credit_left_s"),
    ("last_payment_age_seconds", "Seconds since the last accepted payment", "last_payment_age_s"),
    ("ingest_fps", "Frames per second from the publisher", "ingest_fps"),
    ("ingest_bitrate_bps", "Bits per second from the publisher", "ingest_bps"),
)


class _Streams(Collector):
    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read before the first scrape

    @override
    def collect(self) -> Iterator[Metric]:
        seen = self._look()
        totals = seen.totals
        yield GaugeMetricFamily("livepeer_streams", "Live streams", len(seen.streams))
        jobs = GaugeMetricFamily("livepeer_jobs", "Jobs that live streams have, by kind", labels=["kind"])
        kinds = Counts(stream.kind for stream in seen.streams if stream.kind is not None)
        for kind in dict.fromkeys((*KINDS, *kinds)):
            jobs.add_metric([kind], kinds[kind])
        yield jobs
        yield GaugeMetricFamily("livepeer_viewers", "Connected viewers", seen.viewers)
        yield CounterMetricFamily(
            "livepeer_payments_accepted", "Payments that orchestrators credited", totals.payments_accepted
        )
        yield CounterMetricFamily("livepeer_tickets", "Tickets in credited payments", totals.tickets)
        yield CounterMetricFamily(
            "livepeer_credited_wei", "Wei credited: the tickets' expected value", int(totals.credited_wei)
        )
        yield CounterMetricFamily(
            "livepeer_payment_alarms",
            "Payments that the signer refused or that are not as requested, and times that credit was low",
            totals.payment_alarms,
        )
        yield CounterMetricFamily(
            "livepeer_swaps",
            "Jobs of live streams that were replaced by another orchestrator's",
            totals.swaps,
        )
        yield CounterMetricFamily(
            "livepeer_ingest_packets_lost", "Video packets of publishers that were lost", totals.packets_lost
        )
        yield GaugeMetricFamily(
            "livepeer_overpaid_wei",
            "Wei that were credited for more than the time of streams, in wei for graphs",
            int(totals.overpaid_wei),
        )
        yield from _customers(seen.streams)
        drops = CounterMetricFamily(
            "livepeer_drops",
            "Segments that were dropped, to (segment_in) and from (segment_out) orchestrators",
            labels=["kind"],
        )
        drops.add_metric(["segment_in"], totals.segments_dropped)
        drops.add_metric(["segment_out"], totals.segments_missed)
        yield drops
        for name, meaning, value in _STREAM_GAUGES:
            family = GaugeMetricFamily(f"livepeer_{name}", meaning, labels=["stream"])
            for stream in seen.streams:
                now: float | None = getattr(stream, value)
                if now is not None:
                    family.add_metric([stream.name], now)
            yield family
