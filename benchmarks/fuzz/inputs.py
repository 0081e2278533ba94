"""Inputs of a fuzzer: those of its corpus, and what changes make of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

MAX_CHANGES = 4
NUMBERS = [value.to_bytes(size, "big") for size in (1, 2, 4, 8) for value in (0, 1, 2 ** (8 * size - 1) - 1)]
NUMBERS += [b"\xff" * size for size in (1, 2, 4, 8)]
BORDERS = re.compile(rb"[\n,\[{ =:]|\x00\x00\x01")
"""After these, something else begins in most formats."""


@st.composite
def changed(draw: st.DrawFn, seeds: Sequence[bytes], words: Sequence[bytes], limit: int) -> bytes:
    """One of `seeds` with some changes, cut at `limit` bytes. `words` mean something to the reader.

    Words and parts are repeated up to the limit: most of what is slow is so in numbers.
    """
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, MAX_CHANGES))):
        at = draw(_places(data))
        end = draw(st.integers(at, min(len(data), at + 100)))
        match draw(st.sampled_from(("words", "words", "repeat", "put", "cut", "splice", "anything"))):
            case "words":
                word = draw(st.sampled_from([*words, b"\n"]))
                times = draw(st.sampled_from((1, 1, 2, 70, 300, limit // len(word))))
                data = data[:at] + word * min(times, limit // len(word)) + data[at:]
            case "repeat":
                part = data[at:end]
                times = draw(st.sampled_from((2, 70, 300, limit)))
                data = data[:end] + part * min(times, limit // max(1, len(part))) + data[end:]
            case "put":
                number = draw(st.sampled_from(NUMBERS))
                data = data[:at] + number + data[at + len(number) :]
            case "cut":
                data = data[:at] + data[end:]
            case "splice":
                other = draw(st.sampled_from(seeds))
                data = data[:at] + other[draw(_places(other)) :]
            case "anything":
                data = data[:at] + draw(st.binary(max_size=40)) + data[end:]
    return data if len(data) <= limit else data[: limit - 64] + data[-64:]


def _places(data: bytes) -> st.SearchStrategy[int]:
    """Somewhere in it, of which half are borders among the first thousand bytes."""
    borders = [found.end() for found in BORDERS.finditer(data[:1000])]
    anywhere = st.integers(0, len(data))
    return st.sampled_from(borders) | anywhere if borders else anywhere
