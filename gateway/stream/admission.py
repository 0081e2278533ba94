"""Whether new publishers are taken: not while the gateway drains, nor while it cannot keep up."""

from __future__ import annotations

from collections.abc import Callable

RETRY_AFTER = 10
"""Seconds after which a publisher that was not admitted should ask again."""


class NotAdmitted(Exception):
    """No publisher is taken now; `code` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Admission:
    """Asked before each new publish; live streams and their viewers never feel it.

    `overloaded` says whether the event loop is late for long.
    """

    def __init__(self, overloaded: Callable[[], bool] = lambda: False) -> None:
        self.draining = False
        self._overloaded = overloaded

    def check(self) -> None:
        """Raises NotAdmitted."""
        if self.draining:
            raise NotAdmitted(
                "draining", "the gateway is about to stop: publish to another, or a little later"
            )
        if self._overloaded():
            raise NotAdmitted(
                "overloaded", "the gateway is at the limit of its processor: publish to another, or later"
            )
