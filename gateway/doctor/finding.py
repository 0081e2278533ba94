"""What the doctor found about one thing, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Streams are served, but not as well as they could be, or not by this one."""
    FAULT = "fault"
    """No publisher would be served."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`part` is the kind of thing, `name` which one, empty where there is one only."""

    part: str
    level: Level
    detail: str
    advice: str = ""
    """What to do about it, a sentence; empty where nothing."""
    name: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Numbers for programs, by names that tell their units; wei are decimal text."""

    def row(self) -> dict[str, Any]:
        """For tables and JSON."""
        return {
            "part": self.part,
            "name": self.name,
            "level": str(self.level),
            "detail": self.detail,
            "advice": self.advice,
            "figures": dict(self.figures),
        }


def would_serve(findings: Iterable[Finding]) -> bool:
    """Whether a publisher would be served."""
    return all(finding.level is not Level.FAULT for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, with what to do about it under it; the last says how it comes out."""
    lines = []
    for finding in findings:
        title = f"{finding.part} {finding.name}".rstrip()
        lines.append(f"{finding.level:8} {title}: {finding.detail}")
        if finding.advice:
            lines.append(f"{'':8} -> {finding.advice}")
    faults = sum(finding.level is Level.FAULT for finding in findings)
    lines.append(
        f"no publisher would be served: faults above: {faults}" if faults else "a publisher would be served"
    )
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """The same as one JSON object."""
    rows = [finding.row() for finding in findings]
    return json.dumps({"would_serve": would_serve(findings), "findings": rows}, indent=2)
