"""Which tests run beside each other: those marked `alone` have the machine to themselves, light ones aside.

Heavy tests run daemons, browsers or media, a few at a time. The others are light and mostly wait: they begin
early, give way by their priority and fill what the longest test leaves over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("link", "pages", "benchmarks", "e2e", "comfystream", "webrtc")
"""Folders whose tests are all marked `heavy`, in the order in which they begin."""
HEAVY_AT_ONCE = 4
"""What two slow cores carry."""
LONGEST = "test_chaos.py"
TURNS = pytest.StashKey[str]()
"""The folder whose files the workers lock. Not set where there is one process only."""
GIVING_WAY = 10
"""Niceness of light tests beside one that is alone: they get a tenth of what it gets."""
NORMAL = os.getpriority(os.PRIO_PROCESS, 0)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.stash[TURNS] = config.workerinput["turns"]
    elif config.getoption("numprocesses", None):
        config.stash[TURNS] = tempfile.mkdtemp(prefix="pytest-turns-")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["turns"] = node.config.stash[TURNS]


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and TURNS in config.stash:
        shutil.rmtree(config.stash[TURNS], ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of time limits, which do not count waiting
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    folder = item.config.stash.get(TURNS, None)
    if folder is None:
        return (yield)
    room = Path(folder) / "room"
    if not _is_heavy(item):
        _set_niceness(GIVING_WAY if _somebody_is_alone(room) else NORMAL)
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with _place_in(Path(folder)), _turn(room, alone=alone):
        _set_niceness(NORMAL)
        try:
            return (yield)
        finally:
            if alone:  # where nobody may come back from it, this worker would outrun those that gave way
                _set_niceness(GIVING_WAY)


@pytest.hookimpl(tryfirst=True)  # before marks are chosen from
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _folder(item) in HEAVY:
            item.add_marker("heavy")
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    """The longest first, then light ones, then heavy ones by their folders."""
    if item.path.name == LONGEST:
        return 0
    if not _is_heavy(item):
        return 1
    folder = _folder(item)
    return 2 + (HEAVY.index(folder) if folder in HEAVY else 0)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(item.config.rootpath / "tests").parts[0]


def _is_heavy(item: pytest.Item) -> bool:
    return item.get_closest_marker("heavy") is not None


def _set_niceness(niceness: int) -> None:
    """Set that of this process, and of those that it starts. Only root may come back to a lower one."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness, NORMAL))


def _somebody_is_alone(room: Path) -> bool:
    with room.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _place_in(folder: Path) -> Iterator[None]:
    """Hold one of the places for heavy tests."""
    while True:
        for number in range(HEAVY_AT_ONCE):
            with (folder / f"place-{number}").open("w") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
        time.sleep(0.05)


@contextmanager
def _turn(room: Path, *, alone: bool) -> Iterator[None]:
    """Hold the room, alone or with others. Who waits to be alone keeps the door, and so is not overtaken."""
    with room.open("w") as held, room.with_name("door").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(door, fcntl.LOCK_UN)
        yield
