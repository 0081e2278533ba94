"""A stream as JSON: the worker's newest status, and the gateway's own beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from gateway import money
from gateway.payments.figures import json_seconds
from gateway.payments.status import PaymentStatus
from gateway.stream.seam import Candidate, Json, OrchestratorRef
from gateway.stream.stream import Stream
from gateway.stream.supervisor import StandbyStatus
from gateway.webrtc.ingest import AudioStats, IngestStats


def stream_status(stream: Stream, *, viewers: int, whep_url: str) -> Json:
    """The worker's status with `gateway_status` in it."""
    return {
        **stream.job_status().worker,
        "gateway_status": _gateway_status(stream, viewers=viewers, whep_url=whep_url),
    }


def _gateway_status(stream: Stream, *, viewers: int, whep_url: str) -> Json:
    job = stream.job_status()
    error = stream.current_error()
    return {
        "state": str(stream.state),
        "request_id": stream.request.request_id,
        "stream": stream.request.name,
        "whep_url": whep_url,
        "started_at": rfc3339(stream.started_at),
        "elapsed_s": round(stream.elapsed, 3),
        "first_frame_s": None if stream.first_frame_after is None else round(stream.first_frame_after, 3),
        "orchestrator": orchestrator_json(job.orchestrator),
        "candidates": [candidate_json(candidate) for candidate in stream.supervisor.candidates],
        "swaps": stream.supervisor.swaps,
        "resumed": stream.publishers.resumed,
        "standby": _standby(stream.supervisor.standby_status()),
        "payments": payments_json(job.payments),
        "ingest": ingest_json(stream, segments_dropped=job.dropped),
        "output": output_json(stream, viewers),
        "error": None if error is None else {"error_message": error[0], "error_time": error[1]},
        "ended": _ended(stream),
    }


def candidate_json(candidate: Candidate) -> Json:
    """A candidate with its verdict, for status and for the refusal of a publisher."""
    return {
        "url": candidate.url,
        **_kind(candidate.kind),
        "price_wei_per_second": _price(candidate.price),
        "verdict": str(candidate.verdict),
        "detail": candidate.detail,
    }


def orchestrator_json(one: OrchestratorRef | None) -> Json | None:
    if one is None:
        return None
    shown = {
        "url": one.url,
        "kind": one.kind or "job",
        "address": one.address,
        "price_wei_per_second": _price(one.price),
    }
    if one.app:  # whose manifest id is a secret
        return {**shown, "app": one.app, "version": one.version, "gpu": one.gpu}
    return {**shown, "manifest_id": one.manifest_id}


def _kind(kind: str | None) -> Json:
    return {} if kind is None else {"kind": kind}


def _price(price: Fraction | None) -> str | None:
    return None if price is None else money.text(price)


def payments_json(payments: PaymentStatus | None) -> Json | None:
    if payments is None:
        return None
    return {
        "accepted": payments.accepted,
        "tickets": payments.tickets,
        "credited_wei": money.whole_wei(payments.credited),
        "owed_wei": money.whole_wei(payments.owed),
        "overpaid_wei": money.whole_wei(payments.overpaid),
        "last_accepted_age_s": json_seconds(payments.last_accepted_age),
        "next_due_in_s": json_seconds(payments.next_due_in),
        "credit_left_s": json_seconds(payments.credit_left),
        "state": payments.state,
        "alarms": payments.alarms,
    }


def _standby(standby: StandbyStatus | None) -> Json | None:
    if standby is None:
        return None
    return {
        "state": standby.state,
        "detail": standby.detail,
        "orchestrator": orchestrator_json(standby.orchestrator),
        "payments": payments_json(standby.payments),
    }


def output_json(stream: Stream, viewers: int) -> Json:
    """What comes back, and who watches it."""
    job = stream.job_status()
    return {
        "fps": stream.output.fps,
        "bitrate_bps": stream.output.bitrate_bps,
        "audio": stream.output.has_audio,
        "segments": job.segments,
        "gaps": job.gaps,
        "viewers": viewers,
    }


def ingest_json(stream: Stream, *, segments_dropped: int) -> Json | None:
    """What the publisher sends; None before it was answered."""
    stats = stream.publishers.session.stats
    if stats is None:
        return None
    return {
        "codec": stats.codec,
        "width": stats.width,
        "height": stats.height,
        "fps": stats.fps,
        "bitrate_bps": stats.bitrate_bps,
        "gop_s": stats.gop_s,
        "gop_note": _gop_note(stats),
        "packets_lost": stats.packets_lost,
        "key_frame_age_s": stats.key_frame_age_s,
        "b_frames": stats.b_frames,
        "without_key_frame": stats.without_key_frame,
        "audio": _audio(stats.audio),
        "layer": stats.layer,
        "rejected": [{"kind": one.kind, "reason": one.reason} for one in stats.rejected],
        "segments_dropped": segments_dropped,
    }


def _gop_note(stats: IngestStats) -> str | None:
    """What an encoder means for its stream that makes no key frame when it is asked for one."""
    if not stats.ignores_requests:
        return None
    return (
        f"key frames come {stats.longest_gop_s:.1f} s apart, and none when asked for: segments are as long, "
        "so a loss shows until the next key frame, a swap or a viewer may wait for it, and a slow worker is "
        "noticed late; set the encoder's key frame interval to 1 or 2 s"
    )


def _audio(stats: AudioStats | None) -> Json | None:
    if stats is None:
        return None
    return {
        "codec": "opus",
        "packets": stats.packets,
        "packets_lost": stats.packets_lost,
        "packets_dropped": stats.packets_dropped,
        "live": stats.live,
    }


def _ended(stream: Stream) -> dict[str, Any] | None:
    if stream.ended is None:
        return None
    ended, at = stream.ended
    return {"reason": str(ended.reason), "detail": ended.detail, "at": rfc3339(at)}


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
