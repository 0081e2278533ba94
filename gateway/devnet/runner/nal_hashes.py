"""Hashes of the NAL units that a runner received, for tests to compare with what was published."""

from __future__ import annotations

import hashlib
from collections import deque

REMEMBERED = 8192
"""Limit of hashes kept for a job, newest last."""
START_CODE = b"\x00\x00\x01"
VCL_TYPES = range(1, 6)
IDR = 5


def nal_units(annex_b: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream (ITU-T H.264, B.1), without start codes.

    A NAL unit never ends in a zero byte, so zeros before a start code belong to the stream.
    """
    return [nal for part in annex_b.split(START_CODE)[1:] if (nal := part.rstrip(b"\x00"))]


class NalHashes:
    """SHA-256 of each VCL NAL unit (types 1 to 5, header byte included), in the order of arrival."""

    def __init__(self) -> None:
        self.access_units = 0
        self._hashes: deque[str] = deque(maxlen=REMEMBERED)

    def record(self, access_unit: bytes) -> None:
        """Add the NAL units of one access unit."""
        self.access_units += 1
        for nal in nal_units(access_unit):
            if nal[0] & 0x1F in VCL_TYPES:
                self._hashes.append(hashlib.sha256(nal).hexdigest())

    def hashes(self) -> list[str]:
        return list(self._hashes)
