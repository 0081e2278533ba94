"""NAL units of an H.264 stream: their kinds, the Annex B byte stream, parameter sets kept for later.

Source: ITU-T H.264, 7.3 and 7.4 (syntax and meaning), Annex B (byte stream).
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import IntEnum

from gateway.allowance import Allowance
from gateway.media.sps import BitReader, Sps

START_CODE = b"\x00\x00\x00\x01"
SHORT_START_CODE = b"\x00\x00\x01"
SLICE_HEADER_BYTES = 16
"""Bytes of a slice that hold its header as far as it is read here."""
PPS_IDS_BYTES = 8
"""Bytes of a PPS that hold its id and that of its SPS: 26 bits at most, behind the header."""
MAX_SEI_MESSAGES = 8
"""Messages of one SEI NAL unit that are looked at."""
MAX_SEI_NUMBER = 4096
"""A type or a size above this is no live encoder's."""
_RECOVERY_POINT = 6


class NalType(IntEnum):
    """nal_unit_type (table 7-1), as far as the gateway tells them apart."""

    SLICE = 1
    IDR = 5
    SEI = 6
    SPS = 7
    PPS = 8
    AUD = 9
    FILLER = 12


def nal_type(nal: bytes) -> int:
    """The nal_unit_type of a NAL unit; 0 (unspecified) for an empty one."""
    return nal[0] & 0x1F if nal else 0


def has_idr(nals: Iterable[bytes]) -> bool:
    """Whether a decoder can start at the picture made of `nals`."""
    return any(nal_type(nal) == NalType.IDR for nal in nals)


def has_recovery_point(nals: Iterable[bytes]) -> bool:
    """Whether an SEI message among `nals` says that decoding may start here without an IDR (D.1.8)."""
    return any(nal_type(nal) == NalType.SEI and _RECOVERY_POINT in _sei_types(nal) for nal in nals)


def _sei_types(nal: bytes) -> list[int]:
    """The payloadType of each SEI message (7.3.2.3.1), of the first few."""
    types: list[int] = []
    at = 1
    with suppress(IndexError):
        while at < len(nal) - 1 and len(types) < MAX_SEI_MESSAGES:  # the last byte is trailing bits
            numbers = []
            for _ in ("type", "size"):
                number = 0
                while nal[at] == 0xFF and number < MAX_SEI_NUMBER:
                    number, at = number + 0xFF, at + 1
                numbers.append(number + nal[at])
                at += 1
            types.append(numbers[0])
            at += numbers[1]
    return types


def split_annex_b(data: bytes) -> list[bytes]:
    """The NAL units of a byte stream, without start codes and padding; what precedes the first is lost."""
    nals = []
    found = data.find(SHORT_START_CODE)
    while found >= 0:
        begin = found + 3
        found = data.find(SHORT_START_CODE, begin)
        # The last byte of a NAL unit is never zero (7.4.1), so zeros at its end are the byte stream's.
        nal = (data[begin:found] if found >= 0 else data[begin:]).rstrip(b"\x00")
        if nal:
            nals.append(nal)
    return nals


def join_annex_b(nals: Sequence[bytes]) -> bytes:
    """A byte stream of `nals`, each behind a start code of four bytes."""
    return START_CODE + START_CODE.join(nals) if nals else b""


class ParameterSets:
    """The SPS and PPS that a stream has shown so far, by their ids, newest wins.

    They come in band, or from an SDP's `sprop-parameter-sets` (RFC 6184, 8.1) given as `sprop`.
    """

    MAX_BYTES = 1024
    """A longer one is no parameter set that a live encoder makes; it is not remembered."""
    MAX_TOTAL_BYTES = 16 * 1024
    """Limit of all that are remembered: each key picture that lacks its own gets them."""
    MAX_CONTENTS = 64
    """SPS whose fields are kept, so that one which comes again is not read again."""
    READS_AT_ONCE = 8
    """SPS that are read at once; encoders have one or two, and a few more where they change their size."""
    READS_PER_SECOND = 8.0

    def __init__(
        self,
        sprop: str = "",
        clock: Callable[[], float] = time.monotonic,
        parse: Callable[[bytes], Sps] = Sps.parse,
    ) -> None:
        self._parse = parse
        self._contents: dict[bytes, Sps | None] = {}
        """What was read in each SPS; None where that failed."""
        self._reads = Allowance(self.READS_AT_ONCE, self.READS_PER_SECOND, clock)
        self._bytes = 0
        self._sps: dict[int, tuple[bytes, Sps]] = {}
        self._pps: dict[int, tuple[bytes, int]] = {}
        self._active: Sps | None = None
        self.observe(decode_sprop(sprop))

    @property
    def sps(self) -> Sps | None:
        """The SPS that the newest key picture refers to; before the first, any that has come."""
        if self._active is None and self._sps:
            return next(iter(self._sps.values()))[1]
        return self._active

    @property
    def complete(self) -> bool:
        """Whether a decoder could be started with what is remembered."""
        return bool(self._sps and self._pps)

    def observe(self, nals: Iterable[bytes]) -> bool:
        """Remember the parameter sets among a picture's `nals`.

        True when it is a key picture whose size in pixels is another than that of the former one.
        """
        for nal in nals:
            kind = nal_type(nal)
            if kind == NalType.SPS:
                self._remember_sps(nal)
            elif kind == NalType.PPS:
                self._remember_pps(nal)
            elif kind == NalType.IDR:
                return self._activate(nal)
        return False

    def ahead_of(self, nals: list[bytes]) -> list[bytes]:
        """The `nals` of a key picture, with the parameter sets that it lacks put before it."""
        kinds = [nal_type(nal) for nal in nals]
        has_sps, has_pps = NalType.SPS in kinds, NalType.PPS in kinds
        if has_sps and has_pps:
            return nals
        sps_nals = [] if has_sps else [nal for nal, _ in self._sps.values()]
        pps_nals = [] if has_pps else [nal for nal, _ in self._pps.values()]
        own = 1 + max(index for index, kind in enumerate(kinds) if kind == NalType.SPS) if has_sps else 0
        return [*nals[:own], *sps_nals, *pps_nals, *nals[own:]]

    def follows(self, before: bytes, nal: bytes) -> bool:
        """Whether no reference picture is missing between two pictures, by a slice of each (7.4.3)."""
        try:
            number, count = self._frame_num(before)
            return self._frame_num(nal)[0] == (number + bool(before[0] & 0x60)) % count
        except (ValueError, KeyError):
            return False

    def _frame_num(self, nal: bytes) -> tuple[int, int]:
        """frame_num of a slice, and how many values it has. Raises KeyError without its parameter sets."""
        bits = BitReader(nal[1:SLICE_HEADER_BYTES])
        sps = self._sps[self._slice_sps(bits)][1]
        if sps.separate_planes:
            bits.u(2)  # colour_plane_id
        return bits.u(sps.frame_num_bits), 1 << sps.frame_num_bits

    def _slice_sps(self, bits: BitReader) -> int:
        """Follow a slice header (7.3.3) to its SPS's id."""
        bits.ue()  # first_mb_in_slice
        bits.ue()  # slice_type
        return self._pps[bits.ue(255)][1]

    def _remember_sps(self, nal: bytes) -> None:
        sps = self._read_sps(nal)
        if sps is not None and self._has_room(self._sps.get(sps.id), nal):
            self._sps[sps.id] = (nal, sps)

    def _read_sps(self, nal: bytes) -> Sps | None:
        if nal in self._contents:
            return self._contents[nal]
        if len(nal) > self.MAX_BYTES or not self._reads.take():
            return None
        if len(self._contents) == self.MAX_CONTENTS:
            del self._contents[next(iter(self._contents))]
        self._contents[nal] = None
        with suppress(ValueError):
            self._contents[nal] = self._parse(nal)
        return self._contents[nal]

    def _has_room(self, former: tuple[bytes, object] | None, nal: bytes) -> bool:
        """Count a parameter set in place of the one with its id. False where all would be too much."""
        total = self._bytes + len(nal) - (len(former[0]) if former is not None else 0)
        if total > self.MAX_TOTAL_BYTES:
            return False
        self._bytes = total
        return True

    def _remember_pps(self, nal: bytes) -> None:
        if len(nal) > self.MAX_BYTES:
            return
        with suppress(ValueError):
            bits = BitReader(nal[1:PPS_IDS_BYTES])
            pps_id, sps_id = bits.ue(255), bits.ue(31)
            if self._has_room(self._pps.get(pps_id), nal):
                self._pps[pps_id] = (nal, sps_id)

    def _activate(self, idr: bytes) -> bool:
        """Take the SPS of an IDR slice; whether the picture's size changed with it."""
        with suppress(ValueError, KeyError):
            sps_id = self._slice_sps(BitReader(idr[1:SLICE_HEADER_BYTES]))
            before, self._active = self._active, self._sps[sps_id][1]
            return before is not None and before.size != self._active.size
        return False


def decode_sprop(sprop: str) -> list[bytes]:
    """The NAL units of an SDP's `sprop-parameter-sets` (base64, comma-separated) that are readable."""
    nals = []
    for text in filter(None, sprop.split(",")):
        try:
            nal = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        if nal:
            nals.append(nal)
    return nals
