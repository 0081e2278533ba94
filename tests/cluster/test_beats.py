from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.beats import MAX_BEAT, from_json, to_json
from gateway.cluster.presence import Identity, NodeState

NAMES = st.text(max_size=20)
STATES = st.builds(
    NodeState,
    st.builds(Identity, NAMES, NAMES),
    version=NAMES,
    url=NAMES,
    streams=st.integers(0, 10_000),
    viewers=st.integers(0, 10_000),
    lag=st.floats(0, 100),
    open=st.booleans(),
    draining=st.booleans(),
    leaves=st.booleans(),
)
PLAIN = NodeState(Identity("a", "1"), "0.1", "http://x/", 1, 2, 0.5, open=True, draining=False)


@given(STATES)
def test_what_a_node_says_comes_back(state: NodeState) -> None:
    assert from_json(to_json(state)) == state


def test_members_of_a_later_release_are_ignored() -> None:
    later = json.dumps({**json.loads(to_json(PLAIN)), "cores": 8}).encode()
    assert from_json(later) == PLAIN


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"[]", b"{}", b'{"identity": 1}', b"\xff", to_json(PLAIN) + b" " * MAX_BEAT]
    + [
        json.dumps({**json.loads(to_json(PLAIN)), key: None}).encode()
        for key in ("streams", "identity", "lag")
    ],
)
def test_what_cannot_be_read_is_nobodys(data: bytes) -> None:
    assert from_json(data) is None
