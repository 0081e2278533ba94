"""A job that another run of the gateway started, as the job that goes on with it needs it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.payments.payer import Payer
from gateway.stream.seam import Json


@dataclass(frozen=True, kw_only=True)
class FormerRun:
    """The part that kinds of jobs have in common."""

    payer: Payer
    after: int | None
    """The time that its pictures came to by now, in ticks."""
    last_update: Json | None
    """The newest parameters that its worker got; None where that was at its start."""
