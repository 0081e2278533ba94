"""Any frames, as Hypothesis draws them, and streams that an encoder could make."""

from __future__ import annotations

from hypothesis import strategies as st

from gateway.media.frames import AccessUnit, Frame, OpusPacket

TICKS = st.integers(-(2**63), 2**63 - 1)
NALS = st.lists(st.binary(max_size=40), max_size=6)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(AccessUnit, NALS, TICKS, TICKS, st.booleans()),
    st.builds(OpusPacket, st.binary(max_size=40), TICKS),
)


def frame(index: int, kind: str, size: int = 3) -> Frame:
    """The frame at `index` of a stream: a key picture `k`, a picture `p`, or sound `s`."""
    data = index.to_bytes(4, "big") * size
    if kind == "s":
        return OpusPacket(data, index)
    return AccessUnit([data, b"\x41" + data], index, index, kind == "k")


def stream(kinds: str, size: int = 3) -> list[Frame]:
    """The frames of `kinds`, as in `kppsk`."""
    return [frame(index, kind, size) for index, kind in enumerate(kinds)]
