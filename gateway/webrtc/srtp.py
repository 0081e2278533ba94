"""SRTP (RFC 3711) on libsrtp, in one buffer that all sessions share.

pylibsrtp's own way makes four objects and two copies a packet, more than the cryptography costs. Here a
picture's packets are protected in place, one after the other, as they go to the kernel.
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
"""Limit in bytes of a packet, more than any path's datagrams hold."""
MAX_TRAILER = 16 + 128
"""Limit in bytes of what SRTP adds (SRTP_MAX_TRAILER_LEN in libsrtp's srtp.h)."""
MAX_BURST = 96
"""Limit of packets that are protected together."""

_SPACE = ffi.new("char[]", MAX_BURST * (MAX_PACKET + MAX_TRAILER))
_BYTES = ffi.buffer(_SPACE)
_VIEW = memoryview(_BYTES)
_LENGTH = ffi.new("int *")


class SrtpSession(Session):
    """SRTP of one direction of one peer. Raises pylibsrtp.Error for packets that do not verify."""

    def protect_burst(self, packets: Sequence[Packet]) -> Burst:
        """Protect up to MAX_BURST RTP packets; the result is valid until the next call."""
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
