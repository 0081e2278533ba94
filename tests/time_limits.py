"""Ends a test that hangs, however it hangs, and shows the stack of every thread on stderr.

pytest-timeout raises an exception in the main thread. That does not end a test whose main thread is in C
code, nor one whose event loop is in a callback, since asyncio keeps what callbacks raise. And it is off after
a test's first failure, so that a hanging teardown has no limit. Behind it stands a thread of faulthandler,
which needs no GIL and ends the process: pytest-xdist then reports the test as failed and goes on in another.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator

import pytest

STACKS = signal.SIGUSR1
"""Shows the stacks and ends nothing: what `scripts/test` sends first at its own deadline."""
STDERR = pytest.StashKey[int]()
"""A file descriptor of this process's stderr: while a test runs, its own is pytest's."""


def pytest_addoption(parser: pytest.Parser) -> None:
    words = (
        "seconds beyond a test's timeout, and for the teardown of one that failed, until its process is ended"
    )
    parser.addini("hang_grace", words, default="90")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)
    faulthandler.register(STACKS, file=config.stash[STDERR])


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.unregister(STACKS)
    os.close(config.stash[STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    _end_after(item.config, timeout_of(item) + _grace(item.config))
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)  # pytest itself cancels the timer here
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    if isinstance(node, pytest.Item):
        _end_after(node.config, _grace(node.config))


def timeout_of(item: pytest.Item) -> float:
    """Seconds that a test may take, its fixtures included, before pytest-timeout raises."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0] if marker.args else marker.kwargs["timeout"])
    option = item.config.getoption("timeout")
    return float(item.config.getini("timeout") if option is None else option)


def _end_after(config: pytest.Config, seconds: float) -> None:
    """Whatever was set before is replaced."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[STDERR])


def _grace(config: pytest.Config) -> float:
    return float(config.getini("hang_grace"))
