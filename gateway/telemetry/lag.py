"""How late the event loop is, and what blocks it."""

from __future__ import annotations

import asyncio
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import FrameType

import structlog

log = structlog.get_logger("loop")

INTERVAL = 0.1
"""Seconds between two measurements."""
BLOCKED = 0.1
"""Seconds that a turn may be late before the loop counts as blocked."""
OVERLOADED = 0.05
"""Seconds of lag that must not last."""
WINDOW = 2.0
"""Seconds over which lag is judged: a single long turn is no overload."""


class LagWindow:
    """The lag of the last two seconds, in seconds."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=round(WINDOW / INTERVAL))

    def add(self, lag: float) -> None:
        self._lags.append(lag)

    @property
    def median(self) -> float:
        return statistics.median(self._lags) if self._lags else 0.0

    @property
    def overloaded(self) -> bool:
        """Whether lag stays above the limit: for a whole window, most of the time."""
        return len(self._lags) == self._lags.maxlen and self.median > OVERLOADED


class LoopWatch:
    """Watches the running loop: from within, how late it is; from a thread, where it stands when it is stuck.

    `async with LoopWatch() as watch`.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.blocked = 0
        """How often the loop was blocked for longer than 100 ms."""
        self.window = LagWindow()
        self._clock = clock
        self._turn_at = clock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> LoopWatch:
        self._begin_turn()
        watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(watched,), name="loop watch", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def overloaded(self) -> bool:
        """Whether the loop has been late for long: it has more to do than it can."""
        return self.window.overloaded

    def _begin_turn(self) -> None:
        # a timer and no task, since this is most of what an idle gateway does
        self._turn_at = self._clock()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._end_turn)

    def _end_turn(self) -> None:
        self.window.add(max(0.0, self._clock() - self._turn_at - INTERVAL))
        self._begin_turn()

    def _watch(self, watched: int) -> None:
        """In the thread: look at the stuck loop's stack once, while it is stuck."""
        seen, pause = 0.0, BLOCKED
        while not self._stop.wait(pause):
            turn = self._turn_at
            late = self._clock() - turn - INTERVAL
            # not before the turn that goes on now can have been too long
            pause = max(BLOCKED - late, INTERVAL)
            if late > BLOCKED and turn != seen:
                seen = turn
                frame = sys._current_frames().get(watched)
                if frame is not None and not _waits(frame):
                    self.blocked += 1
                    log.warning("loop blocked", by=_name(frame), seconds_so_far=round(late, 3))


def _waits(frame: FrameType) -> bool:
    """Whether the loop itself is on top: the process was not given time, nobody blocks it."""
    return frame.f_code.co_name in {"select", "run", "run_forever", "run_until_complete", "_run_once"}


def _name(frame: FrameType) -> str:
    """The innermost of our own functions on the stack, and the innermost at all."""
    stack = traceback.extract_stack(frame)
    ours = next((entry for entry in reversed(stack) if "/gateway/" in entry.filename), stack[-1])
    return f"{_place(ours)} in {_place(stack[-1])}" if ours is not stack[-1] else _place(ours)


def _place(entry: traceback.FrameSummary) -> str:
    return f"{entry.filename.rpartition('/')[2]}:{entry.lineno} {entry.name}"
