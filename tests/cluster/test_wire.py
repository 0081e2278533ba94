"""Every frame comes out as it went in, and nothing that cannot be read does harm."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster import wire
from gateway.cluster.wire import BadMediaMessage, Held, MessageKind
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from tests.cluster.frames import FRAMES

COUNTS = st.integers(0, 2**64 - 1)


@given(FRAMES, COUNTS, COUNTS)
def test_a_small_frame_is_one_message(frame: Frame, epoch: int, sequence: int) -> None:
    (data,) = wire.messages_of(frame, epoch, sequence)
    message = wire.decode(data)
    assert (message.kind, message.epoch, message.sequence) == (MessageKind.FRAME, epoch, sequence)
    assert wire.decode_frame(message.body) == frame


@given(st.integers(wire.MAX_PIECE - 100, 3 * wire.MAX_PIECE + 100), st.booleans())
def test_a_large_picture_goes_in_pieces_that_nats_takes(size: int, key: bool) -> None:
    frame = AccessUnit([b"\x67", bytes(size)], 1, 2, key)
    messages = [wire.decode(data) for data in wire.messages_of(frame, 5, 9)]
    assert [message.sequence for message in messages] == list(range(9, 9 + len(messages)))
    assert all(message.size <= wire.MAX_PIECE for message in messages)
    assert len(messages) == -(-(size + 26) // wire.MAX_PIECE)
    if len(messages) > 1:
        assert [message.kind for message in messages] == [
            MessageKind.FIRST,
            *[MessageKind.NEXT] * (len(messages) - 2),
            MessageKind.LAST,
        ]
    assert wire.decode_frame(memoryview(b"".join(message.body for message in messages))) == frame


@given(st.lists(FRAMES, max_size=8), COUNTS, COUNTS)
def test_an_answer_holds_its_frames(frames: list[Frame], epoch: int, sequence: int) -> None:
    held = Held(epoch, sequence, frames)
    assert wire.decode_held(wire.encode_held(held), 8) == held


@given(st.binary(max_size=80))
def test_what_cannot_be_read_is_refused_in_one_way(data: bytes) -> None:
    with suppress(BadMediaMessage):
        wire.decode_frame(wire.decode(data).body)
    with suppress(BadMediaMessage):
        wire.decode_frame(memoryview(data))
    with suppress(BadMediaMessage):
        wire.decode_held(data, 8)


@given(FRAMES.filter(lambda frame: isinstance(frame, AccessUnit)), st.data())
def test_a_picture_that_lacks_its_end_is_refused_or_lacks_whole_nal_units(
    frame: AccessUnit, data: st.DataObject
) -> None:
    body = wire.encode_frame(frame)
    short = memoryview(body)[: data.draw(st.integers(0, len(body)))]
    try:
        read = wire.decode_frame(short)
    except BadMediaMessage:
        return
    assert isinstance(read, AccessUnit)
    assert read.nals == frame.nals[: len(read.nals)]


def test_messages_of_release_1_are_read_by_every_later_one() -> None:
    data = bytes.fromhex("01140300 0000000000000007 0000000000000102 aabb")
    message = wire.decode(data)
    assert (message.kind, message.epoch, message.sequence) == (MessageKind.FRAME, 7, 258)
    assert bytes(message.body) == b"\xaa\xbb"
    picture = bytes.fromhex("02 00000000000003e9 00000000000003e8 00000002 6501 00000001 41")
    assert wire.decode_frame(memoryview(picture)) == AccessUnit([b"\x65\x01", b"\x41"], 1001, 1000, True)
    sound = bytes.fromhex("00 fffffffffffffffe 0000000000000000 0102")
    assert wire.decode_frame(memoryview(sound)) == OpusPacket(b"\x01\x02", -2)
    assert wire.encode(MessageKind.FRAME, 7, 258, b"\xaa\xbb") == data
    assert [kind.name for kind in MessageKind] == ["BEGAN", "ENDED", "FRAME", "FIRST", "NEXT", "LAST"]
    assert list(MessageKind) == [1, 2, 3, 4, 5, 6]


def test_what_a_later_version_adds_to_the_header_is_skipped() -> None:
    data = bytearray(wire.encode(MessageKind.ENDED, 1, 2))
    data[1] += 3
    assert bytes(wire.decode(bytes(data) + b"newbody").body) == b"body"


def test_too_much_is_refused() -> None:
    with pytest.raises(BadMediaMessage, match="bytes"):
        wire.messages_of(OpusPacket(bytes(wire.MAX_FRAME), 0), 1, 1)
    with pytest.raises(BadMediaMessage, match="bytes"):
        wire.decode_frame(memoryview(bytes(wire.MAX_FRAME + 1)))
    many = wire.encode_frame(AccessUnit([b"\x41"] * (wire.MAX_NALS + 1), 0, 0, False))
    with pytest.raises(BadMediaMessage, match="too many"):
        wire.decode_frame(memoryview(many))
    answer = wire.encode_held(Held(1, 1, [OpusPacket(b"", 0)] * 3))
    with pytest.raises(BadMediaMessage, match="too many"):
        wire.decode_held(answer, 2)
    with pytest.raises(BadMediaMessage, match="version 2"):
        wire.decode(b"\x02" + wire.encode(MessageKind.BEGAN, 1, 1)[1:])
    with pytest.raises(BadMediaMessage, match="ENDED"):
        wire.decode_held(wire.encode(MessageKind.ENDED, 1, 1), 2)
