"""What all tests may use. Those marked `alone` run while no other does, with however many workers."""

from __future__ import annotations

import fcntl
import gc
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TURNS = pytest.StashKey[str]()
"""The folder whose files the workers lock; none where there is one process only."""


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
    with _turn(Path(folder), alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the room, for itself or with others. Who waits for all of it keeps the door meanwhile."""
    with (folder / "room").open("w") as room, (folder / "door").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(door, fcntl.LOCK_UN)
        yield
