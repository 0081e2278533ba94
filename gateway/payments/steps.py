"""What happens to a payment, step by step, and what that makes of its wei. Plain logic.

A payment's course is text, a line a step: a letter, the milliseconds since the signer was asked for it, and
what there is to say. `s12` and `d14 job start` stand for: signed after 12 ms, handed out after 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_STEPS = 64
"""How many are kept of one payment: more than are possible while its credit lasts."""
MAX_TEXT = 300
"""How many characters of a detail are kept."""


class Step(StrEnum):
    """What is about to happen to a payment, or what became of it."""

    INTENDED = "intended"
    """The signer is about to be asked for it."""
    SIGNED = "signed"
    """The signer made it: it exists, and nobody else has it."""
    WITHHELD = "withheld"
    """It is not what was asked for, or costs too much: it is never handed out."""
    DELIVERED = "delivered"
    """It is about to be handed to the orchestrator, for the first time or again."""
    UNKNOWN = "unknown"
    """No verdict came: it may have been credited."""
    CREDITED = "credited"
    HANDED_OUT = "handed_out"
    """The job that it was to start did not start: the orchestrator has its tickets, and credited nothing."""
    REFUSED = "refused"
    """The orchestrator said no to the payment itself."""


class Outcome(StrEnum):
    """What became of a payment, as far as the ledger knows."""

    CREDITED = "credited"
    HANDED_OUT = "handed_out"
    """It was not credited, and its tickets may be redeemed: the orchestrator has them."""
    UNCERTAIN = "uncertain"
    """It was handed out and no verdict came: it may have been credited."""
    REFUSED = "refused"
    """The orchestrator refused it, or it was never handed out for not being what was asked for."""
    UNSPENT = "unspent"
    """It was signed and never handed out: nobody can redeem it."""


OUTCOMES = {
    Step.SIGNED: Outcome.UNSPENT,
    Step.WITHHELD: Outcome.REFUSED,
    Step.DELIVERED: Outcome.UNCERTAIN,
    Step.UNKNOWN: Outcome.UNCERTAIN,
    Step.CREDITED: Outcome.CREDITED,
    Step.HANDED_OUT: Outcome.HANDED_OUT,
    Step.REFUSED: Outcome.REFUSED,
}
"""What a payment's last step makes of it."""

SETTLED = frozenset({Step.WITHHELD, Step.CREDITED, Step.HANDED_OUT, Step.REFUSED})
"""After these nothing more is expected."""

_VERDICTS = {Step.DELIVERED, Step.UNKNOWN, Step.CREDITED, Step.HANDED_OUT, Step.REFUSED}
FOLLOWING: dict[Step, set[Step]] = {
    Step.INTENDED: {Step.SIGNED},
    Step.SIGNED: {Step.DELIVERED, Step.WITHHELD},
    Step.WITHHELD: set(),
    Step.DELIVERED: _VERDICTS,
    Step.UNKNOWN: _VERDICTS,
    Step.CREDITED: {Step.CREDITED},
    Step.HANDED_OUT: _VERDICTS,
    Step.REFUSED: set(),
}
"""Which steps may come after each."""

_LETTERS = {
    Step.SIGNED: "s",
    Step.WITHHELD: "w",
    Step.DELIVERED: "d",
    Step.UNKNOWN: "u",
    Step.CREDITED: "c",
    Step.HANDED_OUT: "h",
    Step.REFUSED: "r",
}
_STEPS = {letter: step for step, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class CourseStep:
    """One step of a payment, `after_ms` milliseconds after the signer was asked for it."""

    step: Step
    after_ms: int
    detail: str = ""


def clean(text: str, most: int = MAX_TEXT) -> str:
    """Text from anywhere as databases, terminals and tables take it: printable, and at most so long."""
    return "".join(one if one.isprintable() else "?" for one in text[:most])


def append(course: str, taken: CourseStep) -> str:
    """A course with one more step. A full one keeps its newest step only."""
    line = f"{_LETTERS[taken.step]}{taken.after_ms}"
    if taken.detail:
        line += f" {clean(taken.detail)}"
    lines = course.split("\n") if course else []
    return "\n".join([*lines[: MAX_STEPS - 1], line])


def read_course(course: str) -> list[CourseStep]:
    """The steps of a course. ValueError for what is none."""
    steps = []
    for line in course.split("\n"):
        head, _, detail = line.partition(" ")
        if head[:1] not in _STEPS:
            raise ValueError(f"{head!r} is no step")
        steps.append(CourseStep(_STEPS[head[0]], int(head[1:]), detail))
    return steps
