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
from itertools import takewhile
from types import FrameType

import structlog

log = structlog.get_logger("loop")

INTERVAL = 0.1
"""Seconds between two measurements."""
BLOCKED = 0.1
"""Lag, in seconds, from which on the loop counts as blocked."""
OVERLOADED = 0.05
"""Lag, in seconds, that must not last."""
WINDOW = 2.0
"""Seconds over which lag is judged: one long turn is no overload."""
OUR_PACKAGES = frozenset({"gateway", "signer_client"})
LOOP_PACKAGES = frozenset({"asyncio", "selectors", "uvloop"})
LOOP_FUNCTIONS = frozenset({"select", "run", "run_forever", "run_until_complete", "_run_once"})


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
        """Whether the median of a full window is above the limit."""
        return len(self._lags) == self._lags.maxlen and self.median > OVERLOADED


class LoopWatch:
    """Measures how late the running loop is. A thread logs where the loop is while it is blocked.

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
        """Whether the loop has been late for 2 s: there is more to do than it can."""
        return self.window.overloaded

    def _begin_turn(self) -> None:
        # a timer, not a task: it costs less, and is most of what an idle gateway does
        self._turn_at = self._clock()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._end_turn)

    def _end_turn(self) -> None:
        self.window.add(max(0.0, self._clock() - self._turn_at - INTERVAL))
        self._begin_turn()

    def _watch(self, watched: int) -> None:
        """In the thread: log the stack of a blocked loop, once for each time that it is blocked."""
        seen, pause = 0.0, BLOCKED
        while not self._stop.wait(pause):
            turn = self._turn_at
            late = self._clock() - turn - INTERVAL
            # the earliest time at which the present turn can be too long
            pause = max(BLOCKED - late, INTERVAL)
            if late > BLOCKED and turn != seen:
                seen = turn
                frame = sys._current_frames().get(watched)
                if frame is not None and not _is_loop(frame):
                    self.blocked += 1
                    log.warning("loop blocked", by=_culprit(frame), seconds_so_far=round(late, 3))


def _is_loop(frame: FrameType) -> bool:
    """Whether the loop itself runs here. On top of the stack: nothing blocks, the process got no CPU time."""
    return _package(frame) in LOOP_PACKAGES and frame.f_code.co_name in LOOP_FUNCTIONS


def _culprit(frame: FrameType) -> str:
    """The innermost function of our packages, and the library's function that it is in."""
    # not what started the loop, which is ours too
    stack = [*takewhile(lambda place: not _is_loop(place[0]), traceback.walk_stack(frame))]
    ours = next((place for place in stack if _package(place[0]) in OUR_PACKAGES), stack[0])
    return _place(*ours) if ours is stack[0] else f"{_place(*ours)} in {_place(*stack[0])}"


def _place(frame: FrameType, line: int) -> str:
    return f"{_module(frame)}:{line} {frame.f_code.co_name}"


def _package(frame: FrameType) -> str:
    """The top-level package, by the module's name: file paths differ from one installation to the next."""
    return _module(frame).partition(".")[0]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
