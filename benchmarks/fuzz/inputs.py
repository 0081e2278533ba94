"""Inputs of a fuzzer: those of its corpus, and what changes make of them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

MAX_CHANGES = 5
NUMBERS = [value.to_bytes(size, "big") for size in (1, 2, 4, 8) for value in (0, 1, 2 ** (8 * size - 1) - 1)]
NUMBERS += [b"\xff" * size for size in (1, 2, 4, 8)]


@st.composite
def changed(draw: st.DrawFn, seeds: Sequence[bytes], words: Sequence[bytes], limit: int) -> bytes:
    """One of `seeds` with some changes, cut at `limit` bytes. `words` mean something to the reader."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, MAX_CHANGES))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 200)))
        match draw(st.sampled_from(("put", "word", "cut", "repeat", "splice", "anything"))):
            case "put":
                number = draw(st.sampled_from(NUMBERS))
                data = data[:at] + number + data[at + len(number) :]
            case "word":
                data = data[:at] + draw(st.sampled_from([*words, b"\n"])) + data[at:]
            case "cut":
                data = data[:at] + data[end:]
            case "repeat":  # what is slow is so in numbers
                times = draw(st.sampled_from((2, 16, 256, limit)))
                part = data[at:end]
                data = data[:end] + part * min(times, limit // max(1, len(part))) + data[end:]
            case "splice":
                other = draw(st.sampled_from(seeds))
                data = data[:at] + other[draw(st.integers(0, len(other))) :]
            case "anything":
                data = data[:at] + draw(st.binary(max_size=40)) + data[end:]
        data = data[:limit]
    return data
