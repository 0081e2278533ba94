"""What an operator should look at: said once in the log, and counted for the metrics."""

from __future__ import annotations

from typing import Any

from structlog.typing import FilteringBoundLogger


class Alarms:
    """One job's alarms."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self.count = 0
        self._log = log
        self._credit_is_low = False

    def ring(self, event: str, **details: Any) -> None:
        """Something is wrong."""
        self.count += 1
        self._log.error(event, **details)

    def watch_credit(self, *, low: bool, **details: Any) -> None:
        """Ring once each time that the credit falls below what one interval uses."""
        if low and not self._credit_is_low:
            self.ring("credit is low", **details)
        self._credit_is_low = low
