"""What all tests may use, and which of them run beside each other.

Those marked `alone` have the machine for themselves, but for light ones, which give way to them: what runs
in one process and needs no picture in time. Light ones come early and fill what the longest one leaves over.
"""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
HEAVY = ("link", "pages", "benchmarks", "e2e", "comfystream", "webrtc")
"""Folders of the tests that run daemons, browsers and media: who must be alone first, short ones last."""
LONGEST = "test_chaos.py"
TURNS = pytest.StashKey[str]()
"""The folder whose files the workers lock; none where there is one process only."""
GIVING_WAY = 10
"""As niceness: a tenth of what others have, and what they leave over."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is let go is freed at once then, or never."""
    gc.disable()
    yield
    gc.enable()


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


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the timer: waiting is no test's time
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    folder = item.config.stash.get(TURNS, None)
    if folder is None:
        return (yield)
    room = Path(folder) / "room"
    if not _is_heavy(item):
        if _somebody_is_alone(room):
            _give_way()
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with _turn(room, alone=alone):
        try:
            return (yield)
        finally:
            if alone:  # from here on as those who gave way to it
                _give_way()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        if item.path.name == LONGEST:
            return 0
        return 2 + HEAVY.index(_folder(item)) if _is_heavy(item) else 1

    items.sort(key=turn)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def _is_heavy(item: pytest.Item) -> bool:
    return _folder(item) in HEAVY


def _give_way() -> None:
    """From here on, since a priority that was given up is not had back."""
    os.nice(max(0, GIVING_WAY - os.nice(0)))


def _somebody_is_alone(room: Path) -> bool:
    with room.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _turn(room: Path, *, alone: bool) -> Iterator[None]:
    """Hold the room, for itself or with others. Who waits for all of it keeps the door meanwhile."""
    with room.open("w") as held, room.with_name("door").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(door, fcntl.LOCK_UN)
        yield
