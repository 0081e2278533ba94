"""How many file descriptors this process may still open."""

from __future__ import annotations

import resource
from pathlib import Path

OPEN = Path("/proc/self/fd")
RESERVE = 64
"""Descriptors that streams which run may still need: a swap, a ledger, an answer to a request."""


def few_left() -> bool:
    """Whether nobody new should come in, who needs sockets of their own."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit != resource.RLIM_INFINITY and limit - sum(1 for _ in OPEN.iterdir()) < RESERVE
