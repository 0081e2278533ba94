"""NAL units of pictures: parameter sets, slices and SEI messages."""

from __future__ import annotations

from contextlib import suppress

from benchmarks.fuzz.target import Target
from gateway.media.frames import AccessUnit
from gateway.media.h264 import ParameterSets, has_idr, has_recovery_point, split_annex_b
from gateway.media.segmenter import Segmenter
from gateway.media.sps import Sps


class Sink:
    """A segment that takes everything."""

    def write(self, data: bytes) -> bool:
        return True

    def close(self) -> None: ...


def check(data: bytes) -> None:
    sets, segmenter = ParameterSets(), Segmenter(Sink)
    for number, picture in enumerate(data.split(b"\0\0\1\x09")[:100]):
        nals = split_annex_b(b"\0\0\1" + picture)[:256]
        for nal in nals[:4]:
            with suppress(ValueError):
                Sps.parse(nal)
        if not nals:
            continue
        sets.observe(nals)
        has_recovery_point(nals)
        if has_idr(nals):
            nals = sets.ahead_of(nals)
        segmenter.push(AccessUnit(nals, 3000 * number, 3000 * number, has_idr(nals)))


SPS, PPS = bytes.fromhex("6742e01fda014016e8"), bytes.fromhex("68ce3c80")
HIGH = bytes.fromhex("6764001facd9405005bb011000000300100000030300f18319a0")

H264 = Target(
    "h264",
    check,
    limit=256 * 1024,
    seeds=[
        b"\0\0\1".join([SPS, PPS, b"\x65\x88\x84" + bytes(range(1, 200)), b"\x09\xf0", b"\x41\x9a\x24\x6c"]),
        b"\0\0\1".join([HIGH, PPS, b"\x06\x06\x01\xc4\x80", b"\x65\x88\x84\x21"]),
    ],
    words=[SPS, HIGH, PPS, b"\0\0\1", b"\0\0\1\x09\xf0", b"\0\0\1\x65\x88", b"\0\0\1\x67", b"\0\0\3\0"],
)
