from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.h264 import NalType, nal_type, split_annex_b
from gateway.media.sps import BitReader, Sps


def encoded_sps(
    width: int, height: int, *, bframes: int = 0, pix_fmt: str = "yuv420p", **options: str
) -> bytes:
    """The SPS that x264 writes for pictures of this kind."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, pix_fmt
    codec.framerate = 30
    codec.time_base = Fraction(1, 30)
    codec.options = {"preset": "ultrafast", "bf": str(bframes), **options}
    picture = av.VideoFrame(width, height, pix_fmt)
    for plane in picture.planes:
        plane.update(bytes(plane.buffer_size))
    data = b"".join(map(bytes, [*codec.encode(picture), *codec.encode(None)]))
    return next(nal for nal in split_annex_b(data) if nal_type(nal) == NalType.SPS)


@pytest.mark.parametrize(
    ("width", "height"), [(16, 16), (160, 120), (1280, 720), (1920, 1080), (426, 240), (854, 480), (640, 362)]
)
def test_the_size_is_that_of_the_picture_after_cropping(width: int, height: int) -> None:
    sps = Sps.parse(encoded_sps(width, height))
    assert sps.size == (width, height)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
def test_cropping_counts_in_the_units_of_the_chroma_format(pix_fmt: str) -> None:
    assert Sps.parse(encoded_sps(170, 98, pix_fmt=pix_fmt)).size == (170, 98)


def test_interlaced_coding_counts_rows_of_two_macroblocks() -> None:
    options = {"x264-params": "interlaced=1:tff=1"}
    assert Sps.parse(encoded_sps(1920, 1080, **options)).size == (1920, 1080)


def test_profile_and_level_read_as_in_a_session_description() -> None:
    sps = Sps.parse(encoded_sps(1280, 720, profile="baseline", level="3.1"))
    assert sps.profile_level_id == "42c01f"
    assert (sps.profile_idc, sps.level_idc) == (66, 31)


@pytest.mark.parametrize(("bframes", "depth"), [(0, 0), (1, 1), (2, 2)])
def test_the_reordering_that_the_encoder_declares_is_found(bframes: int, depth: int) -> None:
    sps = Sps.parse(
        encoded_sps(320, 240, bframes=bframes, preset="medium", tune="film", **{"rc-lookahead": "4"})
    )
    assert (sps.reorder_frames, sps.reorder_declared) == (depth, True)


def test_scaling_lists_timing_and_buffer_models_are_stepped_over() -> None:
    options = {"x264-params": "cqm=jvt:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500:bframes=1:b-pyramid=none"}
    sps = Sps.parse(encoded_sps(320, 240, bframes=1, preset="fast", **options))
    assert (sps.size, sps.reorder_frames, sps.reorder_declared) == ((320, 240), 1, True)


def test_what_a_browser_sends_rules_b_frames_out() -> None:
    # Constrained baseline 3.1, 640x480, no VUI.
    sps = Sps.parse(bytes.fromhex("6742c01f8c8d40501e900f08846a"))
    assert sps.reorder_frames == 0
    assert sps.reorder_declared
    assert sps.profile_level_id == "42c01f"


def test_without_a_word_on_it_main_profile_may_reorder_as_far_as_its_level_allows() -> None:
    declared = encoded_sps(1280, 720, bframes=1, profile="main", level="3.1")
    # The same up to the VUI's presence flag, which is put to 0.
    payload = int.from_bytes(declared[4:], "big")
    bits = f"{payload:0{(len(declared) - 4) * 8}b}"
    reader_left = _bits_before_vui(declared)
    cut = bits[:reader_left] + "01"
    cut = cut.ljust(-(-len(cut) // 8) * 8, "0")
    sps = Sps.parse(declared[:4] + int(cut, 2).to_bytes(len(cut) // 8, "big"))
    assert sps.size == (1280, 720)
    assert (sps.reorder_frames, sps.reorder_declared) == (5, False)


def _bits_before_vui(nal: bytes) -> int:
    reader = BitReader(nal[4:])
    total = reader.left
    reader.ue(), reader.ue(), reader.ue(), reader.ue(), reader.ue(), reader.u(1)
    reader.ue(), reader.ue(), reader.u(2)
    if reader.flag():
        for _ in range(4):
            reader.ue()
    return total - reader.left


@pytest.mark.parametrize(
    "nal", [b"", b"\x67", b"\x67\x42\x00\x1f", b"\x68\xce\x3c\x80", b"\x67" + b"\x00" * 40]
)
def test_a_damaged_one_is_refused(nal: bytes) -> None:
    with pytest.raises(ValueError, match="parameter set"):
        Sps.parse(nal)


@given(tail=st.binary(max_size=80), profile=st.sampled_from([66, 77, 100, 244]))
def test_noise_is_read_or_refused_but_never_breaks(tail: bytes, profile: int) -> None:
    try:
        sps = Sps.parse(bytes((0x67, profile, 0, 31)) + tail)
    except ValueError:
        return
    assert sps.width > 0
    assert sps.height > 0
    assert 0 <= sps.reorder_frames <= 16


@given(value=st.integers(0, 2**31 - 2), signed=st.integers(-(2**30), 2**30))
def test_exp_golomb_codes_come_back(value: int, signed: int) -> None:
    code = 2 * signed - 1 if signed > 0 else -2 * signed
    bits = "".join(f"{v + 1:b}".rjust(2 * (v + 1).bit_length() - 1, "0") for v in (value, code))
    padded = bits + "1" * (-len(bits) % 8)
    raw = int(padded, 2).to_bytes(len(padded) // 8, "big")
    # Emulation prevention, as a writer of a NAL unit would put it in.
    escaped, zeros = bytearray(), 0
    for byte in raw:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    reader = BitReader(bytes(escaped))
    assert reader.ue() == value
    assert reader.se() == signed


def test_files_of_the_decoder_agree(make_sample) -> None:
    sample = make_sample(bframes=2)
    with av.open(io.BytesIO(sample.ts), format="mpegts") as container:
        stream = container.streams.video[0]
        sps = Sps.parse(next(nal for nal in sample.video[0].nals if nal_type(nal) == NalType.SPS))
        assert sps.size == (stream.width, stream.height)
        assert sps.profile_idc == 100
