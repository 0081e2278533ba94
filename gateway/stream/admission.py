"""Whether publishers are admitted: not while the gateway drains or is overloaded."""

from __future__ import annotations

from collections.abc import Callable

RETRY_AFTER = 10
"""Seconds after which a publisher that was refused should try again."""


class NotAdmitted(Exception):
    """No publisher is admitted now; `code` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Admission:
    """Whether new publishers are taken. Live streams and their viewers are not affected.

    `overloaded` says whether the event loop has been late for long.
    """

    def __init__(self, overloaded: Callable[[], bool] = lambda: False) -> None:
        self.draining = False
        self._overloaded = overloaded

    def check(self) -> None:
        """Raises NotAdmitted."""
        if self.draining:
            raise NotAdmitted(
                "draining", "the gateway is shutting down: publish to another one, or in a minute"
            )
        if self._overloaded():
            raise NotAdmitted(
                "overloaded", "the gateway is overloaded: publish to another one, or in a minute"
            )
