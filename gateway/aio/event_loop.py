"""The event loop: uvloop with a fix for sockets of failed connections."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop
from typing_extensions import override

SWITCH_INTERVAL = 0.001
"""Seconds after which a thread that computes gives way to the loop; Python's own 5 ms add up."""

T = TypeVar("T")


class EventLoop(uvloop.Loop):
    """uvloop, with a fix for a fault of its versions up to 0.23.

    A connection that is reset while its TLS begins has its descriptor closed, and the socket object that it
    was made from keeps the number. When that object is collected, it closes whatever has the number by then:
    another stream's connection, or the ledger.
    """

    @override
    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().create_connection(*arguments, **options)
        except BaseException:
            if options.get("sock") is not None:
                options["sock"].detach()
            raise


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on this loop."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return uvloop.run(main, loop_factory=EventLoop)
