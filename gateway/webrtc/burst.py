"""Many datagrams to one peer in one system call (UDP segmentation offload, in Linux since 4.18).

A picture is a dozen packets, all of one size but the last. Sent one by one, each costs a walk through the
kernel and wakes the reader up; sent as one piece that the kernel cuts, the picture does.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from struct import Struct

UDP_SEGMENT = 103
"""The size of the pieces (linux/udp.h); Python's socket module has no name for it."""
MAX_SEGMENTS = 60
"""The kernel takes 64 of them, and as many bytes as one IP packet has room for."""
MAX_BYTES = 65_000

_SIZE = Struct("=H")


def runs(datagrams: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """The stretches (first, behind the last) that go as one: all of one size, the last may be shorter."""
    begin, count = 0, len(datagrams)
    while begin < count:
        size = len(datagrams[begin])
        most = min(count, begin + MAX_SEGMENTS, begin + max(1, MAX_BYTES // max(size, 1)))
        end = begin + 1
        while end < most and len(datagrams[end]) == size:
            end += 1
        if end < most and len(datagrams[end]) < size:
            end += 1
        yield begin, end
        begin = end


def send_burst(sock: socket.socket, datagrams: Sequence[bytes], peer: tuple[str, int]) -> int:
    """Send the datagrams in order up to the first that does not go this way; how many went.

    The rest is for the transport: it waits for a full socket, and needs no help of kernel, device or path.
    """
    sent = 0
    for begin, end in runs(datagrams):
        try:
            if end - begin == 1:
                sock.sendto(datagrams[begin], peer)
            else:
                size = _SIZE.pack(len(datagrams[begin]))
                sock.sendmsg(datagrams[begin:end], [(socket.IPPROTO_UDP, UDP_SEGMENT, size)], 0, peer)
        except OSError:
            break
        sent = end
    return sent
