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
    TAKE = "replace the dead owner in the key, at this revision"
    ASK = "the name is taken if its owner answers; else look again, as it may be dead or give it back"
    REFUSE = "the name is taken"


@dataclass(frozen=True)
class OwnerKey:
    """The key of a name, as it was read."""

    owner: Identity | None
    """None: its value cannot be read."""
    revision: int


def value_of(owner: Identity) -> bytes:
    return json.dumps({"v": FORMAT, "node": owner.node, "incarnation": owner.incarnation}).encode()


def owner_in(value: bytes) -> Identity | None:
    """The owner that a key's value names; None for a value of another form."""
    try:
        read = json.loads(value[:MAX_VALUE])
        node, incarnation = read["node"], read["incarnation"]
    except (ValueError, KeyError, TypeError):
        return None
    return Identity(node, incarnation) if isinstance(node, str) and isinstance(incarnation, str) else None


def next_step(key: OwnerKey | None, own: Identity, life: Life) -> OwnerStep:
    """What the node `own` does that wants a name; `life` is of the owner in the key."""
    if key is None:
        return OwnerStep.CREATE
    if key.owner == own:
        return OwnerStep.KEEP
    if key.owner is None:
        return OwnerStep.REFUSE  # of a later release: it knows what it means
    return OwnerStep.TAKE if life is Life.DEAD else OwnerStep.ASK
