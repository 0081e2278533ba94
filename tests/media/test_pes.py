from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.mpegts import STREAM_ID_VIDEO, TIMESTAMP_MASK
from gateway.media.pes import PesPacket, read_timestamp, write_header, write_timestamp


@given(value=st.integers(0, TIMESTAMP_MASK), prefix=st.integers(1, 3))
def test_a_timestamp_comes_back_with_its_marker_bits_set(value: int, prefix: int) -> None:
    data = write_timestamp(prefix, value)
    assert read_timestamp(b"xx" + data, 2) == value
    assert data[0] >> 4 == prefix
    assert data[0] & data[2] & data[4] & 1


@given(
    payload=st.binary(min_size=1, max_size=400),
    pts=st.integers(0, TIMESTAMP_MASK),
    dts=st.none() | st.integers(0, TIMESTAMP_MASK),
)
def test_a_packet_comes_back_without_what_lies_behind_its_length(
    payload: bytes, pts: int, dts: int | None
) -> None:
    data = write_header(STREAM_ID_VIDEO, len(payload), pts, dts) + payload
    packet = PesPacket.parse(data + b"behind")
    assert packet == PesPacket(STREAM_ID_VIDEO, pts, pts if dts is None else dts, payload)


def test_a_length_is_given_up_to_the_last_byte_that_it_can_count() -> None:
    assert write_header(STREAM_ID_VIDEO, 65_527, 0)[4:6] == b"\xff\xff"
    assert write_header(STREAM_ID_VIDEO, 65_528, 0)[4:6] == b"\x00\x00"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x01\xe0\x00\x00",
        b"\x00\x00\x02\xe0\x00\x00\x80\x00\x00",
        b"\x00\x00\x01\xe0\x00\x20\x80\x00\x00abc",  # shorter than it says
        b"\x00\x00\x01\xe0\x00\x00\x80\x80\x02\x21\x00",  # no room for its PTS
        b"\x00\x00\x01\xe0\x00\x00\x80\x00\xff\x00",  # header longer than the packet
        b"\x00\x00\x01\xe0\x00\x00\x90\x00\x00abc",  # scrambled
    ],
)
def test_a_damaged_packet_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="PES"):
        PesPacket.parse(data)


@given(data=st.binary(max_size=60))
def test_noise_is_read_or_refused(data: bytes) -> None:
    try:
        packet = PesPacket.parse(b"\x00\x00\x01" + data)
    except ValueError:
        return
    assert (packet.pts is None) == (packet.dts is None)
