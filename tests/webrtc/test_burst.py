"""Bursts: what goes out in one call arrives as the datagrams it was made of."""

from __future__ import annotations

import random
import socket

import pytest

from gateway.webrtc.burst import MAX_SEGMENTS, Burst, runs, send_burst


def datagrams(*sizes: int) -> list[bytes]:
    chance = random.Random(1)
    return [chance.randbytes(size) for size in sizes]


def burst(datagrams: list[bytes]) -> Burst:
    return Burst(memoryview(b"".join(datagrams)), [len(datagram) for datagram in datagrams])


def receive(sock: socket.socket, count: int) -> list[bytes]:
    return [sock.recv(65_536) for _ in range(count)]


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    sender, receiver = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (sender, receiver):
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sender.setblocking(False)
    receiver.settimeout(5)
    return sender, receiver


def test_a_run_is_of_one_size_and_may_end_with_a_shorter_one() -> None:
    assert list(runs([30, 100, 100, 40, 100, 100, 120])) == [(0, 1), (1, 4), (4, 6), (6, 7)]
    assert list(runs([])) == []


def test_a_run_is_no_longer_than_the_kernel_takes() -> None:
    assert list(runs([10] * (MAX_SEGMENTS + 5))) == [(0, MAX_SEGMENTS), (MAX_SEGMENTS, 65)]
    for begin, end in runs([1400] * 200):
        assert (end - begin) * 1400 < 65_507


def test_a_burst_arrives_as_its_datagrams_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    with sender, receiver:
        sent = datagrams(30, *[1200] * 70, 700, 1100, 1100)
        assert send_burst(sender, burst(sent), receiver.getsockname()) == []
        assert receive(receiver, len(sent)) == sent


def test_what_the_path_does_not_take_as_one_is_left_to_the_transport(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = pair
    with sender, receiver:
        # more than any datagram has room for
        sent = datagrams(100, 70_000, 70_000)
        assert send_burst(sender, burst(sent), receiver.getsockname()) == sent[1:]
        assert receive(receiver, 1) == sent[:1]
