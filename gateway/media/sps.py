"""Parser of the sequence parameter set, which describes an H.264 stream.

Source: ITU-T H.264, 7.3.2.1.1 (syntax), 7.4.2.1.1 (meaning), A.3.1 (levels), E.1 (VUI).
"""

from __future__ import annotations

from dataclasses import dataclass

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_INTRA_CAPABLE = frozenset({44, 86, 100, 110, 122, 244})
_BASELINE = 66

# Table A-1: MaxDpbMbs by level_idc. Level 1b shares its figure with level 1.
_MAX_DPB_MBS = {
    9: 396,
    10: 396,
    11: 900,
    12: 2_376,
    13: 2_376,
    20: 2_376,
    21: 4_752,
    22: 8_100,
    30: 8_100,
    31: 18_000,
    32: 20_480,
    40: 32_768,
    41: 32_768,
    42: 34_816,
    50: 110_400,
    51: 184_320,
    52: 184_320,
    60: 696_320,
    61: 696_320,
    62: 696_320,
}
_MAX_DPB_FRAMES = 16
_EXTENDED_SAR = 255
_MAX_MACROBLOCKS = 1055
"""Along one side, for level 6.2: sqrt(8 x 139,264)."""


class BitReader:
    """Reads the payload of a NAL unit bit by bit; raises ValueError past its end."""

    def __init__(self, payload: bytes) -> None:
        # Emulation prevention bytes (7.4.1) are not part of the syntax.
        rbsp = payload.replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = int.from_bytes(rbsp, "big")
        self.left = len(rbsp) * 8

    def u(self, count: int) -> int:
        """An unsigned integer of `count` bits."""
        if count > self.left:
            raise ValueError("parameter set is cut short")
        self.left -= count
        return (self._bits >> self.left) & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.u(1) == 1

    def ue(self, highest: int = 2**32 - 2) -> int:
        """An unsigned Exp-Golomb code (9.1), refused above `highest`."""
        # counted in one step: a parameter set of many long codes would take thousands
        zeros = self.left - (self._bits & ((1 << self.left) - 1)).bit_length()
        if zeros > 31:
            raise ValueError("parameter set holds a code out of range")
        self.u(zeros + 1)
        value = (1 << zeros) - 1 + self.u(zeros)
        if value > highest:
            raise ValueError("parameter set holds a value out of range")
        return value

    def se(self) -> int:
        """A signed Exp-Golomb code (9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


@dataclass(frozen=True, slots=True)
class Sps:
    """The fields of a sequence parameter set that the gateway needs.

    `width` and `height` are in pixels, cropping applied. `reorder_frames` is how many pictures at
    most come before another in decoding order and after it in output order: 0 rules B-frames out.
    Where the stream does not say, it is what its level would allow (`reorder_declared` is False).
    """

    id: int
    profile_idc: int
    constraint_flags: int
    level_idc: int
    width: int
    height: int
    reorder_frames: int
    reorder_declared: bool
    frame_num_bits: int
    """Bits of frame_num in a slice header."""
    separate_planes: bool
    """Whether each slice header names a colour plane before its frame_num."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def profile_level_id(self) -> str:
        """As in an SDP's fmtp (RFC 6184, 8.1): `42e01f`."""
        return f"{self.profile_idc:02x}{self.constraint_flags:02x}{self.level_idc:02x}"

    @classmethod
    def parse(cls, nal: bytes) -> Sps:
        """Read a NAL unit of type 7; ValueError where it is damaged or of a kind that no decoder takes."""
        if len(nal) < 4 or nal[0] & 0x1F != 7:
            raise ValueError("not a sequence parameter set")
        profile_idc, constraint_flags, level_idc = nal[1:4]
        bits = BitReader(nal[4:])
        sps_id = bits.ue(31)
        chroma_format_idc, separate_planes = 1, False
        if profile_idc in _HIGH_PROFILES:
            chroma_format_idc, separate_planes = _read_high_profile_fields(bits)
        frame_num_bits = bits.ue(12) + 4  # log2_max_frame_num_minus4
        pic_order_cnt_type = _skip_pic_order_cnt(bits)
        bits.ue(_MAX_DPB_FRAMES)  # max_num_ref_frames
        bits.flag()  # gaps_in_frame_num_value_allowed_flag
        width_mbs = bits.ue(_MAX_MACROBLOCKS) + 1
        map_unit_rows = bits.ue(_MAX_MACROBLOCKS) + 1
        frame_mbs_only = bits.flag()
        if not frame_mbs_only:
            bits.flag()  # mb_adaptive_frame_field_flag
        height_mbs = map_unit_rows * (1 if frame_mbs_only else 2)
        bits.flag()  # direct_8x8_inference_flag
        crop_x, crop_y = _cropped(bits, chroma_format_idc, frame_mbs_only)
        width, height = width_mbs * 16 - crop_x, height_mbs * 16 - crop_y
        if width <= 0 or height <= 0:
            raise ValueError("sequence parameter set crops the whole picture away")

        declared = _declared_reorder_frames(bits)
        intra_only = profile_idc in _INTRA_CAPABLE and constraint_flags & 0x10
        if profile_idc == _BASELINE or pic_order_cnt_type == 2:
            reorder = 0
        elif declared is not None:
            reorder = declared
        elif intra_only:
            reorder = 0
        else:
            allowed = _MAX_DPB_MBS.get(level_idc, _MAX_DPB_MBS[62]) // (width_mbs * height_mbs)
            reorder = min(allowed, _MAX_DPB_FRAMES)
        return cls(
            id=sps_id,
            profile_idc=profile_idc,
            constraint_flags=constraint_flags,
            level_idc=level_idc,
            width=width,
            height=height,
            reorder_frames=reorder,
            reorder_declared=reorder == 0 or declared is not None,
            frame_num_bits=frame_num_bits,
            separate_planes=separate_planes,
        )


def _read_high_profile_fields(bits: BitReader) -> tuple[int, bool]:
    """ChromaArrayType, and separate_colour_plane_flag."""
    chroma_format_idc = bits.ue(3)
    separate_planes = chroma_format_idc == 3 and bits.flag()
    bits.ue(6)  # bit_depth_luma_minus8
    bits.ue(6)  # bit_depth_chroma_minus8
    bits.flag()  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():  # seq_scaling_matrix_present_flag
        for index in range(8 if chroma_format_idc != 3 else 12):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return 0 if separate_planes else chroma_format_idc, separate_planes


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = upcoming = 8
    for _ in range(size):
        if upcoming:
            upcoming = (last + bits.se()) & 0xFF
        last = upcoming or last


def _skip_pic_order_cnt(bits: BitReader) -> int:
    pic_order_cnt_type = bits.ue(2)
    if pic_order_cnt_type == 0:
        bits.ue(12)  # log2_max_pic_order_cnt_lsb_minus4
    elif pic_order_cnt_type == 1:
        bits.flag()  # delta_pic_order_always_zero_flag
        bits.se()  # offset_for_non_ref_pic
        bits.se()  # offset_for_top_to_bottom_field
        for _ in range(bits.ue(255)):  # num_ref_frames_in_pic_order_cnt_cycle
            bits.se()
    return pic_order_cnt_type


def _cropped(bits: BitReader, chroma_format_idc: int, frame_mbs_only: bool) -> tuple[int, int]:
    """Pixels cut off in width and in height (7-18 to 7-22)."""
    if not bits.flag():  # frame_cropping_flag
        return 0, 0
    left, right, top, bottom = (bits.ue() for _ in range(4))
    unit_x = 2 if chroma_format_idc in (1, 2) else 1
    unit_y = (2 if chroma_format_idc == 1 else 1) * (1 if frame_mbs_only else 2)
    return (left + right) * unit_x, (top + bottom) * unit_y


def _declared_reorder_frames(bits: BitReader) -> int | None:
    """max_num_reorder_frames of the VUI (E.1.1), None where there is none or it cannot be read."""
    try:
        if not bits.flag():  # vui_parameters_present_flag
            return None
        if bits.flag() and bits.u(8) == _EXTENDED_SAR:  # aspect_ratio_info_present_flag
            bits.u(32)
        if bits.flag():  # overscan_info_present_flag
            bits.flag()
        if bits.flag():  # video_signal_type_present_flag
            bits.u(4)
            if bits.flag():  # colour_description_present_flag
                bits.u(24)
        if bits.flag():  # chroma_loc_info_present_flag
            bits.ue()
            bits.ue()
        if bits.flag():  # timing_info_present_flag
            bits.u(65)
        nal_hrd = bits.flag()
        if nal_hrd:
            _skip_hrd(bits)
        vcl_hrd = bits.flag()
        if vcl_hrd:
            _skip_hrd(bits)
        if nal_hrd or vcl_hrd:
            bits.flag()  # low_delay_hrd_flag
        bits.flag()  # pic_struct_present_flag
        if not bits.flag():  # bitstream_restriction_flag
            return None
        bits.flag()  # motion_vectors_over_pic_boundaries_flag
        for _ in range(4):  # bytes and bits a picture may take, ranges of motion vectors
            bits.ue()
        return bits.ue(_MAX_DPB_FRAMES)
    except ValueError:
        return None


def _skip_hrd(bits: BitReader) -> None:
    count = bits.ue(31) + 1
    bits.u(8)  # bit_rate_scale, cpb_size_scale
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.flag()
    bits.u(20)  # lengths of the delay fields and of time_offset
