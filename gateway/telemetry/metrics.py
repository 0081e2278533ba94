"""What Prometheus is told, on a registry of its own so that a process can hold more than one gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.aio import tasks
from gateway.telemetry.lag import LoopWatch

START_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30)


@dataclass
class Totals:
    """Sums over streams, live and ended. Wei here are for graphs: exact sums are in the ledger."""

    payments_accepted: int = 0
    tickets: int = 0
    credited_wei: int = 0
    payment_alarms: int = 0
    segments_dropped: int = 0
    segments_missed: int = 0
    swaps: int = 0
    packets_lost: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class StreamSample:
    """One live stream at the moment of a scrape."""

    name: str
    credit_left_s: float | None
    last_payment_age_s: float | None
    ingest_fps: float | None
    ingest_bps: float | None


@dataclass(frozen=True)
class Snapshot:
    """What a scrape reads from the streams rather than having them count along."""

    streams: list[StreamSample]
    viewers: int
    totals: Totals


class Metrics:
    """The gateway's metrics; `attach` gives them the streams to look at when they are scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.starts = Counter(
            "livepeer_stream_starts", "WHIP requests by outcome", ["outcome"], registry=self.registry
        )
        self.ends = Counter(
            "livepeer_stream_ends", "Streams that ended, by reason", ["reason"], registry=self.registry
        )
        self.first_frame_seconds = Histogram(
            "livepeer_first_frame_seconds",
            "From the WHIP request to the first frame back",
            buckets=START_BUCKETS,
            registry=self.registry,
        )

    def watch(self, loop: LoopWatch) -> None:
        """Tell of the event loop's lag, too."""
        self.registry.register(_Loop(loop))

    def attach(self, look: Callable[[], Snapshot]) -> None:
        self.registry.register(_Streams(look))

    def attach_chain(self, look: Callable[[], dict[str, Any]]) -> None:
        """Give the metrics what the chain says of the signer's funds, as `/chain` has it."""
        self.registry.register(_Chain(look))

    def render(self) -> bytes:
        """Every metric in Prometheus' text format."""
        return generate_latest(self.registry)


class _Loop(Collector):
    def __init__(self, watch: LoopWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "livepeer_loop_lag_seconds",
            "How late the event loop was, the median of 2 s",
            self._watch.window.median,
        )
        yield CounterMetricFamily(
            "livepeer_loop_blocked", "Times that the loop stood still for over 100 ms", self._watch.blocked
        )
        failed = CounterMetricFamily(
            "livepeer_task_failures", "Tasks that ended with an exception nobody expected", labels=["task"]
        )
        for name, count in tasks.failures.items():
            failed.add_metric([name], count)
        yield failed


class _Chain(Collector):
    def __init__(self, look: Callable[[], dict[str, Any]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        seen = self._look()
        for name, key, meaning in (
            ("deposit_wei", "deposit_wei", "The deposit of the signer's address; wei here are for graphs"),
            ("reserve_wei", "reserve_wei", "The reserve of the signer's address"),
            ("deposit_hours_left", "hours_left", "How long the deposit lasts at the present burn"),
            ("chain_age_seconds", "age_s", "Since the chain was last read"),
        ):
            if seen[key] is not None:
                yield GaugeMetricFamily(f"livepeer_{name}", meaning, float(seen[key]))
        for name, key, meaning in (
            ("tickets_refused", "refusal", "Whether tickets would be refused"),
            ("funds_warning", "warning", "Whether the deposit is low or an unlock is under way"),
        ):
            yield GaugeMetricFamily(f"livepeer_{name}", meaning, float(seen[key] is not None))


_OF_EACH_STREAM = (
    ("credit_left_seconds", "Stream time that is paid for in advance", "credit_left_s"),
    ("last_payment_age_seconds", "Since the last accepted payment", "last_payment_age_s"),
    ("ingest_fps", "Frames a second from the publisher", "ingest_fps"),
    ("ingest_bitrate_bps", "Bits a second from the publisher", "ingest_bps"),
)


class _Streams(Collector):
    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is looked at before the first scrape

    def collect(self) -> Iterator[Metric]:
        seen = self._look()
        totals = seen.totals
        yield GaugeMetricFamily("livepeer_streams", "Live streams", len(seen.streams))
        yield GaugeMetricFamily("livepeer_viewers", "Connected viewers", seen.viewers)
        yield CounterMetricFamily(
            "livepeer_payments_accepted", "Payments that were credited", totals.payments_accepted
        )
        yield CounterMetricFamily("livepeer_tickets", "Tickets in credited payments", totals.tickets)
        yield CounterMetricFamily(
            "livepeer_credited_wei", "Wei credited, by the tickets' expected value", totals.credited_wei
        )
        yield CounterMetricFamily(
            "livepeer_payment_alarms",
            "Payments refused by the signer or not what was asked for, and times that the credit ran low",
            totals.payment_alarms,
        )
        yield CounterMetricFamily(
            "livepeer_swaps", "Times that a live stream went on at another orchestrator", totals.swaps
        )
        yield CounterMetricFamily(
            "livepeer_ingest_packets_lost", "Publishers' video packets that never came", totals.packets_lost
        )
        drops = CounterMetricFamily("livepeer_drops", "What was given up, by kind", labels=["kind"])
        drops.add_metric(["segment_in"], totals.segments_dropped)
        drops.add_metric(["segment_out"], totals.segments_missed)
        yield drops
        for name, meaning, value in _OF_EACH_STREAM:
            family = GaugeMetricFamily(f"livepeer_{name}", meaning, labels=["stream"])
            for stream in seen.streams:
                now: float | None = getattr(stream, value)
                if now is not None:
                    family.add_metric([stream.name], now)
            yield family
