from __future__ import annotations

import asyncio
import socket
import time

import pytest

from gateway.webrtc.arrival import arrival_of_last
from harness.waiting import eventually


class Reader(asyncio.DatagramProtocol):
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.times: list[float] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.times.append(arrival_of_last(self.sock, time.monotonic()))


@pytest.mark.asyncio
async def test_each_datagram_has_the_time_at_which_it_came_however_late_the_loop_is() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        reader = Reader(sock)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: reader, sock=sock)
        sender.sendto(b"the first turns it on", sock.getsockname())
        await eventually(lambda: len(reader.times) == 1)
        sent = []
        for _ in range(5):
            sent.append(time.monotonic())
            sender.sendto(b"x", sock.getsockname())
            time.sleep(0.05)  # noqa: ASYNC251 (the loop is to be late)
        await eventually(lambda: len(reader.times) == 6)
        transport.close()
    for at, came in zip(sent, reader.times[1:], strict=True):
        assert abs(came - at) < 0.025
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        assert arrival_of_last(other, 5.0) == 5.0
