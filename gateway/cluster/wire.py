"""The messages that carry a stream's output from its owner to other nodes, and with which these ask for it.

A message is a header, whose fields are in network order, and a body:

    version, size of the header, kind, 0: 8 bits each
    epoch: 64 bits, higher with each owner of the name
    sequence: 64 bits, one more with each message of an epoch

A reader skips what a later version adds behind these fields. A frame is one message, or several pieces of at
most `MAX_PIECE` bytes, since NATS takes 1 MiB by default.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum

from gateway.aio.json_text import parse_json
from gateway.media.frames import AccessUnit, Frame, OpusPacket

VERSION = 1
MAX_PIECE = 256 * 1024
"""Bytes of a frame in one message."""
MAX_FRAME = 3 << 20
"""Limit in bytes of an encoded frame: the demuxer gives pictures of up to 2 MiB."""
MAX_NALS = 1024
"""Limit of NAL units of one picture, above that of every reader before."""

MAX_ASK = 1024
"""Bytes of a request."""
MAX_NODE_NAME = 200
MAX_VIEWERS = 1_000_000

_header = struct.Struct("!BBBxQQ")
_times = struct.Struct("!Bqq")
_length = struct.Struct("!I")

_SOUND, _PICTURE, _KEY_PICTURE = range(3)


class BadMediaMessage(ValueError):
    """Another node sent what cannot be read; the message is a sentence."""


class MessageKind(IntEnum):
    """What a message is."""

    BEGAN = 1
    """The owner has the stream; nothing is sent before somebody asks for it."""
    ENDED = 2
    """The stream ended, or its owner gave the name up."""
    FRAME = 3
    """A whole frame."""
    FIRST = 4
    """The first piece of a frame."""
    NEXT = 5
    LAST = 6


@dataclass(frozen=True, slots=True)
class Message:
    kind: MessageKind
    epoch: int
    sequence: int
    body: memoryview

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return self.body.nbytes


def encode(kind: MessageKind, epoch: int, sequence: int, body: bytes | memoryview = b"") -> bytes:
    """One message."""
    return b"".join((_header.pack(VERSION, _header.size, kind, epoch, sequence), body))


def decode(data: bytes) -> Message:
    """Read one message. Raises BadMediaMessage."""
    try:
        version, size, kind, epoch, sequence = _header.unpack_from(data)
        if version != VERSION or size < _header.size or size > len(data):
            raise BadMediaMessage(f"a message has version {version} and a header of {size} bytes")
        return Message(MessageKind(kind), epoch, sequence, memoryview(data)[size:])
    except (struct.error, ValueError) as error:
        raise BadMediaMessage(f"a message cannot be read: {error}") from error


def encode_frame(frame: Frame) -> bytes:
    """The body that carries `frame`, whole."""
    if isinstance(frame, OpusPacket):
        return _times.pack(_SOUND, frame.pts, 0) + frame.data
    parts = [_times.pack(_KEY_PICTURE if frame.key else _PICTURE, frame.pts, frame.dts)]
    for nal in frame.nals:
        parts += (_length.pack(len(nal)), nal)
    return b"".join(parts)


def decode_frame(body: memoryview) -> Frame:
    """Read the body of a frame. Raises BadMediaMessage."""
    if body.nbytes > MAX_FRAME:
        raise BadMediaMessage(f"a frame has {body.nbytes} bytes")
    try:
        kind, pts, dts = _times.unpack_from(body)
    except struct.error as error:
        raise BadMediaMessage(f"a frame cannot be read: {error}") from error
    if kind == _SOUND:
        return OpusPacket(bytes(body[_times.size :]), pts)
    if kind not in (_PICTURE, _KEY_PICTURE):
        raise BadMediaMessage(f"a frame is of the unknown kind {kind}")
    nals = [bytes(nal) for nal in _split(body[_times.size :], MAX_NALS)]
    return AccessUnit(nals, pts, dts, kind == _KEY_PICTURE)


def messages_of(frame: Frame, epoch: int, sequence: int) -> list[bytes]:
    """The messages that carry `frame`, numbered from `sequence` on. Raises BadMediaMessage if too large."""
    body = encode_frame(frame)
    if len(body) <= MAX_PIECE:
        return [encode(MessageKind.FRAME, epoch, sequence, body)]
    if len(body) > MAX_FRAME:
        raise BadMediaMessage(f"a frame has {len(body)} bytes")
    view = memoryview(body)
    pieces = [view[start : start + MAX_PIECE] for start in range(0, len(body), MAX_PIECE)]
    kinds = [MessageKind.FIRST, *[MessageKind.NEXT] * (len(pieces) - 2), MessageKind.LAST]
    return [
        encode(kind, epoch, sequence + index, piece)
        for index, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class Ask:
    """A node asks for a stream's output, or goes on to, as JSON; fields of later versions are ignored."""

    node: str
    viewers: int
    """How many it has for it; 0: it wants nothing any more, or with a reply subject, to know who has it."""
    epoch: int = 0
    """The highest that it knows; an owner of a lower one has lost the name, and does not answer."""
    held: bool = False
    """Whether the answer is to hold the pictures since the last key frame."""
    key_frame: bool = False
    """Whether a key frame is needed."""


def encode_ask(ask: Ask) -> bytes:
    return json.dumps(asdict(ask)).encode()


def decode_ask(data: bytes) -> Ask:
    """Read a request. Raises BadMediaMessage."""
    if len(data) > MAX_ASK:
        raise BadMediaMessage(f"a request has {len(data)} bytes")
    try:
        fields = parse_json(data)
        ask = Ask(**{name: fields[name] for name in Ask.__slots__ if name in fields})
    except (ValueError, TypeError, KeyError) as error:
        raise BadMediaMessage(f"a request cannot be read: {error}") from error
    numbers = (ask.viewers, ask.epoch)
    if not isinstance(ask.node, str) or not 0 < len(ask.node) <= MAX_NODE_NAME:
        raise BadMediaMessage("a request comes from no node")
    if not all(type(number) is int and number >= 0 for number in numbers) or ask.viewers > MAX_VIEWERS:
        raise BadMediaMessage(f"a request has the numbers {numbers!r}")
    return ask


@dataclass(frozen=True, slots=True)
class Held:
    """The owner's answer to a node that asks for a stream."""

    epoch: int
    sequence: int
    """Of the first message that comes after `frames`."""
    frames: Sequence[Frame]
    """Those since the last key frame; empty where there are none, or where they were not asked for."""


def encode_held(held: Held) -> bytes:
    """The answer, which may be larger than a message."""
    parts = [encode(MessageKind.BEGAN, held.epoch, held.sequence)]
    for frame in held.frames:
        body = encode_frame(frame)
        parts += (_length.pack(len(body)), body)
    return b"".join(parts)


def decode_held(data: bytes, max_frames: int) -> Held:
    """Read an answer of at most so many frames. Raises BadMediaMessage."""
    message = decode(data)
    if message.kind is not MessageKind.BEGAN:
        raise BadMediaMessage(f"an answer is of the kind {message.kind.name}")
    frames = [decode_frame(body) for body in _split(message.body, max_frames)]
    return Held(message.epoch, message.sequence, frames)


def _split(data: memoryview, most: int) -> Iterator[memoryview]:
    """The parts, each behind its length."""
    at = count = 0
    while at < data.nbytes:
        try:
            (size,) = _length.unpack_from(data, at)
        except struct.error as error:
            raise BadMediaMessage(f"a length cannot be read: {error}") from error
        begin, at, count = at + _length.size, at + _length.size + size, count + 1
        if at > data.nbytes or count > most:
            raise BadMediaMessage("a part is longer than what it is in, or there are too many")
        yield data[begin:at]
