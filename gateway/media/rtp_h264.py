"""H.264 in RTP payloads (RFC 6184): single NAL units, STAP-A and FU-A, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.media.decode_order import MAX_REORDER_SPAN
from gateway.media.frames import AccessUnit
from gateway.media.h264 import NalType, ParameterSets, has_idr
from gateway.media.rtp import RtpPacket

STAP_A, FU_A = 24, 28

MAX_ACCESS_UNIT = 2 << 20
"""Limit in bytes of one coded picture; a larger one is dropped."""
MAX_NALS = 512
"""Limit of NAL units of one coded picture."""


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


def _starts_picture(payload: bytes) -> bool:
    """Whether nothing that a decoder needs of this picture can have come before this payload.

    That is so for an access unit delimiter, a parameter set, and a slice whose first macroblock is the
    picture's first (first_mb_in_slice, the first bit after the NAL header, coded as a lone 1).
    """
    kind = payload[0] & 0x1F if payload else 0
    if kind == STAP_A and len(payload) > 4:
        return _starts_picture(payload[3:])
    if kind == FU_A and len(payload) > 2 and payload[1] & 0x80:
        return payload[1] & 0x1F in (NalType.SLICE, NalType.IDR) and payload[2] >= 0x80
    if kind in (NalType.SLICE, NalType.IDR):
        return len(payload) > 1 and payload[1] >= 0x80
    return kind in (NalType.AUD, NalType.SPS)


class Depacketizer:
    """Assembles access units from one sender's packets, which come in order.

    A picture with a hole is dropped whole, and with it what refers to it: nothing comes out until the
    next key frame, which `needs_key_frame` asks for. Access unit delimiters and filler are left out.
    Parameter sets are remembered in `parameter_sets` and put before a key frame that lacks them.
    """

    def __init__(self, parameter_sets: ParameterSets | None = None) -> None:
        self.parameter_sets = parameter_sets or ParameterSets()
        self.damaged = 0
        """Access units dropped because packets of them were missing or made no sense."""
        self.skipped = 0
        """Whole access units dropped because they followed a damaged one, up to the next key frame."""
        self.needs_key_frame = True
        self.b_frames = False
        """Whether pictures came in another order than they are shown in."""
        self._next_sequence: int | None = None
        self._pts: int | None = None
        self._nals: list[bytes] = []
        self._fragments: list[bytes] = []
        self._size = 0
        self._broken = False
        self._last_pts: int | None = None

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
        if hole:
            self.needs_key_frame = True
            if self._pts is None and packet.payload:
                self._broken = not _starts_picture(packet.payload)
                if expected is not None and not self._broken:
                    self.damaged += 1
        if not packet.payload:
            return done
        self._pts = pts
        self._add(packet.payload)
        if packet.marker:
            self._finish(done)
        return done

    def start_over(self) -> None:
        """Another sender's packets follow: forget what was gathered, and wait for a key frame."""
        self._next_sequence = self._pts = self._last_pts = None
        self._nals, self._fragments = [], []
        self._size, self._broken = 0, False
        self.needs_key_frame = True

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
        elif 0 < kind < STAP_A:
            self._keep(payload)
        else:
            self._broken = True

    def _add_fragment(self, payload: bytes) -> None:
        if len(payload) < 3:
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
            if end > size or end == at + 2:
                self._broken = True
                return
            self._keep(payload[at + 2 : end])
            at = end

    def _keep(self, nal: bytes) -> None:
        kind = nal[0] & 0x1F
        if kind in (NalType.AUD, NalType.FILLER):
            return
        self._nals.append(nal)

    def _finish(self, done: list[AccessUnit]) -> None:
        pts, nals = self._pts, self._nals
        broken = self._broken or bool(self._fragments)
        self._pts, self._nals, self._fragments = None, [], []
        self._size, self._broken = 0, False
        if broken:
            self.damaged += 1
            self.needs_key_frame = True
            return
        self.parameter_sets.observe(nals)
        if pts is None or not any(0 < nal[0] & 0x1F <= NalType.IDR for nal in nals):
            return
        key = has_idr(nals)
        if key and self.parameter_sets.complete:
            self.needs_key_frame = False
            nals = self.parameter_sets.ahead_of(nals)
        elif key or self.needs_key_frame:
            self.needs_key_frame = True
            self.skipped += 1
            return
        back = 0 if self._last_pts is None else self._last_pts - pts
        self.b_frames = self.b_frames or 0 < back < MAX_REORDER_SPAN
        self._last_pts = pts
        # RTP carries no decoding time: whoever needs one that lags works it out (DecodeOrder).
        done.append(AccessUnit(nals, pts, pts, key))
