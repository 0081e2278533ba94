from __future__ import annotations

from collections.abc import Sequence

from aiortc.codecs.h264 import h264_depayload
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.frames import AccessUnit
from gateway.media.h264 import ParameterSets, join_annex_b, split_annex_b
from gateway.media.rtp import RtpPacket
from gateway.media.rtp_h264 import MAX_ACCESS_UNIT, Depacketizer, packetize, unpacketize
from harness.insides import packetized

SPS = bytes.fromhex("6742c01fd9005005bb0110000003001000000303c0f1831920")
PPS = bytes.fromhex("68cb83cb20")


def idr(size: int = 40) -> bytes:
    return b"\x65\x88" + b"\x11" * size


def slice_of(size: int = 40) -> bytes:
    return b"\x41\x9a" + b"\x22" * size


def packets(pictures: Sequence[Sequence[bytes]], *, start: int = 0) -> list[tuple[RtpPacket, int]]:
    found: list[tuple[RtpPacket, int]] = []
    for number, nals in enumerate(pictures):
        payloads = packetize(nals)
        for place, payload in enumerate(payloads):
            marker = place == len(payloads) - 1
            one = RtpPacket(96, marker, start + len(found), number * 3000, 1, payload)
            found.append((one, number * 3000))
    return found


def feed(depacketizer: Depacketizer, stream: Sequence[tuple[RtpPacket, int]]) -> list[AccessUnit]:
    return [unit for one, pts in stream for unit in depacketizer.push(one, pts)]


def nal_units(max_size: int) -> st.SearchStrategy[bytes]:
    kinds = st.sampled_from([0x41, 0x65, 0x06, 0x01])
    # A first byte of the slice that says first_mb_in_slice = 0, and no start codes within.
    return st.builds(
        lambda kind, size, fill: bytes([kind, 0x88]) + bytes([fill]) * size,
        kinds,
        st.integers(0, max_size),
        st.integers(1, 255),
    )


@given(
    st.lists(st.lists(nal_units(5000), min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(100, 1400),
)
def test_what_is_packetized_comes_out_again(pictures: list[list[bytes]], max_payload: int) -> None:
    pictures = [[SPS, PPS, idr()], *([*nals, slice_of()] for nals in pictures)]
    for nals in pictures:
        assert all(len(payload) <= max_payload for payload in packetize(nals, max_payload))
    units = feed(Depacketizer(), packets(pictures))
    assert [unit.nals[-len(nals) :] for unit, nals in zip(units, pictures, strict=True)] == pictures


@given(st.lists(nal_units(4000), max_size=8), st.integers(100, 1400))
def test_what_is_packetized_can_be_unpacked_as_it_was(nals: list[bytes], max_payload: int) -> None:
    assert unpacketize(packetize(nals, max_payload)) == nals


@given(st.lists(nal_units(4000), min_size=1, max_size=8))
def test_aiortc_reads_what_is_packetized(nals: list[bytes]) -> None:
    assert split_annex_b(b"".join(h264_depayload(payload) for payload in packetize(nals))) == nals


@given(st.lists(nal_units(4000), min_size=1, max_size=8))
def test_what_aiortc_packetizes_is_read(nals: list[bytes]) -> None:
    nals = [SPS, PPS, idr(), *nals]
    payloads = packetized(join_annex_b(nals))
    depacketizer = Depacketizer()
    last = len(payloads) - 1
    stream = [(RtpPacket(96, at == last, at, 0, 1, payload), 0) for at, payload in enumerate(payloads)]
    (unit,) = feed(depacketizer, stream)
    assert unit.nals == nals


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans(), st.integers(0, 3)), max_size=40))
def test_garbage_never_raises(payloads: list[tuple[bytes, bool, int]]) -> None:
    depacketizer = Depacketizer()
    for number, (payload, marker, pts) in enumerate(payloads):
        for unit in depacketizer.push(RtpPacket(96, marker, number, pts, 1, payload), pts):
            assert all(unit.nals)


def test_parameter_sets_go_together_in_one_packet() -> None:
    first, *rest = packetize([SPS, PPS, idr(3000)])
    assert first[0] & 0x1F == 24
    assert all(payload[0] & 0x1F == 28 for payload in rest)
    assert max(map(len, rest)) - min(map(len, rest)) <= len(rest)


def test_nothing_comes_before_a_key_frame() -> None:
    units = feed(Depacketizer(), packets([[slice_of()], [slice_of()], [SPS, PPS, idr()], [slice_of()]]))
    assert [unit.key for unit in units] == [True, False]


def test_a_picture_with_a_hole_is_dropped_and_what_follows_up_to_the_next_key_frame() -> None:
    stream = packets([[SPS, PPS, idr()], [slice_of(5000)], [slice_of()], [SPS, PPS, idr()], [slice_of()]])
    assert len(stream) > 8
    depacketizer = Depacketizer()
    units = feed(depacketizer, [one for at, one in enumerate(stream) if at != 3])
    assert [unit.pts for unit in units] == [0, 9000, 12000]
    assert (depacketizer.damaged, depacketizer.skipped) == (1, 1)


def test_a_lost_picture_does_not_cost_the_key_frame_behind_it() -> None:
    stream = packets([[SPS, PPS, idr()], [slice_of()], [SPS, PPS, idr(4000)], [slice_of()]])
    depacketizer = Depacketizer()
    units = feed(depacketizer, [stream[0], *stream[2:]])
    assert [unit.key for unit in units] == [True, True, False]
    assert depacketizer.damaged == 1


def test_a_lost_marker_costs_the_picture_it_ended() -> None:
    stream = packets([[SPS, PPS, idr()], [slice_of(3000)], [slice_of()], [slice_of()]])
    marker = next(at for at, (one, pts) in enumerate(stream) if one.marker and pts == 3000)
    depacketizer = Depacketizer()
    units = feed(depacketizer, [one for at, one in enumerate(stream) if at != marker])
    assert [unit.pts for unit in units] == [0]
    assert depacketizer.needs_key_frame


def test_a_picture_without_marker_ends_at_the_next_timestamp() -> None:
    stream = packets([[SPS, PPS, idr()], [slice_of()]])
    for one, _ in stream:
        one.marker = False
    depacketizer = Depacketizer()
    assert [unit.pts for unit in feed(depacketizer, stream)] == [0]


def test_delimiters_and_filler_are_left_out() -> None:
    (unit,) = feed(Depacketizer(), packets([[b"\x09\xf0", SPS, PPS, idr(), b"\x0c\xff\xff"]]))
    assert unit.nals == [SPS, PPS, idr()]


def test_parameter_sets_of_the_sdp_go_before_a_key_frame_that_lacks_them() -> None:
    known = ParameterSets()
    known.observe([SPS, PPS])
    unit, _ = feed(Depacketizer(known), packets([[idr()], [slice_of()]]))
    assert unit.nals == [SPS, PPS, idr()]


def test_parameter_sets_sent_on_their_own_are_put_before_the_key_frame() -> None:
    units = feed(Depacketizer(), packets([[SPS, PPS], [idr()], [slice_of()]]))
    assert [unit.nals for unit in units] == [[SPS, PPS, idr()], [slice_of()]]


def test_a_picture_of_a_megabyte_passes_and_an_endless_one_does_not() -> None:
    big = idr(1_000_000)
    (unit,) = feed(Depacketizer(), packets([[SPS, PPS, big]]))
    assert unit.nals[-1] == big
    depacketizer = Depacketizer()
    endless = packets([[SPS, PPS, idr(MAX_ACCESS_UNIT)], [SPS, PPS, idr()]])
    assert [unit.pts for unit in feed(depacketizer, endless)] == [3000]
    assert depacketizer.damaged == 1


def test_empty_packets_only_count() -> None:
    stream = packets([[SPS, PPS, idr()], [slice_of()]])
    stream.insert(1, (RtpPacket(96, False, 1, 0, 1, b""), 0))
    for number, (one, _) in enumerate(stream):
        one.sequence = number
    depacketizer = Depacketizer()
    assert len(feed(depacketizer, stream)) == 2
    assert depacketizer.damaged == 0


def test_padding_behind_a_gap_does_not_cost_the_key_frame_behind_it() -> None:
    stream = packets([[SPS, PPS, idr()], [slice_of()], [SPS, PPS, idr()]])
    for number, (one, _) in enumerate(stream):
        one.sequence = number * 10
    padding = RtpPacket(96, False, stream[-1][0].sequence - 1, 0, 1, b"")
    depacketizer = Depacketizer()
    units = feed(depacketizer, [stream[0], (padding, 3000), stream[-1]])
    assert [unit.key for unit in units] == [True, True]


def test_b_frames_are_noticed() -> None:
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11]
    depacketizer = Depacketizer()
    units: list[AccessUnit] = []
    for number, shown in enumerate(order):
        nals = [SPS, PPS, idr()] if number == 0 else [slice_of()]
        (payload,) = packetize(nals)
        units += depacketizer.push(RtpPacket(96, True, number, 0, 1, payload), shown * 3000)
    assert depacketizer.b_frames
    assert [unit.pts for unit in units] == [shown * 3000 for shown in order]


def test_a_clock_that_starts_over_makes_no_b_frames() -> None:
    depacketizer = Depacketizer()
    (payload,) = packetize([SPS, PPS, idr()])
    for number, pts in enumerate((900_000, 903_000, 0, 3_000)):
        assert depacketizer.push(RtpPacket(96, True, number, 0, 1, payload), pts)
    assert not depacketizer.b_frames


def test_decoding_time_is_presentation_time_without_b_frames() -> None:
    units = feed(Depacketizer(), packets([[SPS, PPS, idr()], [slice_of()], [slice_of()]]))
    assert [(unit.pts, unit.dts) for unit in units] == [(0, 0), (3000, 3000), (6000, 6000)]
