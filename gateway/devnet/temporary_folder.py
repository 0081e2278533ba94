"""Folders that are removed when this process ends, in whatever way."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

REMOVE = 'read -r _; for _ in 1 2 3 4 5; do rm -rf -- "$@" 2>/dev/null && exit; sleep 0.5; done'
"""Of a shell: waits for the end of its standard input, which this process holds open."""

PASSABLE = 0o711
"""Other users may use what they know the name of: PostgreSQL runs as one."""


@asynccontextmanager
async def temporary_folder(prefix: str, *more: Path) -> AsyncIterator[Path]:
    """A new folder with a short path. Where this process is killed, `more` are removed with it."""
    folder = _make_folder(prefix)
    # in a session of its own: a terminal's SIGINT does not end it
    remover = await asyncio.create_subprocess_exec(
        *("sh", "-c", REMOVE, "sh", str(folder), *map(str, more)),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        remover.kill()
        await remover.wait()


def _make_folder(prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(PASSABLE)
    return folder
