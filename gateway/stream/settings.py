"""The flags that concern streams and their jobs, and the settings that come out of them."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.flags import (
    BOOLEAN,
    DURATION,
    INTEGER,
    LIST,
    POSITIVE_DURATION,
    POSITIVE_INTEGER,
    Flag,
    Parsed,
    within,
)

DEFAULT_OUTPUT_TIMEOUT = 30.0

MODELS = within(LIST, "the names of one or more models, comma-separated", bool)

STREAM_FLAGS: tuple[Flag, ...] = (
    Flag("model", MODELS, "comfystream", "Ask orchestrators for these models, the first by default"),
    Flag(
        "ingestTimeout",
        POSITIVE_DURATION,
        "5s",
        "End a stream after this long without media from its publisher",
    ),
    Flag(
        "resumeTimeout",
        DURATION,
        "10s",
        "Hold a paid job this long for its publisher to come back; 0s: do not hold",
    ),
    Flag("maxSwaps", INTEGER, "3", "Replace at most this many jobs of a stream within 3 minutes"),
    Flag(
        "maxPaidStarts",
        POSITIVE_INTEGER,
        "3",
        "End a stream after this many first payments in a row without a picture",
    ),
    Flag(
        "liveOutSegmentTimeout",
        DURATION,
        "30s",
        "Replace a job that returns no picture for this long; 0 means 30s",
    ),
    Flag(
        "standby",
        BOOLEAN,
        "false",
        "Pay for a second job of each stream, on another orchestrator, to switch to",
    ),
    Flag("drainTimeout", DURATION, "30s", "Let live streams continue for at most this long after SIGTERM"),
)


@dataclass(frozen=True)
class StreamSettings:
    """Durations are seconds."""

    models: tuple[str, ...]
    """The operator's, the first for publishers who name none."""
    """For streams that name no pipeline."""
    ingest_timeout: float
    resume_timeout: float
    max_swaps: int
    """Jobs of a stream that may be replaced within 3 minutes."""
    max_paid_starts: int
    """First payments in a row that may bring no picture."""
    output_timeout: float
    standby: bool
    """Whether a stream that does not say gets a second job."""
    drain_timeout: float

    @property
    def model(self) -> str:
        """The default."""
        return self.models[0]

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> StreamSettings:
        return cls(
            models=tuple(dict.fromkeys(parsed["model"])),
            ingest_timeout=parsed["ingestTimeout"],
            resume_timeout=parsed["resumeTimeout"],
            max_swaps=parsed["maxSwaps"],
            max_paid_starts=parsed["maxPaidStarts"],
            output_timeout=parsed["liveOutSegmentTimeout"] or DEFAULT_OUTPUT_TIMEOUT,
            standby=parsed["standby"],
            drain_timeout=parsed["drainTimeout"],
        )
