"""Many datagrams to one peer in one system call (UDP segmentation offload, in Linux since 4.18).

A picture is a dozen packets, all of one size but the last. Sent one by one, each costs a walk through the
kernel and wakes the reader up; sent as one piece that the kernel cuts, the picture does.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

UDP_SEGMENT = 103
"""The size of the pieces (linux/udp.h); Python's socket module has no name for it."""
MAX_SEGMENTS = 60
"""The kernel takes 64 of them, and as many bytes as one IP packet has room for."""
MAX_BYTES = 65_000

_SIZE = Struct("=H")


class Burst(NamedTuple):
    """Datagrams one after the other, in memory that is reused once they are sent."""

    data: memoryview
    sizes: list[int]


def runs(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Slices (first, end) that one call can send: datagrams of one size, the last may be shorter."""
    begin, count = 0, len(sizes)
    while begin < count:
        size = sizes[begin]
        most = min(count, begin + MAX_SEGMENTS, begin + max(1, MAX_BYTES // max(size, 1)))
        end = begin + 1
        while end < most and sizes[end] == size:
            end += 1
        if end < most and sizes[end] < size:
            end += 1
        yield begin, end
        begin = end


def send_burst(sock: socket.socket, burst: Burst, peer: tuple[str, int]) -> list[bytes]:
    """Send the datagrams in order. Returns those not sent: from the first refused one on.

    The caller sends them through the transport, which waits for a full socket and needs no offload.
    """
    data, sizes = burst
    at = 0
    for begin, end in runs(sizes):
        past = at + sum(sizes[begin:end])
        try:
            if end - begin == 1:
                sock.sendto(data[at:past], peer)
            else:
                size = _SIZE.pack(sizes[begin])
                sock.sendmsg((data[at:past],), [(socket.IPPROTO_UDP, UDP_SEGMENT, size)], 0, peer)
        except OSError:
            return split(data[at:], sizes[begin:])
        at = past
    return []


def split(data: memoryview, sizes: Sequence[int]) -> list[bytes]:
    """The datagrams as separate objects."""
    at, datagrams = 0, []
    for size in sizes:
        datagrams.append(bytes(data[at : at + size]))
        at += size
    return datagrams
