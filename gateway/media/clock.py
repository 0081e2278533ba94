"""Conversion of timestamps on the wire to ticks that never wrap."""

from __future__ import annotations

from gateway.media.frames import TICKS_PER_SECOND


class Unwrapper:
    """Unwraps a counter of `bits` bits into integers that keep rising over its wraps.

    Each value is taken as the one nearest to the value before it, so a step of less than half the
    range may go either way: late and reordered values come out right (RFC 3550, A.1; ISO 13818-1,
    2.4.3.7). The first value stands for itself; one from just before it comes out negative where the
    counter wrapped between them.
    """

    __slots__ = ("_half", "_last", "_mask", "_range")

    def __init__(self, bits: int) -> None:
        self._range = 1 << bits
        self._mask = self._range - 1
        self._half = self._range >> 1
        self._last: int | None = None

    def unwrap(self, value: int) -> int:
        """`value` (0 to 2^bits - 1) as an integer near the former one."""
        last = self._last
        if last is None:
            self._last = value
            return value
        step = (value - last) & self._mask
        if step >= self._half:
            step -= self._range
        self._last = last + step
        return self._last

    def near(self, value: int) -> int:
        """`value` as an integer near the last one, which stays the last one."""
        last = self._last
        unwrapped = self.unwrap(value)
        self._last = last
        return unwrapped

    def reset(self) -> None:
        """Forget the past: the next value stands for itself."""
        self._last = None


class VideoClock:
    """90 kHz ticks from the RTP timestamps of one incoming video stream.

    Safari on iOS 18.4 and 18.5 counts them at 1 MHz. The stream's rate against the wall clock tells:
    a rate above 800 kHz over the first half second is the wrong clock, and that verdict is kept for
    the stream's life (a stall and its burst later on look alike). Until there is a verdict each frame
    is judged on its own, so that not even the first frames are eleven times too far apart. Frames that
    were held back and come at once, as an encoder's first ones do, look fast too: the mean step between
    frames tells them apart.
    """

    WRONG_RATE = 1_000_000
    WRONG_ABOVE = 800_000
    SUSPECT_ABOVE = 300_000
    """Ticks per second: about the geometric mean of both clocks, as jitter distorts short spans."""
    SUSPECT_STEP = 12_000
    """Ticks from frame to frame: 7.5 frames a second at 90 kHz, 83 at 1 MHz."""
    VERDICT_AFTER = 0.5
    """Seconds."""

    def __init__(self) -> None:
        self._unwrapper = Unwrapper(32)
        self._first: tuple[int, float] | None = None
        self._frames = 0
        self._megahertz: bool | None = None
        self._newest: tuple[int, float] | None = None
        self._carried = 0
        """Ticks by which another sender's pictures are moved (a subclass moves pictures by itself)."""

    @property
    def corrected(self) -> bool:
        """Whether the publisher's clock was found to run at 1 MHz."""
        return self._megahertz is True

    def ticks(self, timestamp: int, now: float) -> int:
        """The 90 kHz time of a frame with the 32-bit RTP `timestamp` that came at `now` (seconds)."""
        value = self._unwrapper.unwrap(timestamp)
        if self._first is None:
            self._first = (value, now)
            if self._newest is not None:
                ticks, then = self._newest
                self._carried = ticks + max(1, int((now - then) * TICKS_PER_SECOND)) - value
        ticks = self._judged(value, now) + self._carried
        self._newest = (ticks, now)
        return ticks

    def another_sender(self) -> None:
        """The next frame is another sender's: its time goes on from the former one's by the wall clock."""
        self._unwrapper.reset()
        self._first = self._megahertz = None
        self._frames = 0

    def _judged(self, value: int, now: float) -> int:
        assert self._first is not None
        first, since = self._first
        if self._megahertz is None:
            elapsed, passed = now - since, value - first
            far_apart = passed > self.SUSPECT_STEP * self._frames
            self._frames += 1
            if elapsed < self.VERDICT_AFTER:
                suspect = far_apart and passed > self.SUSPECT_ABOVE * elapsed
                return self._corrected(value, first) if suspect else value
            self._megahertz = far_apart and passed > self.WRONG_ABOVE * elapsed
        return self._corrected(value, first) if self._megahertz else value

    def at(self, timestamp: int) -> int:
        """Where a 32-bit RTP timestamp lies that no frame brought (a sender report's): it tells nothing."""
        value = self._unwrapper.near(timestamp)
        value = self._corrected(value, self._first[0]) if self._megahertz and self._first else value
        return value + self._carried

    def _corrected(self, value: int, first: int) -> int:
        return first + (value - first) * TICKS_PER_SECOND // self.WRONG_RATE
