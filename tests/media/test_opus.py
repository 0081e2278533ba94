from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import opus


@given(packets=st.lists(st.binary(min_size=1, max_size=1_300), max_size=5))
def test_packets_come_back_from_behind_their_control_headers(packets: list[bytes]) -> None:
    payload = b"".join(opus.control_header(len(packet)) + packet for packet in packets)
    assert opus.split_payload(payload, 100) == packets


@pytest.mark.parametrize(
    ("header", "extra"),
    [
        (b"\x7f\xf0", b"\x01\x38"),  # start trim
        (b"\x7f\xe8", b"\x00\x10"),  # end trim
        (b"\x7f\xfc", b"\x01\x38\x00\x10\x02ab"),  # both, and an extension
    ],
)
def test_trims_and_extensions_are_stepped_over(header: bytes, extra: bytes) -> None:
    assert opus.split_payload(header + b"\x03" + extra + b"abc", 1) == [b"abc"]


@pytest.mark.parametrize(
    "payload", [b"\x00", b"\x7f", b"\x7f\xe0", b"\x7f\xe0\xff", b"\x7f\xe0\x05abc", b"abc"]
)
def test_damaged_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="Opus"):
        opus.split_payload(payload, 100)


@given(payload=st.binary(max_size=300))
def test_noise_is_read_or_refused(payload: bytes) -> None:
    try:
        packets = opus.split_payload(payload, 100)
    except ValueError:
        return
    assert sum(map(len, packets)) <= len(payload)


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [
        (b"\xfcx", 20),  # CELT, one frame of 20 ms
        (b"\xe0x", 2.5),
        (b"\x18x", 60),  # SILK, one frame of 60 ms
        (b"\x61xx", 20),  # hybrid, two frames of 10 ms
        (b"\xfb\x06x", 120),  # six frames of 20 ms
        (b"\xfb\x07x", 0),  # 140 ms: more than a packet may last
        (b"\xfb", 0),
        (b"", 0),
    ],
)
def test_a_packet_tells_how_long_it_lasts(packet: bytes, milliseconds: float) -> None:
    assert opus.duration(packet) == milliseconds * 90


def test_packets_above_a_limit_and_sizes_without_end_are_refused() -> None:
    payload = (opus.control_header(1) + b"\xfc") * 3
    assert len(opus.split_payload(payload, 3)) == 3
    with pytest.raises(ValueError, match="more than 2"):
        opus.split_payload(payload, 2)
    with pytest.raises(ValueError, match="cut short"):
        opus.split_payload(b"\x7f\xe0" + b"\xff" * 100_000 + b"\0", 1)
