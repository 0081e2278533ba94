"""Counts of a signer's calls, for tests and operators; no decision depends on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.devnet.signer.state import SignerSession

MAX_SESSIONS = 10_000
"""Limit of sessions remembered; the least recently used is forgotten first, but stays in the totals."""


@dataclass(slots=True)
class SigningCounts:
    signings: int = 0
    null_states: int = 0
    stale_states: int = 0
    overlapping: int = 0


@dataclass(slots=True)
class _Session:
    counts: SigningCounts = field(default_factory=SigningCounts)
    newest: int = 0
    under_way: int = 0


class Audit:
    """Counts since the start of the process, in total and by state id."""

    def __init__(self) -> None:
        self._total = SigningCounts()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    @contextmanager
    def call(self, state: SignerSession | None) -> Iterator[None]:
        """Count a stale state and an overlap with another call; lasts as long as the call."""
        if state is None:
            yield
            return
        session = self._session(state.state_id)
        if state.sequence < session.newest:
            self._total.stale_states += 1
            session.counts.stale_states += 1
        if session.under_way:
            self._total.overlapping += 1
            session.counts.overlapping += 1
        session.under_way += 1
        try:
            yield
        finally:
            session.under_way -= 1

    def signed(self, before: SignerSession | None, after: SignerSession) -> None:
        """Count a signed answer: a call with state `before` got the state `after`."""
        session = self._session(after.state_id)
        session.newest = max(session.newest, after.sequence)
        for counts in (self._total, session.counts):
            counts.signings += 1
            counts.null_states += before is None

    def to_json(self) -> dict[str, Any]:
        sessions = {state_id: asdict(session.counts) for state_id, session in self._sessions.items()}
        return {**asdict(self._total), "sessions": sessions}

    def _session(self, state_id: str) -> _Session:
        session = self._sessions.setdefault(state_id, _Session())
        self._sessions.move_to_end(state_id)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session
