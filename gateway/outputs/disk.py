"""Room on a disk, and file names that are not taken."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from gateway.outputs.output import DestinationGone

MIN_FREE = 128 * 1024 * 1024
"""Bytes that stay free on a disk: below it no file begins, and those that are written end."""
LOOK = 5.0
"""Seconds between two looks at a disk that is written to."""

FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def new_file(path: Path, *, taken: Collection[Path] = (), free: FreeBytes = free_bytes) -> Path:
    """`path`, or with -1, -2 .. before its ending where that is there already; its folder is made.

    It touches the disk. Raises OSError; DestinationGone where the disk is full.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(path.parent, free)
    number, found = 0, path
    while found.exists() or found in taken:
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


async def until_full(folder: Path, free: FreeBytes = free_bytes, *, every: float = LOOK) -> None:
    """Wait while there is room. Raises DestinationGone when the disk is full."""
    while True:
        await asyncio.sleep(every)
        with suppress(OSError):
            await asyncio.to_thread(_check, folder, free)


def _check(folder: Path, free: FreeBytes) -> None:
    if free(folder) < MIN_FREE:
        raise DestinationGone(f"the disk is full: less than {MIN_FREE >> 20} MiB are free")
