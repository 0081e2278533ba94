"""The event loop: uvloop, but for sockets that it took over in vain."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop
from typing_extensions import override

T = TypeVar("T")


class EventLoop(uvloop.Loop):
    """uvloop, with one mistake of its own (up to 0.23) made good.

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
    """Run a program on it to its end."""
    return uvloop.run(main, loop_factory=EventLoop)
