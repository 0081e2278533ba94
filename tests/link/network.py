"""Lossy links in user space: network namespaces joined over TUN devices, everything on a link by a seed.

The program that uses them runs under `unshare -rn` (see `run_inside`). Its own namespace is the near side of
every link, at NEAR; each has a namespace of its own on its far side, which is reached over this link alone.
There is no other network in any of them: nothing can leave the machine.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NEAR = "10.99.0.1"
QUEUE_BYTES = 64_000
"""The queue of a slow link, in bytes; more is dropped."""

_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Conditions:
    """What the link does to each packet; may be changed while it runs."""

    loss: float = 0.0
    delay: float = 0.0
    """Seconds for every packet."""
    jitter: float = 0.0
    """Up to so many seconds more, for each packet by itself: they overtake each other."""
    bits_per_second: float = float("inf")
    cut: bool = False


@dataclass
class _Direction:
    conditions: Conditions
    chance: random.Random
    out: int
    free_at: float = 0.0
    waiting: list[tuple[float, int, bytes]] = field(default_factory=list)
    passed: int = 0
    dropped: int = 0

    def take(self, packet: bytes, now: float) -> None:
        conditions = self.conditions
        backlog = max(0.0, self.free_at - now)
        too_much = backlog * conditions.bits_per_second / 8 > QUEUE_BYTES if backlog else False
        if conditions.cut or too_much or self.chance.random() < conditions.loss:
            self.dropped += 1
            return
        self.free_at = max(now, self.free_at) + len(packet) * 8 / conditions.bits_per_second
        due = self.free_at + conditions.delay + self.chance.random() * conditions.jitter
        self.passed += 1
        heapq.heappush(self.waiting, (due, self.passed, packet))

    def give(self, now: float) -> None:
        while self.waiting and self.waiting[0][0] <= now:
            os.write(self.out, heapq.heappop(self.waiting)[2])


class Link:
    """The link while it is up: `conditions` may be changed, `far` runs programs on the far side."""

    def __init__(self, far_pid: int, seed: int, number: int) -> None:
        self.conditions = Conditions()
        near_address, self.far_address = f"10.99.{number}.1", f"10.99.{number}.2"
        self._far_pid = far_pid
        self._stop = threading.Event()
        near, far = _open_tun(f"near{number}"), _in_namespace(far_pid, "far")
        self._ways = {
            near: _Direction(self.conditions, random.Random(seed), out=far),
            far: _Direction(self.conditions, random.Random(seed + 1), out=near),
        }
        _configure([], f"near{number}", near_address)
        _configure(self.far(), "far", self.far_address)
        subprocess.run(self.far("ip", "route", "add", "default", "via", near_address), check=True)
        self._thread = threading.Thread(target=self._run, name="link")
        self._thread.start()

    def far(self, *command: str) -> list[str]:
        """`command` as run on the far side."""
        return ["nsenter", "-t", str(self._far_pid), "-n", "--preserve-credentials", "--", *command]

    @property
    def dropped(self) -> int:
        return sum(way.dropped for way in self._ways.values())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for device in self._ways:
            os.close(device)

    def _run(self) -> None:
        while not self._stop.is_set():
            now = time.monotonic()
            due = min((way.waiting[0][0] for way in self._ways.values() if way.waiting), default=now + 0.05)
            readable, _, _ = select.select(list(self._ways), [], [], max(0.0, due - now))
            now = time.monotonic()
            for device in readable:
                self._ways[device].take(os.read(device, 65536), now)
            for way in self._ways.values():
                way.give(now)


@contextmanager
def link(seed: int, number: int = 0) -> Iterator[Link]:
    """A link without faults, to begin with; one of each number, and number 0 is always there."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec sleep infinity"], stdout=-1)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        up = Link(holder.pid, seed, number)
        try:
            yield up
        finally:
            up.close()
    finally:
        holder.kill()
        holder.communicate()


def run_inside(module: str, *arguments: str, timeout: float) -> str:
    """Run a program in a namespace of its own; its output. It has to end with status 0."""
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def _open_tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
    return device


def _in_namespace(pid: int, name: str) -> int:
    """Open a TUN device in another process's network namespace: a thread may go there by itself."""
    opened: list[int] = []

    def visit() -> None:
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        opened.append(_open_tun(name))

    visitor = threading.Thread(target=visit)
    visitor.start()
    visitor.join()
    (device,) = opened
    return device


def _configure(prefix: list[str], name: str, address: str) -> None:
    for command in (
        ["link", "set", "lo", "up"],
        ["addr", "add", f"{address}/24", "dev", name],
        ["link", "set", name, "up", "mtu", "1500"],
    ):
        subprocess.run([*prefix, "ip", *command], check=True)
