"""Who owns a name: what its key says, and what may be done about it. Plain logic without I/O or clock."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

from gateway.cluster.presence import Identity, Life

FORMAT = 1
MAX_VALUE = 1024


class OwnerStep(Enum):
    """What a node that wants a name does next."""

    CREATE = "create the key"
    KEEP = "it is this node's already"
    TAKE = "replace the owner in the key that is dead or has left, at this revision"
    ASK = "the name is taken if its owner answers; else look again, as it may be dead or give it back"
    REFUSE = "the name is taken"


@dataclass(frozen=True)
class OwnerKey:
    """The key of a name, as it was read."""

    owner: Identity | None
    """None: its value cannot be read."""
    revision: int
    left: bool = False
    """Whether the owner has left the stream behind, for whoever takes the name."""

    @classmethod
    def read(cls, value: bytes, revision: int) -> OwnerKey:
        try:
            members = json.loads(value[:MAX_VALUE])
            node, incarnation = members["node"], members["incarnation"]
            if not isinstance(node, str) or not isinstance(incarnation, str):
                raise TypeError(node)
            return cls(Identity(node, incarnation), revision, left=bool(members.get("left", False)))
        except (ValueError, KeyError, TypeError):
            return cls(None, revision)


def value_of(owner: Identity, *, left: bool = False) -> bytes:
    """What `OwnerKey.read` reads."""
    members = {"v": FORMAT, "node": owner.node, "incarnation": owner.incarnation}
    return json.dumps(members | ({"left": True} if left else {})).encode()


def next_step(key: OwnerKey | None, own: Identity, life: Life) -> OwnerStep:
    """What the node `own` does that wants a name; `life` is of the owner in the key."""
    if key is None:
        return OwnerStep.CREATE
    if key.left:
        return OwnerStep.TAKE
    if key.owner == own:
        return OwnerStep.KEEP
    if key.owner is None:
        return OwnerStep.REFUSE  # of a later release: it knows what it means
    return OwnerStep.TAKE if life is Life.DEAD else OwnerStep.ASK
