"""SRTP (RFC 3711) on libsrtp, in one buffer that all sessions share.

pylibsrtp's own way makes four objects and two copies a packet, more than the cryptography costs. Here a
picture's packets are protected where they lie, one behind the other, as they go to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylibsrtp import ERRORS, Error, Session
from pylibsrtp._binding import ffi, lib
from typing_extensions import override

from gateway.webrtc.burst import Burst

Packet = tuple[bytes, bytes]
"""An RTP packet's header, and its payload, which many viewers' packets share."""

MAX_PACKET = 2048
"""Bytes of a packet at most: more than fits a datagram on any path with room for SRTP's trailer."""
MAX_TRAILER = 16 + 128
"""Bytes that protecting adds at most (SRTP_MAX_TRAILER_LEN in libsrtp's srtp.h)."""
MAX_BURST = 96
"""Packets that are protected together at most."""

_SPACE = ffi.new("char[]", MAX_BURST * (MAX_PACKET + MAX_TRAILER))
_BYTES = ffi.buffer(_SPACE)
_VIEW = memoryview(_BYTES)
_LENGTH = ffi.new("int *")


class SrtpSession(Session):
    """One direction of one peer. Raises pylibsrtp.Error for what SRTP does not take."""

    def protect_burst(self, packets: Sequence[Packet]) -> Burst:
        """Protect up to MAX_BURST RTP packets; they are there until the next are."""
        if len(packets) > MAX_BURST:
            raise ValueError(f"{len(packets)} packets are more than the {MAX_BURST} of a burst")
        session, at = self._srtp[0], 0
        sizes: list[int] = []
        for header, payload in packets:
            size = len(header) + len(payload)
            if size > MAX_PACKET:
                raise ValueError(f"a packet of {size} bytes is too long for RTP over UDP")
            _BYTES[at : at + size] = header + payload
            _LENGTH[0] = size
            if status := lib.srtp_protect(session, _SPACE + at, _LENGTH):
                raise Error(ERRORS[status])
            size = _LENGTH[0]
            sizes.append(size)
            at += size
        return Burst(_VIEW[:at], sizes)

    @override
    def unprotect(self, packet: bytes) -> bytes:
        """The RTP packet in a datagram."""
        size = len(packet)
        if size > MAX_PACKET:
            raise ValueError(f"a packet of {size} bytes is too long for RTP over UDP")
        _BYTES[0:size] = packet
        _LENGTH[0] = size
        if status := lib.srtp_unprotect(self._srtp[0], _SPACE, _LENGTH):
            raise Error(ERRORS[status])
        plain: bytes = _BYTES[0 : _LENGTH[0]]
        return plain
