"""H.264 in RTP payloads (RFC 6184): single NAL units, STAP-A and FU-A, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.media.decode_order import MAX_REORDER_SPAN
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit
from gateway.media.h264 import (
    SHORT_START_CODE,
    SLICE_HEADER_BYTES,
    NalType,
    ParameterSets,
    has_idr,
    has_recovery_point,
    split_annex_b,
)
from gateway.media.rtp import RtpPacket

STAP_A, FU_A = 24, 28

MAX_ACCESS_UNIT = 2 << 20
"""Limit in bytes of one coded picture; a larger one is dropped."""
MAX_NALS = 512
"""Limit of NAL units of one coded picture."""
MAX_GAP = 16
"""Missing packets between two pictures for which frame_num, which may count to 16 only, proves nothing."""
IDR_LATE = 4 * TICKS_PER_SECOND
"""Ticks without an IDR, though asked for, after which a recovery point counts as a key frame."""
GO_ON_AFTER = 10 * TICKS_PER_SECOND
"""Ticks after which pictures go on though no key frame has followed a loss."""

_FIRST_SLICE = 0x80
"""first_mb_in_slice is 0, coded as a lone 1, the first bit after the NAL header."""
_SLICES = range(NalType.SLICE, NalType.IDR + 1)


def packetize(nals: Sequence[bytes], max_payload: int = 1180) -> list[bytes]:
    """RTP payloads for the NAL units of one access unit; the last is the one that takes the marker.

    Neighbours that fit are put together (STAP-A), what is larger than `max_payload` bytes is cut (FU-A).
    """
    payloads: list[bytes] = []
    together: list[bytes] = []
    size = 1
    for nal in nals:
        if together and size + 2 + len(nal) > max_payload:
            payloads.append(_aggregate(together))
            together, size = [], 1
        if len(nal) > max_payload:
            payloads += _fragment(nal, max_payload)
        elif nal:
            together.append(nal)
            size += 2 + len(nal)
    if together:
        payloads.append(_aggregate(together))
    return payloads


def _aggregate(nals: list[bytes]) -> bytes:
    if len(nals) == 1:
        return nals[0]
    forbidden = max(nal[0] & 0x80 for nal in nals)
    importance = max(nal[0] & 0x60 for nal in nals)
    parts = [bytes([forbidden | importance | STAP_A])]
    for nal in nals:
        parts += (len(nal).to_bytes(2, "big"), nal)
    return b"".join(parts)


def _fragment(nal: bytes, max_payload: int) -> Iterator[bytes]:
    indicator = nal[0] & 0xE0 | FU_A
    kind = nal[0] & 0x1F
    room = max_payload - 2
    body = len(nal) - 1
    count = -(-body // room)
    # Equal pieces: a short last packet costs as much as a full one.
    piece = -(-body // count)
    for start in range(1, len(nal), piece):
        end = start + piece
        first = 0x80 if start == 1 else 0
        last = 0x40 if end >= len(nal) else 0
        yield bytes([indicator, first | last | kind]) + nal[start:end]


def unpacketize(payloads: Sequence[bytes]) -> list[bytes]:
    """The NAL units that `packetize` made these payloads of, without empty ones."""
    nals: list[bytes] = []
    fragments: list[bytes] = []
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == STAP_A:
            at = 1
            while at < len(payload):
                begin = at + 2
                at = begin + int.from_bytes(payload[at:begin], "big")
                nals.append(payload[begin:at])
        elif kind != FU_A:
            nals.append(payload)
        else:
            if payload[1] & 0x80:
                fragments = [bytes([payload[0] & 0xE0 | payload[1] & 0x1F])]
            fragments.append(payload[2:])
            if payload[1] & 0x40:
                nals.append(b"".join(fragments))
    return nals


def _first_nal(payload: bytes) -> tuple[int, int]:
    """Type and first byte after the header of the NAL unit that a payload begins with; type 0 for none."""
    kind, head = payload[0] & 0x1F, payload[:8]
    if kind == STAP_A:
        head = payload[3:11]
    elif kind == FU_A:
        begins = len(payload) > 2 and payload[1] & 0x80
        head = bytes([payload[1] & 0x1F]) + payload[2:9] if begins else b""
    if head.startswith(b"\x00\x00"):
        head = head.lstrip(b"\x00")[1:]
    return (head[0] & 0x1F, head[1]) if len(head) > 1 else (0, 0)


def _means_nothing(payload: bytes) -> bool:
    """Whether nothing is defined for a payload of this type, which is to be ignored (RFC 6184, 5.2)."""
    kind = payload[0] & 0x1F if payload else 0
    return kind in (30, 31) or (kind == 0 and not payload.startswith(b"\x00\x00"))


class Depacketizer:
    """Assembles access units from one sender's packets, which come in order.

    A picture with a hole is dropped whole, and with it what refers to it: nothing comes out until the
    next key frame, which `needs_key_frame` asks for. An encoder that refreshes its pictures part by part
    sends no IDR after its first: its recovery points are its key frames, where decoders start without IDRs,
    and after a loss pictures go on at one, or else after some seconds. Access unit delimiters and filler
    are left out. Parameter sets are remembered in `parameter_sets` and put before a key frame that
    lacks them.
    """

    def __init__(self, parameter_sets: ParameterSets | None = None) -> None:
        self.parameter_sets = parameter_sets or ParameterSets()
        self.damaged = 0
        """Access units dropped because packets of them were missing or made no sense."""
        self.skipped = 0
        """Whole access units dropped because they followed a damaged one, up to the next key frame."""
        self.needs_key_frame = True
        self.without_key_frame = False
        """Whether pictures go on after a loss that no key frame has followed."""
        self.b_frames = False
        """Whether pictures came in another order than they are shown in."""
        self._next_sequence: int | None = None
        self._pts: int | None = None
        self._nals: list[bytes] = []
        self._fragments: list[bytes] = []
        self._size = 0
        self._broken = False
        self._gap = 0
        """Packets that are missing between the former picture and this one."""
        self._marker_ends_picture = True
        """False for a sender that marks every NAL unit."""
        self._marked_early = False
        """Whether the first picture had a marker before its first slice, or at its only NAL unit so far."""
        self._last_pts: int | None = None
        self._last_idr: int | None = None
        self._last_slice = b""
        self._ended_pts: int | None = None

    def push(self, packet: RtpPacket, pts: int) -> list[AccessUnit]:
        """Take the next packet; `pts` is its timestamp, unwrapped, in 90 kHz ticks.

        Gives back the access units that it completes: none, one, or two where the former one's marker was
        missing.
        """
        done: list[AccessUnit] = []
        expected, self._next_sequence = self._next_sequence, packet.sequence + 1
        hole = packet.sequence != expected
        if self._pts is not None:
            self._broken = self._broken or hole
            if pts != self._pts:
                self._finish(done)
        if hole and self._pts is None:
            self._gap += MAX_GAP if expected is None else packet.sequence - expected
        if _means_nothing(packet.payload):
            return done
        if self._pts is None:
            self._begin(packet.payload, pts)
        elif self._marked_early or not self._marker_ends_picture:
            self._look_at_slice(packet.payload, done)
        self._pts = pts
        self._add(packet.payload)
        if packet.marker:
            self._take_marker(done)
        return done

    def start_over(self) -> None:
        """Another sender's packets follow: forget what was gathered, and wait for a key frame."""
        self._next_sequence = self._pts = self._last_pts = self._last_idr = self._ended_pts = None
        self._nals, self._fragments = [], []
        self._size, self._gap, self._broken = 0, 0, False
        self._marker_ends_picture, self._marked_early = True, False
        self.needs_key_frame = True

    def _look_at_slice(self, payload: bytes, done: list[AccessUnit]) -> None:
        """Tell by a slice whether markers end pictures; where they do not, the next first slice does."""
        kind, slice_data = _first_nal(payload)
        if kind not in _SLICES or not self._has_slice():
            return
        if slice_data < _FIRST_SLICE:
            self._marker_ends_picture = False
        elif not self._marker_ends_picture:
            self._finish(done)

    def _begin(self, payload: bytes, pts: int) -> None:
        """Judge by its first NAL unit whether a picture may be whole."""
        kind, slice_data = _first_nal(payload)
        if kind in _SLICES:
            starts = slice_data >= _FIRST_SLICE
        else:
            complete = self.parameter_sets.complete and kind in (NalType.SEI, NalType.PPS)
            starts = complete or kind in (NalType.AUD, NalType.SPS)
        if self._gap:
            self._broken = not starts
        elif kind in _SLICES and not starts and pts == self._ended_pts:
            self._marker_ends_picture = False
            self._broken = True
        self.needs_key_frame = self.needs_key_frame or self._broken

    def _take_marker(self, done: list[AccessUnit]) -> None:
        if self._last_pts is None and not self._broken and (len(self._nals) == 1 or not self._has_slice()):
            # Whether this sender marks every NAL unit shows by what follows in the first picture.
            self._marked_early = True
        elif self._marker_ends_picture and not self._marked_early:
            self._finish(done)

    def _has_slice(self) -> bool:
        return any(nal[0] & 0x1F in _SLICES for nal in self._nals)

    def _add(self, payload: bytes) -> None:
        self._size += len(payload)
        if self._size > MAX_ACCESS_UNIT or len(self._nals) > MAX_NALS:
            self._broken = True
        if self._broken:
            self._nals.clear()
            self._fragments.clear()
            return
        kind = payload[0] & 0x1F
        if kind == FU_A:
            self._add_fragment(payload)
        elif self._fragments:
            self._broken = True
        elif kind == STAP_A:
            self._add_aggregate(payload)
        elif kind < STAP_A:
            self._keep(payload)
        else:
            self._broken = True

    def _add_fragment(self, payload: bytes) -> None:
        if len(payload) < 2:
            self._broken = True
            return
        head = payload[1]
        if head & 0x80:
            if self._fragments:
                self._broken = True
            self._fragments = [bytes([payload[0] & 0xE0 | head & 0x1F]), payload[2:]]
        elif self._fragments:
            self._fragments.append(payload[2:])
        else:
            self._broken = True
            return
        if head & 0x40:
            self._keep(b"".join(self._fragments))
            self._fragments = []

    def _add_aggregate(self, payload: bytes) -> None:
        at, size = 1, len(payload)
        while at < size:
            end = at + 2 + int.from_bytes(payload[at : at + 2], "big")
            if end == at + 2:
                return  # zeros behind the last unit
            if end > size:
                self._broken = True
                return
            self._keep(payload[at + 2 : end])
            at = end

    def _keep(self, nal: bytes) -> None:
        if SHORT_START_CODE in nal:  # of a byte stream that was not split
            if nal.count(SHORT_START_CODE) > MAX_NALS:
                self._broken = True
                return
            parts = split_annex_b(SHORT_START_CODE + nal)
        else:
            parts = [nal]
        self._nals += [part for part in parts if part[0] & 0x1F not in (0, NalType.AUD, NalType.FILLER)]

    def _finish(self, done: list[AccessUnit]) -> None:
        pts, nals = self._pts, self._nals
        broken = self._broken or bool(self._fragments)
        self._pts, self._nals, self._fragments = None, [], []
        self._size, self._broken, self._marked_early = 0, False, False
        self._ended_pts = pts
        if broken:
            self._gap = 0
            self.damaged += 1
            self.needs_key_frame = True
            return
        self.parameter_sets.observe(nals)
        first_slice = next((nal for nal in nals if nal[0] & 0x1F in _SLICES), None)
        if pts is None or first_slice is None:
            return
        idr = has_idr(nals)
        if self._gap and (idr or not self._only_padding_is_missing(first_slice)):
            self.damaged += bool(self._last_slice)
            self.needs_key_frame = True
        self._gap, self._last_slice = 0, first_slice[:SLICE_HEADER_BYTES]
        key = self.parameter_sets.complete and (idr or self._starts_without_idr(nals, pts))
        if key:
            self.without_key_frame = not idr and (self.needs_key_frame or self.without_key_frame)
            self.needs_key_frame = False
            self._last_idr = pts if idr else self._last_idr
            nals = self.parameter_sets.ahead_of(nals)
        elif not idr and self.needs_key_frame and self._may_go_on(nals, pts):
            self.needs_key_frame, self.without_key_frame = False, True
        elif idr or self.needs_key_frame:
            self.needs_key_frame = True
            self.skipped += 1
            return
        back = 0 if self._last_pts is None else self._last_pts - pts
        self.b_frames = self.b_frames or 0 < back < MAX_REORDER_SPAN
        self._last_pts = pts
        # RTP carries no decoding time: whoever needs one that lags works it out (DecodeOrder).
        done.append(AccessUnit(nals, pts, pts, key))

    def _only_padding_is_missing(self, first_slice: bytes) -> bool:
        return self._gap < MAX_GAP and self.parameter_sets.follows(self._last_slice, first_slice)

    def _starts_without_idr(self, nals: list[bytes], pts: int) -> bool:
        """Whether a decoder may start here, as no IDR came for long, or none at all."""
        late = self._last_idr is None or abs(pts - self._last_idr) > IDR_LATE
        return late and has_recovery_point(nals)

    def _may_go_on(self, nals: list[bytes], pts: int) -> bool:
        """Whether a picture after a loss may be shown though it is no key frame."""
        if self._last_pts is None:
            return False
        return has_recovery_point(nals) or pts - self._last_pts > GO_ON_AFTER
