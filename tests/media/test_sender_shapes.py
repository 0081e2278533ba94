"""Shapes of H.264 in RTP that some senders make: each gives whole pictures that decode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO

import av
import pytest

from gateway.media.frames import TICKS_PER_SECOND, AccessUnit
from gateway.media.h264 import NalType, ParameterSets, join_annex_b, nal_type
from gateway.media.rtp import RtpPacket
from gateway.media.rtp_h264 import GO_ON_AFTER, IDR_LATE, Depacketizer, packetize
from gateway.media.segmenter import Segmenter
from tests.media.conftest import STEP, MakeSample

ONE_SLICE = "sliced-threads=0"
Payloads = list[tuple[int, bytes, bool]]
"""Time, payload and marker of each packet of a clip."""


def payloads_of(pictures: Iterable[AccessUnit]) -> Payloads:
    sent: Payloads = []
    for unit in pictures:
        payloads = packetize(unit.nals)
        sent += [(unit.pts, payload, at == len(payloads) - 1) for at, payload in enumerate(payloads)]
    return sent


def one_nal_each(pictures: Iterable[AccessUnit]) -> Payloads:
    """Each NAL unit by itself and with a marker."""
    return [
        (pts, payload, last)
        for unit in pictures
        for nal in unit.nals
        for pts, payload, last in payloads_of([AccessUnit([nal], unit.pts, unit.dts, unit.key)])
    ]


def received(
    sent: Payloads, *, lost: Sequence[int] = (), depacketizer: Depacketizer | None = None
) -> list[AccessUnit]:
    reader = depacketizer or Depacketizer()
    units: list[AccessUnit] = []
    for number, (pts, payload, marker) in enumerate(sent):
        if number not in lost:
            units += reader.push(RtpPacket(96, marker, number, pts & 0xFFFFFFFF, 1, payload), pts)
    return units


def shown(units: Iterable[AccessUnit]) -> int:
    """How many pictures a decoder makes of them, none of them damaged."""
    decoder = av.CodecContext.create("h264", "r")
    pictures = []
    for unit in units:
        pictures += decoder.decode(av.Packet(join_annex_b(unit.nals)))
    pictures += decoder.decode(None)
    return sum(not picture.is_corrupt for picture in pictures)


@pytest.mark.parametrize("sets_in_sdp", [False, True])
def test_a_marker_on_every_nal_unit(make_sample: MakeSample, sets_in_sdp: bool) -> None:
    clip = make_sample(60, gop=15, size=(160, 128), x264="sliced-threads=0:slices=4").video
    reader = Depacketizer()
    if sets_in_sdp:
        sets = [nal for nal in clip[0].nals if nal_type(nal) in (NalType.SPS, NalType.PPS)]
        reader.parameter_sets.observe(sets)
        clip = [
            unit if unit is not clip[0] else without(unit, NalType.SPS, NalType.PPS, NalType.SEI)
            for unit in clip
        ]
    units = received(one_nal_each(clip), depacketizer=reader)
    assert len(units) == 59, "all but the last, which nothing has ended"
    assert all(len([nal for nal in unit.nals if nal_type(nal) <= NalType.IDR]) == 4 for unit in units)
    assert shown(units) == len(units)


def test_only_the_first_picture_waits_to_show_how_its_sender_marks(make_sample: MakeSample) -> None:
    clip = make_sample(4, gop=15, x264=ONE_SLICE).video
    bare = [without(clip[0], NalType.SPS, NalType.PPS, NalType.SEI), *clip[1:]]
    for pictures, behind in ((bare, 1), (clip, 0)):
        known = ParameterSets()
        known.observe(clip[0].nals)
        reader = Depacketizer(known)
        sent = payloads_of(pictures)
        given: list[tuple[int, int]] = []
        for number, (pts, payload, marker) in enumerate(sent):
            units = reader.push(RtpPacket(96, marker, number, pts, 1, payload), pts)
            given += [(unit.pts, pts) for unit in units]
        first, *others = given
        assert first == (clip[0].pts, clip[behind].pts)
        assert others == [(unit.pts, unit.pts) for unit in clip[1:]]


def test_a_marker_on_parameter_sets_alone_costs_no_picture(make_sample: MakeSample) -> None:
    clip = make_sample(30, gop=15, x264=ONE_SLICE).video
    units = received(one_nal_each(clip))
    assert shown(units) == len(units) == 30


@pytest.mark.parametrize("odd", [b"\x1e\x01\x02\x03", b"\x1f\xff", b"\x00\x11\x22", b"\x1f"])
def test_packets_of_types_that_mean_nothing(make_sample: MakeSample, odd: bytes) -> None:
    clip = make_sample(30, gop=15).video
    sent = [packet for unit in clip for packet in [(unit.pts, odd, False), *payloads_of([unit])]]
    assert shown(received(sent)) == 30


def in_one_nal(unit: AccessUnit) -> list[bytes]:
    return [join_annex_b(unit.nals)[4:]]


def behind_start_codes(unit: AccessUnit) -> list[bytes]:
    return [b"\x00\x00\x00\x01" + nal for nal in unit.nals]


def behind_short_start_codes(unit: AccessUnit) -> list[bytes]:
    return [b"\x00\x00\x01" + nal + b"\x00" for nal in unit.nals]


@pytest.mark.parametrize("shape", [in_one_nal, behind_start_codes, behind_short_start_codes])
@pytest.mark.parametrize("size", [(160, 120), (640, 480)])
def test_start_codes_in_nal_units(
    make_sample: MakeSample, shape: Callable[[AccessUnit], list[bytes]], size: tuple[int, int]
) -> None:
    clip = make_sample(30, gop=15, size=size).video
    units = received(payloads_of(AccessUnit(shape(unit), unit.pts, unit.dts, unit.key) for unit in clip))
    assert [unit.nals for unit in units] == [unit.nals for unit in clip]
    assert shown(units) == 30


def test_a_nal_unit_of_start_codes_is_no_picture() -> None:
    bomb = b"\x65" + b"\x00\x00\x01\x65" * 300_000
    reader = Depacketizer()
    assert received(payloads_of([AccessUnit([bomb], 0, 0, True)]), depacketizer=reader) == []
    assert reader.damaged == 1


@pytest.mark.parametrize("zeros", [1, 2, 7])
def test_zeros_behind_the_units_of_an_aggregate(make_sample: MakeSample, zeros: int) -> None:
    clip = make_sample(30, gop=15, size=(64, 64), quality=40).video
    sent = payloads_of(clip)
    aggregates = [payload[0] & 0x1F == 24 for _, payload, _ in sent]
    assert any(aggregates)
    sent = [
        (pts, payload + bytes(zeros) if aggregate else payload, marker)
        for (pts, payload, marker), aggregate in zip(sent, aggregates, strict=True)
    ]
    assert shown(received(sent)) == 30


def test_an_empty_last_fragment(make_sample: MakeSample) -> None:
    clip = make_sample(30, gop=15, size=(640, 480), quality=20).video
    sent: Payloads = []
    for pts, payload, marker in payloads_of(clip):
        if payload[0] & 0x1F == 28 and payload[1] & 0x40:
            sent.append((pts, payload[:1] + bytes([payload[1] & 0xBF]) + payload[2:], False))
            sent.append((pts, bytes([payload[0], payload[1] & 0x5F]), marker))
        else:
            sent.append((pts, payload, marker))
    assert len(sent) > len(payloads_of(clip))
    assert shown(received(sent)) == 30


def without(unit: AccessUnit, *kinds: NalType) -> AccessUnit:
    return AccessUnit([nal for nal in unit.nals if nal_type(nal) not in kinds], unit.pts, unit.dts, unit.key)


@pytest.mark.parametrize("first", [NalType.SEI, None])
def test_parameter_sets_in_the_sdp_alone(make_sample: MakeSample, first: NalType | None) -> None:
    clip = make_sample(30, gop=30, x264=ONE_SLICE).video
    known = ParameterSets()
    known.observe(clip[0].nals)
    sei = [b"\x06\x05\x01\x00\x80"] if first is NalType.SEI else []
    bare = without(clip[0], NalType.SPS, NalType.PPS, NalType.SEI)
    bare.nals = [*sei, *bare.nals]
    sent = one_nal_each([bare, *clip[1:]])
    assert len(received(sent, depacketizer=Depacketizer(known))) == 30


@pytest.mark.parametrize("missing", [1, 3])
def test_a_lost_padding_packet_costs_nothing(make_sample: MakeSample, missing: int) -> None:
    clip = make_sample(90, gop=90).video
    sent: Payloads = []
    lost: list[int] = []
    for number, unit in enumerate(clip):
        if number in (20, 40, 41):
            lost += range(len(sent), len(sent) + missing)
            sent += [(unit.pts - STEP, b"", False)] * (missing + 1)
        sent += payloads_of([unit])
    reader = Depacketizer()
    units = received(sent, lost=lost, depacketizer=reader)
    assert shown(units) == 90
    assert reader.damaged == 0


def test_a_lost_picture_is_no_padding(make_sample: MakeSample) -> None:
    clip = make_sample(90, gop=45, size=(64, 64), quality=45, x264=ONE_SLICE).video
    sent = payloads_of(clip)
    assert len(sent) == 90, "one packet each"
    reader = Depacketizer()
    units = received(sent, lost=[20], depacketizer=reader)
    assert [unit.pts for unit in units] == [unit.pts for at, unit in enumerate(clip) if not 20 <= at < 45]
    assert reader.damaged == 1


def test_intra_refresh_goes_on_at_a_recovery_point(make_sample: MakeSample) -> None:
    clip = make_sample(120, gop=30, x264="intra-refresh=1:keyint=30").video
    assert sum(unit.key and has_idr_slice(unit) for unit in clip) == 1
    sent = payloads_of(clip)
    at = next(number for number, (pts, _, _) in enumerate(sent) if pts == clip[40].pts)
    reader = Depacketizer()
    units = received(sent, lost=[at], depacketizer=reader)
    assert 40 + 60 <= len(units) < 120
    assert reader.without_key_frame
    assert not reader.needs_key_frame


def has_idr_slice(unit: AccessUnit) -> bool:
    return any(nal_type(nal) == NalType.IDR for nal in unit.nals)


def pictures_of(stream: bytes | Iterable[AccessUnit]) -> dict[int, bytes]:
    """The luma of each picture that a decoder shows, by its time: of MPEG-TS, or of access units."""
    if isinstance(stream, bytes):
        with av.open(BytesIO(stream), format="mpegts") as container:
            shown = list(container.decode(video=0))
    else:
        decoder = av.CodecContext.create("h264", "r")
        shown = []
        for unit in stream:
            packet = av.Packet(join_annex_b(unit.nals))
            packet.pts = packet.dts = unit.pts
            shown += decoder.decode(packet)
        shown += decoder.decode(None)
    return {picture.pts: picture.to_ndarray(format="gray").tobytes() for picture in shown}


def test_intra_refresh_starts_at_a_recovery_point_where_its_only_key_frame_is_lost(
    make_sample: MakeSample,
) -> None:
    clip = make_sample(150, gop=30, x264="intra-refresh=1:keyint=30").video
    sent = payloads_of(clip)
    lost = [number for number, (pts, _, _) in enumerate(sent) if pts == clip[0].pts]
    reader = Depacketizer()
    units = received(sent, lost=lost, depacketizer=reader)
    assert [unit.pts for unit in units] == [unit.pts for unit in clip[30:]]
    assert [at for at, unit in enumerate(units) if unit.key] == [0, 30, 60, 90]
    assert {NalType.SPS, NalType.PPS} <= {nal_type(nal) for nal in units[0].nals}
    assert (reader.without_key_frame, reader.needs_key_frame) == (True, False)
    whole, started = pictures_of(clip), pictures_of(units)
    assert len(started) >= 150 - 30 - 30, "one round of the refresh later at most"
    assert all(whole[pts] == picture for pts, picture in started.items())
    segments = segments_of(units)
    assert len(segments) == 4
    assert set(pictures_of(b"".join(segments))) >= set(started)


def test_recovery_points_are_key_frames_once_no_other_has_come_for_long(make_sample: MakeSample) -> None:
    clip = make_sample(240, gop=30, size=(64, 64), x264="intra-refresh=1:keyint=30").video
    reader = Depacketizer()
    units = received(payloads_of(clip), depacketizer=reader)
    assert len(units) == 240
    late = next(at for at in range(0, 240, 30) if clip[at].pts - clip[0].pts > IDR_LATE)
    assert [at for at, unit in enumerate(units) if unit.key] == [0, *range(late, 240, 30)]
    assert not reader.without_key_frame
    assert shown(units[late:]) >= 240 - late - 30


class Segments(list[bytes]):
    """Where a segmenter opens the next."""

    def open(self) -> Segments:
        self.append(b"")
        return self

    def write(self, data: bytes) -> bool:
        self[-1] += data
        return True

    def close(self) -> None:
        """It is complete."""


def segments_of(units: Sequence[AccessUnit]) -> list[bytes]:
    """What goes to a worker of pictures that come at their pace."""
    made = Segments()
    now = units[0].pts / TICKS_PER_SECOND
    segmenter = Segmenter(made.open, clock=lambda: now)
    for unit in units:
        now = unit.pts / TICKS_PER_SECOND
        segmenter.push(unit)
    segmenter.close()
    return made


def test_pictures_go_on_in_the_end_though_no_key_frame_comes(make_sample: MakeSample) -> None:
    clip = make_sample(400, gop=400, size=(64, 64)).video
    sent = payloads_of(clip)
    at = next(number for number, (pts, _, _) in enumerate(sent) if pts == clip[10].pts)
    reader = Depacketizer()
    units = received(sent, lost=[at], depacketizer=reader)
    gap = units[10].pts - units[9].pts
    assert GO_ON_AFTER < gap <= GO_ON_AFTER + 2 * STEP
    assert reader.without_key_frame
    (key,) = received([(10**9, payload, marker) for _, payload, marker in payloads_of(clip[:1])])
    assert key.key
