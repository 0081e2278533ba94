"""What Prometheus is told, on a registry of its own so that a process can hold more than one gateway."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

START_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30)


class Metrics:
    """The gateway's counters and gauges. Wei counters are for graphs: exact sums are in the ledger."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.streams = Gauge("livepeer_streams", "Live streams", registry=self.registry)
        self.viewers = Gauge("livepeer_viewers", "Connected viewers", registry=self.registry)
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
        self.payments = Counter(
            "livepeer_payments", "Payments by outcome", ["outcome"], registry=self.registry
        )
        self.credited_wei = Counter(
            "livepeer_credited_wei", "Wei that orchestrators credited (expected value)", registry=self.registry
        )
        self.credit_left = Gauge(
            "livepeer_credit_left_seconds",
            "Seconds of stream the orchestrator still has credit for",
            ["stream"],
            registry=self.registry,
        )
        self.payment_age = Gauge(
            "livepeer_last_payment_age_seconds",
            "Seconds since the last accepted payment",
            ["stream"],
            registry=self.registry,
        )
        self.drops = Counter("livepeer_drops", "What was dropped, by kind", ["kind"], registry=self.registry)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def forget_stream(self, stream: str) -> None:
        """Remove a stream's series, so that names that come and go do not pile up."""
        for gauge in (self.credit_left, self.payment_age):
            gauge.remove_by_labels({"stream": stream})
