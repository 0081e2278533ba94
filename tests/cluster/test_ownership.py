"""At most one node owns a name, whatever order its steps and those of others come in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.cluster.ownership import OwnerKey, OwnerStep, next_step, value_of
from gateway.cluster.presence import Identity, Life

OWN, OTHER = Identity("own", "1"), Identity("other", "1")


@pytest.mark.parametrize(
    ("key", "life", "step"),
    [
        (None, Life.ALIVE, OwnerStep.CREATE),
        (OwnerKey(OWN, 7), Life.ALIVE, OwnerStep.KEEP),
        (OwnerKey(OTHER, 7), Life.ALIVE, OwnerStep.ASK),
        (OwnerKey(OTHER, 7), Life.UNSURE, OwnerStep.ASK),
        (OwnerKey(OTHER, 7), Life.DEAD, OwnerStep.TAKE),
        (OwnerKey(Identity("own", "0"), 7), Life.DEAD, OwnerStep.TAKE),
        (OwnerKey(None, 7), Life.DEAD, OwnerStep.REFUSE),
        (OwnerKey(OTHER, 7, left=True), Life.ALIVE, OwnerStep.TAKE),
        (OwnerKey(OWN, 7, left=True), Life.ALIVE, OwnerStep.TAKE),
    ],
)
def test_what_a_node_does_that_wants_a_name(key: OwnerKey | None, life: Life, step: OwnerStep) -> None:
    assert next_step(key, OWN, life) is step


def test_a_value_names_its_owner() -> None:
    assert OwnerKey.read(value_of(OTHER), 7) == OwnerKey(OTHER, 7)
    assert OwnerKey.read(value_of(OTHER, left=True), 7) == OwnerKey(OTHER, 7, left=True)


@pytest.mark.parametrize(
    "value", [b"", b"x", b"[]", b"{}", b'{"node": 1, "incarnation": "x"}', b"null", b"\xff"]
)
def test_a_value_of_another_form_names_nobody(value: bytes) -> None:
    assert OwnerKey.read(value, 7) == OwnerKey(None, 7)


@dataclass
class Node:
    identity: Identity
    alive: bool = True
    read: tuple[OwnerKey | None, OwnerStep] | None = None
    """What it saw and decided, and has not done yet."""
    owns: int | None = None
    """The revision by which it thinks that it owns the name."""


@dataclass
class Key:
    """A key of a bucket: changed by whoever knows its revision."""

    revision: int = 0
    value: bytes | None = None
    owners: list[Identity] = field(default_factory=list)

    def write(self, value: bytes, expected: int) -> int | None:
        if (self.revision if self.value is not None else 0) != expected:
            return None
        self.revision += 1
        self.value = value
        return self.revision

    def remove(self, revision: int) -> None:
        if self.value is not None and self.revision == revision:
            self.value = None
            self.revision += 1


class Nodes(RuleBasedStateMachine):
    """Three nodes read, decide and write in any order, with pauses in between; some die and start again."""

    def __init__(self) -> None:
        super().__init__()
        self.key = Key()
        self.nodes = [Node(Identity(name, "1")) for name in "abc"]

    def life_of(self, identity: Identity) -> Life:
        node = next(node for node in self.nodes if node.identity.node == identity.node)
        return Life.ALIVE if node.identity == identity and node.alive else Life.DEAD

    @rule(which=st.integers(0, 2))
    def look(self, which: int) -> None:
        node = self.nodes[which]
        if not node.alive or node.owns is not None:
            return
        key = None
        if self.key.value is not None:
            key = OwnerKey.read(self.key.value, self.key.revision)
        life = Life.ALIVE if key is None or key.owner is None else self.life_of(key.owner)
        node.read = (key, next_step(key, node.identity, life))

    @rule(which=st.integers(0, 2), lost=st.booleans())
    def act(self, which: int, lost: bool) -> None:
        """`lost`: the write is done and its answer does not come."""
        node = self.nodes[which]
        if not node.alive or node.read is None:
            return
        (key, step), node.read = node.read, None
        if step is OwnerStep.KEEP and key is not None:
            node.owns = key.revision
        elif step in (OwnerStep.CREATE, OwnerStep.TAKE):
            revision = self.key.write(value_of(node.identity), 0 if key is None else key.revision)
            if not lost:
                node.owns = revision

    @rule(which=st.integers(0, 2), leave=st.booleans())
    def give_back(self, which: int, leave: bool) -> None:
        node = self.nodes[which]
        if node.alive and node.owns is not None:
            if leave:
                self.key.write(value_of(node.identity, left=True), node.owns)
            else:
                self.key.remove(node.owns)
            node.owns = None

    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        self.nodes[which].alive = False

    @rule(which=st.integers(0, 2))
    def start_again(self, which: int) -> None:
        node = self.nodes[which]
        if not node.alive:
            run = Identity(node.identity.node, str(int(node.identity.incarnation) + 1))
            self.nodes[which] = Node(run)

    @invariant()
    def at_most_one_living_node_owns_the_name(self) -> None:
        owners = [node for node in self.nodes if node.alive and node.owns is not None]
        assert len(owners) <= 1
        for node in owners:
            assert (self.key.value, self.key.revision) == (value_of(node.identity), node.owns)


TestOwnership = Nodes.TestCase
TestOwnership.settings = settings(max_examples=50, stateful_step_count=40)
