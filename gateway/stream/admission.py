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
    """Checked for each new publish; live streams and their viewers are not affected.

    `overloaded` says whether the event loop is late for long.
    """

    def __init__(self, overloaded: Callable[[], bool] = lambda: False) -> None:
        self.draining = False
        self._overloaded = overloaded

    def check(self) -> None:
        """Raises NotAdmitted."""
        if self.draining:
            raise NotAdmitted(
                "draining", "the gateway is about to stop: publish to another one, or a little later"
            )
        if self._overloaded():
            raise NotAdmitted(
                "overloaded", "the gateway has no processor time left: publish to another one, or later"
            )
