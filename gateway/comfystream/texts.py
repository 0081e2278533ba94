"""The texts that a workflow gives out beside its pictures."""

from __future__ import annotations

from collections import deque

from structlog.typing import FilteringBoundLogger

MAX_KEPT = 8
MAX_LOGGED = 200
"""Characters of a text in the log."""


class Texts:
    """The newest texts, for the status. The log gets those that differ from the one before."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self.total = 0
        self._log = log
        self._newest: deque[str] = deque(maxlen=MAX_KEPT)

    def add(self, text: str) -> None:
        if not self._newest or text != self._newest[-1]:
            self._log.info("text result", text=text[:MAX_LOGGED])
        self._newest.append(text)
        self.total += 1

    def newest(self) -> list[str]:
        """The oldest of them first."""
        return list(self._newest)
