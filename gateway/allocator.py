"""How the C library's allocator is set for a process that runs for months."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3
"""mallopt's number for what is set (malloc.h)."""
LARGE = 128 * 1024
"""Bytes from which on a block gets a mapping of its own. It is what glibc begins with."""


def keep_large_blocks_apart() -> None:
    """Give every large block a mapping of its own, for good; without glibc nothing changes.

    glibc itself puts them into the heap from the first on that is freed (mallopt(3), M_MMAP_THRESHOLD). But
    uvloop reads from each TLS connection into 256 KiB, which it cuts down to what came: small blocks lie
    wherever those lay, and the heap grows around them, most of all where many connections are lost at once.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
