"""Which recordings are removed: those that are too old, then the oldest while all are too large."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".mp4"


@dataclass(frozen=True)
class Recorded:
    """A file with what lies beside it; `changed` in seconds of the wall clock, `size` in bytes."""

    path: Path
    changed: float
    size: int


@dataclass(frozen=True)
class KeepRule:
    """None keeps all. `seconds` since the last change, `size` in bytes of all files together."""

    seconds: float | None = None
    size: int | None = None


KEEP_ALL = KeepRule()


def to_remove(files: Sequence[Recorded], rule: KeepRule, now: float) -> list[Recorded]:
    """The oldest first."""
    removed = []
    total = sum(file.size for file in files)
    for file in sorted(files, key=lambda one: (one.changed, one.path)):
        old = rule.seconds is not None and now - file.changed > rule.seconds
        if old or (rule.size is not None and total > rule.size):
            removed.append(file)
            total -= file.size
    return removed


def recorded(folder: Path, but: Collection[Path]) -> list[Recorded]:
    """The recordings in a folder's folders but those that are being written. It reads the disk."""
    found = []
    for path in folder.glob(f"*/*{SUFFIX}"):
        if path in but:
            continue
        with suppress(OSError):
            said = path.stat()
            found.append(Recorded(path, said.st_mtime, said.st_size))
    return found


def remove(files: Sequence[Recorded]) -> int:
    """Remove them, and the JSON beside each; gives how many went. It writes to the disk."""
    removed = 0
    for file in files:
        with suppress(OSError):
            file.path.unlink(missing_ok=True)
            removed += 1
            file.path.with_suffix(".json").unlink(missing_ok=True)
            file.path.parent.rmdir()  # where it was the last one
    return removed
