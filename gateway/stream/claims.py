"""Who may use a name: with other nodes of a cluster, it is asked for before a publisher is taken."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class NameTaken(Exception):
    """Another live stream has this name or id, as a sentence."""


class NameClaims(Protocol):
    """The names and ids of this node's streams, which no other node may have. Release each claim once."""

    async def claim(self, names: Collection[str]) -> bool:
        """Hold these, all or none, also where this node holds them already.

        True where a node had one of them that is gone, and may have left a stream behind.
        Raises NameTaken, and NotAdmitted where it cannot be known whether others hold them.
        """

    def restore(self, names: Collection[str]) -> None:
        """Hold these for a stream of a former run of this node, as soon as that is possible."""

    def release(self, names: Collection[str], *, left: bool = False) -> None:
        """Give back one `claim` or `restore`.

        `left`: this run of the node leaves the stream behind, for the node that takes the names next.
        """

    def remember(self, names: Collection[str], seconds: float) -> None:
        """A stream of these ended here, and its status is known for so long: other nodes may ask for it."""


class NoClaims:
    """There are no other nodes."""

    async def claim(self, names: Collection[str]) -> bool:
        return False

    def restore(self, names: Collection[str]) -> None:
        pass

    def release(self, names: Collection[str], *, left: bool = False) -> None:
        pass

    def remember(self, names: Collection[str], seconds: float) -> None:
        pass
