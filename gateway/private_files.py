"""Folders and files that only the gateway's own user may read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are missing. Raises OSError."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(mode=FOLDER_MODE, exist_ok=True)


def make_file(path: Path) -> None:
    """Make a file private, an empty one where there is none. Raises OSError where it cannot be written."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    restrict(path)


def restrict(path: Path) -> None:
    """Make a file private; one of another user keeps its permissions, one that is not there is no error."""
    with contextlib.suppress(PermissionError, FileNotFoundError):
        path.chmod(FILE_MODE)
