"""A stream as the status route tells it: the worker's newest status, and the gateway's own beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.stream.seam import Json
from gateway.stream.stream import Stream


def stream_status(stream: Stream, *, viewers: int, whep_url: str) -> Json:
    """The worker's status with `gateway_status` in it, its fields as documented in the README."""
    relay = stream.current_relay_status()
    return {**relay.worker, "gateway_status": _gateway_status(stream, viewers=viewers, whep_url=whep_url)}


def _gateway_status(stream: Stream, *, viewers: int, whep_url: str) -> Json:
    relay = stream.current_relay_status()
    error = stream.current_error()
    return {
        "state": str(stream.state),
        "request_id": stream.request.request_id,
        "stream": stream.request.name,
        "whep_url": whep_url,
        "started_at": rfc3339(stream.started_at),
        "elapsed_s": round(stream.elapsed, 3),
        "first_frame_s": None if stream.first_frame_after is None else round(stream.first_frame_after, 3),
        "orchestrator": relay.orchestrator,
        "candidates": [candidate.json() for candidate in stream.supervisor.candidates],
        "swaps": stream.supervisor.swaps,
        "standby": stream.supervisor.standby_status(),
        "payments": relay.payments,
        "ingest": _ingest(stream, segments_dropped=relay.dropped),
        "output": {
            "fps": stream.output.fps,
            "bitrate_bps": stream.output.bitrate_bps,
            "segments": relay.segments,
            "gaps": relay.gaps,
            "viewers": viewers,
        },
        "error": None if error is None else {"error_message": error[0], "error_time": error[1]},
        "ended": _ended(stream),
    }


def _ingest(stream: Stream, *, segments_dropped: int) -> Json | None:
    stats = stream.ingest_stats
    if stats is None:
        return None
    return {
        "codec": stats.codec,
        "width": stats.width,
        "height": stats.height,
        "fps": stats.fps,
        "bitrate_bps": stats.bitrate_bps,
        "gop_s": stats.gop_s,
        "packets_lost": stats.packets_lost,
        "key_frame_age_s": stats.key_frame_age_s,
        "b_frames": stats.b_frames,
        "segments_dropped": segments_dropped,
    }


def _ended(stream: Stream) -> dict[str, Any] | None:
    if stream.ended is None:
        return None
    ended, at = stream.ended
    return {"reason": str(ended.reason), "detail": ended.detail, "at": rfc3339(at)}


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
