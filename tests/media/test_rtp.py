from __future__ import annotations

import random
import struct

import pytest
from aiortc.rtp import HeaderExtensionsMap, pack_header_extensions
from aiortc.rtp import RtpPacket as OtherPacket
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.rtp import MAX_JUMP, ReorderBuffer, RtpPacket


def packet(sequence: int) -> RtpPacket:
    return RtpPacket(96, False, sequence & 0xFFFF, 0, 1, b"x")


def numbers(packets: list[RtpPacket]) -> list[int]:
    return [one.sequence for one in packets]


@given(
    payload_type=st.integers(0, 71),
    marker=st.booleans(),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=100),
    padding=st.integers(0, 20),
    csrc=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15),
)
def test_reads_what_aiortc_writes(
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    padding: int,
    csrc: list[int],
) -> None:
    other = OtherPacket(payload_type, int(marker), sequence, timestamp, ssrc, payload)
    other.csrc = csrc
    other.padding_size = padding
    own = RtpPacket.parse(other.serialize(HeaderExtensionsMap()))
    assert (own.payload_type, own.marker, own.sequence) == (payload_type, marker, sequence)
    assert (own.timestamp, own.ssrc, own.payload) == (timestamp, ssrc, payload)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_or_a_packet(data: bytes) -> None:
    try:
        parsed = RtpPacket.parse(data)
    except ValueError:
        return
    for number in range(1, 15):
        parsed.extension(number)


@given(st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=8))
def test_header_extensions_are_read_as_aiortc_writes_them(elements: dict[int, bytes]) -> None:
    profile, values = pack_header_extensions(list(elements.items()))
    head = struct.pack("!HH", profile, len(values) // 4) if elements else b""
    header = bytes([0x90 if elements else 0x80, 96]) + bytes(10)
    parsed = RtpPacket.parse(header + head + values + b"payload")
    assert parsed.payload == b"payload"
    assert {number: parsed.extension(number) for number in elements} == elements
    assert all(parsed.extension(number) is None for number in range(1, 15) if number not in elements)


def test_two_byte_extensions_are_read() -> None:
    block = bytes.fromhex("1000 0002 0103 616263 00 0500".replace(" ", ""))
    parsed = RtpPacket.parse(bytes([0x90, 96]) + bytes(10) + block)
    assert parsed.extension(1) == b"abc"
    assert parsed.extension(5) == b""
    assert parsed.extension(2) is None


def test_packets_in_order_pass_at_once() -> None:
    buffer = ReorderBuffer()
    out = [number for at in range(65530, 65550) for number in numbers(buffer.push(packet(at), 0.0))]
    assert out == list(range(65530, 65550))
    assert len(buffer) == 0


def test_a_gap_holds_back_until_it_is_filled() -> None:
    buffer = ReorderBuffer()
    assert numbers(buffer.push(packet(65534), 0.0)) == [65534]
    assert buffer.push(packet(65536), 0.0) == []
    assert buffer.push(packet(65538), 0.0) == []
    assert list(buffer.missing()) == [65535, 65537]
    assert numbers(buffer.push(packet(65535), 0.0)) == [65535, 65536]
    assert numbers(buffer.push(packet(65537), 0.0)) == [65537, 65538]
    assert buffer.lost == 0


def test_a_gap_is_given_up_after_its_time_and_counted() -> None:
    buffer = ReorderBuffer(max_wait=0.4)
    buffer.push(packet(10), 0.0)
    buffer.push(packet(13), 1.0)
    assert buffer.expire(1.3) == []
    assert numbers(buffer.expire(1.5)) == [13]
    assert buffer.lost == 2
    assert buffer.push(packet(11), 1.5) == []
    assert buffer.late == 1


def test_no_more_than_the_limit_is_held() -> None:
    buffer = ReorderBuffer(max_held=8)
    buffer.push(packet(0), 0.0)
    out = [number for at in range(2, 30) for number in numbers(buffer.push(packet(at), 0.0))]
    assert out == list(range(2, 30))
    assert buffer.lost == 1


def test_a_single_stray_packet_changes_nothing_and_two_start_over() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(100), 0.0)
    assert buffer.push(packet(100 + MAX_JUMP + 50), 0.0) == []
    assert numbers(buffer.push(packet(101), 0.0)) == [101]
    assert buffer.push(packet(40000), 0.0) == []
    (first,) = buffer.push(packet(40001), 0.0)
    assert first.sequence & 0xFFFF == 40001
    assert first.sequence > 101 + MAX_JUMP
    assert numbers(buffer.push(packet(40002), 0.0)) == [first.sequence + 1]
    assert buffer.restarts == 1


@given(st.integers(0, 1 << 32), st.integers(0, 0xFFFF), st.integers(0, 30))
def test_shuffled_within_the_window_comes_out_whole_and_in_order(
    seed: int, start: int, lost_percent: int
) -> None:
    chance = random.Random(seed)
    buffer = ReorderBuffer(max_held=64, max_wait=10.0)
    sent = list(range(start, start + 120))
    order = sorted(sent[1:], key=lambda number: number + chance.uniform(0, 20))
    kept = [sent[0], *(number for number in order if chance.randrange(100) >= lost_percent)]
    out = [number for at in kept for number in numbers(buffer.push(packet(at), 0.0))]
    out += numbers(buffer.expire(20.0))
    assert out == sorted(out)
    assert len(out) + buffer.late == len(kept)
    assert buffer.lost + len(out) == out[-1] - start + 1
    if lost_percent == 0:
        assert out == sent


@pytest.mark.parametrize("data", [b"", b"\x80", bytes(12), b"\x40" + bytes(11), b"\xa0" + bytes(11)])
def test_short_or_foreign_packets_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="RTP"):
        RtpPacket.parse(data)
