from __future__ import annotations

from gateway.cluster.placement import COUNTED_AFTER, Placement
from gateway.cluster.presence import Identity, NodeState


def node(name: str, streams: int = 0, **changes: object) -> NodeState:
    values = {"open": True, "draining": False, "lag": 0.0, **changes}
    return NodeState(Identity(name, "1"), "0.1", "", streams, 0, **values)  # type: ignore[arg-type]


def test_the_node_with_the_fewest_streams_is_first_and_this_one_among_equals() -> None:
    nodes = [node("a", 2), node("b", 1), node("c", 1)]
    assert Placement().order(nodes, "c", 0.0) == ["c", "b", "a"]


def test_a_node_that_is_late_comes_after_one_that_is_not() -> None:
    assert Placement().order([node("a", lag=0.3), node("b")], "a", 0.0) == ["b", "a"]


def test_who_drains_or_is_not_ready_gets_nobody() -> None:
    assert Placement().order([node("a", open=False), node("b", draining=True), node("c", 9)], "a", 0.0) == [
        "c"
    ]


def test_publishers_that_were_sent_count_until_the_node_has_counted_them() -> None:
    placement, nodes = Placement(), [node("a"), node("b"), node("c")]
    sent = []
    for moment in range(6):
        best = placement.order(nodes, "a", moment / 10)[0]
        placement.sent(best, moment / 10)
        sent.append(best)
    assert sent == ["a", "b", "c"] * 2
    later = 0.5 + COUNTED_AFTER
    assert placement.order([node("a", 2), node("b", 2), node("c", 1)], "a", later) == ["c", "a", "b"]
