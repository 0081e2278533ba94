"""A port that is kept for servers which share it, while they come and go."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

ALL = "::"


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Keep a port, a free one for 0, for those who listen with SO_REUSEPORT. Raises OSError.

    Nobody else gets it, not even as the local port of a connection, and no connection comes in here.
    """
    family = socket.AF_INET6 if ":" in host and host != ALL else socket.AF_INET
    with socket.socket(family) as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("0.0.0.0" if host == ALL else host, port))
        yield int(keeper.getsockname()[1])
