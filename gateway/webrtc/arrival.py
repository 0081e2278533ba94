"""When a datagram reached this machine, by the kernel's clock: free of the event loop's lateness."""

from __future__ import annotations

import fcntl
import socket
import time
from struct import Struct

SIOCGSTAMPNS = 0x8907
"""Gives the time at which the datagram last read from a socket came (Linux, socket(7)); the first call turns
that on. Unlike SO_TIMESTAMPNS it needs no recvmsg of our own: event loops read sockets themselves."""
MAX_LATENESS = 2.0
"""Seconds; what seems later is a clock that was set."""
AT_ONCE = 50e-6
"""Seconds within which both clocks are read; it takes longer where the process had to wait in between."""
READINGS = 3
"""Limit of tries to read them at once."""

_TIMESPEC = Struct("qq")
_ROOM = bytes(_TIMESPEC.size)


def arrival_of_last(sock: socket.socket, now: float) -> float:
    """When the datagram that was last read from `sock` came; `now` and the result are monotonic seconds.

    To be called in the callback that got it. Gives `now` where the kernel does not say.
    """
    try:
        seconds, nanoseconds = _TIMESPEC.unpack(fcntl.ioctl(sock.fileno(), SIOCGSTAMPNS, _ROOM))
    except (OSError, ValueError):
        return now
    came = _monotonic(seconds + nanoseconds / 1e9)
    return came if 0 < now - came < MAX_LATENESS else now


def _monotonic(wall: float) -> float:
    """A time of the wall clock, as seconds of the monotonic one."""
    for _ in range(READINGS):
        before, wall_now, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < AT_ONCE:
            break
    return after - (wall_now - wall)
