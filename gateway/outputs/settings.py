"""The flags that concern outputs, and the settings that come out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.flags import LIST, POSITIVE_INTEGER, TEXT, Flag, Kind, Parsed
from gateway.outputs.target import Target, parse_target


def _parse_targets(value: str) -> tuple[Target, ...]:
    return tuple(parse_target(url) for url in LIST.parse(value))


TARGETS = Kind(
    "url,..",
    "rtmp://, rtmps://, srt:// and file: URLs, comma-separated (docs/outputs.md)",
    _parse_targets,
    secret=True,
)

OUTPUT_FLAGS: tuple[Flag, ...] = (
    Flag("output", TARGETS, None, "Send every stream there too: rtmp://, rtmps://, srt:// or file: URLs"),
    Flag(
        "outputHosts",
        LIST,
        None,
        "Let publishers' outputs go to these hosts only, such as *.example.com",
        "all hosts that are not in private networks",
    ),
    Flag("maxOutputs", POSITIVE_INTEGER, "64", "Run at most this many outputs of publishers at once"),
    Flag("maxOutputsPerStream", POSITIVE_INTEGER, "4", "Run at most this many of one stream"),
    Flag("ffmpeg", TEXT, "ffmpeg", "Run this FFmpeg for outputs"),
)


@dataclass(frozen=True)
class OutputSettings:
    """What goes out, and how much of it. `always` are the operator's targets for every stream."""

    always: tuple[Target, ...] = ()
    hosts: tuple[str, ...] = ()
    total: int = 64
    per_stream: int = 4
    program: str = "ffmpeg"

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> OutputSettings:
        given: Any = parsed["output"]
        return cls(
            always=given or (),
            hosts=parsed["outputHosts"] or (),
            total=parsed["maxOutputs"],
            per_stream=parsed["maxOutputsPerStream"],
            program=parsed["ffmpeg"],
        )
