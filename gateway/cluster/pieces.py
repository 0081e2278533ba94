"""Messages larger than NATS takes (1 MiB by default), sent as several with the same subject and reply.

A piece has the header `Piece: <number>/<count>`; a message of one piece has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gateway.cluster.errors import MessageTooLarge, NoAnswerInTime

PIECE_BYTES = 512 * 1024
MAX_PIECES = 64
MAX_BYTES = PIECE_BYTES * MAX_PIECES
"""The largest message: 32 MiB. The largest body of a request is 1 MiB."""
HEADER = "Piece"

_PIECE = re.compile(r"(\d{1,3})/(\d{1,3})")


def split(data: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    """Headers and data of each piece. Raises MessageTooLarge."""
    if len(data) > MAX_BYTES:
        raise MessageTooLarge(f"a message of {len(data)} bytes is larger than {MAX_BYTES}")
    if len(data) <= PIECE_BYTES:
        yield {}, data
        return
    count = -(-len(data) // PIECE_BYTES)
    for number in range(count):
        yield {HEADER: f"{number}/{count}"}, data[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]


class Pieces:
    """One message as its pieces come in: in order, as NATS keeps the order of one sender, or not at all."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, headers: Mapping[str, str], data: bytes) -> bytes | None:
        """The whole message with its last piece, None before. Raises NoAnswerInTime where one is missing."""
        text = headers.get(HEADER)
        number, count = (0, 1) if text is None else _number(text)
        if number != len(self._parts) or len(data) > PIECE_BYTES:
            raise NoAnswerInTime(f"piece {len(self._parts)} of a message did not come")
        self._parts.append(data)
        return b"".join(self._parts) if number == count - 1 else None


def _number(text: str) -> tuple[int, int]:
    match = _PIECE.fullmatch(text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not number < count <= MAX_PIECES:
        raise NoAnswerInTime(f"{text[:20]!r} is no number of a piece")
    return number, count
