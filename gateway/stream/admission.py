"""Who is admitted: nobody while the gateway is overloaded, no publisher while it drains."""

from __future__ import annotations

from collections.abc import Callable

RETRY_AFTER = 10
"""Seconds after which who was refused should try again."""


class NotAdmitted(Exception):
    """Nobody is admitted now; `code` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Admission:
    """Whether new publishers and viewers are taken. Live streams and their viewers are not affected.

    `overloaded` says whether the event loop has been late for long, `few_files` whether hardly any more
    descriptors may be opened.
    """

    def __init__(
        self, overloaded: Callable[[], bool] = lambda: False, few_files: Callable[[], bool] = lambda: False
    ) -> None:
        self.draining = False
        self._overloaded = overloaded
        self._few_files = few_files

    def check(self) -> None:
        """Check that a publisher may come in. Raises NotAdmitted."""
        if self.draining:
            raise NotAdmitted(
                "draining", "the gateway is shutting down: publish to another one, or in a minute"
            )
        self._check_load("publish to")

    def check_viewer(self) -> None:
        """Check that a viewer may come in; it may while the gateway drains. Raises NotAdmitted."""
        self._check_load("watch on")

    def _check_load(self, do: str) -> None:
        if self._overloaded():
            raise NotAdmitted("overloaded", f"the gateway is overloaded: {do} another one, or in a minute")
        if self._few_files():
            detail = f"the gateway may open hardly any more files: {do} another one, or raise its ulimit -n"
            raise NotAdmitted("overloaded", detail)
