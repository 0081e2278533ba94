"""A node has a stream while it asks for it, and no longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.leases import LEASE, Leases

STEPS = st.lists(
    st.tuples(st.sampled_from(["renew", "release", "wait"]), st.sampled_from("abc"), st.integers(0, 9)),
    max_size=40,
)


@given(STEPS)
def test_a_node_counts_for_three_seconds_after_each_time_that_it_asks(
    steps: list[tuple[str, str, int]],
) -> None:
    now = 100.0
    leases = Leases(lambda: now)
    asked: dict[str, tuple[float, int]] = {}
    for step, node, number in steps:
        if step == "renew":
            leases.renew(node, number)
            asked[node] = (now, number)
        elif step == "release":
            leases.release(node)
            asked.pop(node, None)
        else:
            now += number / 4
        wanted = [viewers for at, viewers in asked.values() if now - at < LEASE]
        assert bool(leases) == bool(wanted)
        assert leases.viewers == sum(wanted)
