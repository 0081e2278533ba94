"""The flags that concern outputs, and the settings that come out of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.flags import (
    DURATION,
    INTEGER,
    LIST,
    PATH,
    POSITIVE_INTEGER,
    TEXT,
    Flag,
    FlagError,
    Kind,
    Parsed,
    choice,
)
from gateway.outputs.done_commands import parse_command
from gateway.outputs.recorder import RecordOf
from gateway.outputs.retention import KeepRule
from gateway.outputs.target import Target, parse_target


def _parse_targets(value: str) -> tuple[Target, ...]:
    return tuple(parse_target(url) for url in LIST.parse(value))


TARGETS = Kind(
    "url,..",
    "rtmp://, rtmps://, srt:// and file: URLs, comma-separated (docs/outputs.md)",
    _parse_targets,
    secret=True,
)

COMMAND = Kind("command", "a program with its words, {file} among them", parse_command, secret=True)

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
    Flag("record", PATH, None, "Record streams below this folder (docs/recording.md)"),
    Flag(
        "recordWhat",
        choice(*RecordOf),
        "result",
        "Record this of a stream whose token and webhook do not say",
    ),
    Flag("recordKeep", DURATION, "0", "Remove recordings after this; 0 keeps them"),
    Flag("recordMaxGB", INTEGER, "0", "Remove the oldest recordings above so many GB; 0: no limit"),
    Flag("recordDone", COMMAND, None, "Run this command for each finished file: 'upload {file}'"),
    Flag("ffmpeg", TEXT, "ffmpeg", "Run this FFmpeg for outputs"),
)


@dataclass(frozen=True)
class RecordSettings:
    """What is recorded, where, and what becomes of it."""

    folder: Path
    what: RecordOf
    """Of a stream whose token and webhook do not say."""
    retention: KeepRule
    done: tuple[str, ...] | None
    """The words of a command for each finished file."""


@dataclass(frozen=True)
class OutputSettings:
    """What goes out, and how much of it. `always` are the operator's targets for every stream."""

    always: tuple[Target, ...] = ()
    hosts: tuple[str, ...] = ()
    total: int = 64
    per_stream: int = 4
    program: str = "ffmpeg"
    record: RecordSettings | None = None

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> OutputSettings:
        given: Any = parsed["output"]
        return cls(
            always=given or (),
            hosts=parsed["outputHosts"] or (),
            total=parsed["maxOutputs"],
            per_stream=parsed["maxOutputsPerStream"],
            program=parsed["ffmpeg"],
            record=_record(parsed),
        )


def _record(parsed: Parsed) -> RecordSettings | None:
    if parsed["record"] is None:
        for name in ("recordWhat", "recordKeep", "recordMaxGB", "recordDone"):
            if name in parsed.given:
                raise FlagError(f"-{name} needs -record, the folder that recordings go to")
        return None
    gigabytes = parsed["recordMaxGB"]
    retention = KeepRule(parsed["recordKeep"] or None, gigabytes * 10**9 if gigabytes else None)
    folder: Path = parsed["record"]
    return RecordSettings(folder.absolute(), RecordOf(parsed["recordWhat"]), retention, parsed["recordDone"])
