"""An event loop whose time passes as soon as nobody has anything to do: hours of waiting take no time."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from typing_extensions import override


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting for a time it lets that time pass."""

    skipped = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everybody waits, and for nothing that time brings")
        if not ready and timeout is not None:
            self.skipped += max(0.0, timeout)
        return ready


class ScriptedLoop(asyncio.SelectorEventLoop):
    """Its clock is `time`. Only for what does no I/O.

    To be given to `asyncio.Runner(loop_factory=ScriptedLoop)`.
    """

    def __init__(self) -> None:
        self._selected = _Skipping()
        super().__init__(self._selected)

    @override
    def time(self) -> float:
        return 1000.0 + self._selected.skipped


def run(main: Any) -> Any:
    """Run a coroutine in a loop of its own, in scripted time."""
    with asyncio.Runner(loop_factory=ScriptedLoop) as runner:
        return runner.run(main)
