"""A stream's figures for the metrics."""

from __future__ import annotations

from fractions import Fraction

from gateway.payments.figures import json_seconds
from gateway.stream.stream import Stream
from gateway.telemetry.metrics import StreamSample, Totals


def sample_of(stream: Stream) -> StreamSample:
    """How it is doing now."""
    job, ingest = stream.job_status(), stream.publishers.session.stats
    payments = job.payments
    return StreamSample(
        stream.request.name,
        None if payments is None else json_seconds(payments.credit_left),
        None if payments is None else json_seconds(payments.last_accepted_age),
        None if ingest is None else ingest.fps,
        None if ingest is None else ingest.bitrate_bps,
        None if job.orchestrator is None else job.orchestrator.kind or "job",
        stream.request.customer.name,
        stream.supervisor.burn(),
    )


def totals_of(stream: Stream) -> Totals:
    """What it has come to since its start."""
    job, ingest = stream.job_status(), stream.publishers.session.stats
    payments = job.payments
    return Totals(
        payments_accepted=payments.accepted if payments else 0,
        tickets=payments.tickets if payments else 0,
        credited_wei=payments.credited if payments else Fraction(0),
        overpaid_wei=payments.overpaid if payments else Fraction(0),
        payment_alarms=payments.alarms if payments else 0,
        segments_dropped=job.dropped,
        segments_missed=job.gaps,
        swaps=stream.supervisor.swaps,
        packets_lost=0 if ingest is None else ingest.packets_lost,
    )
