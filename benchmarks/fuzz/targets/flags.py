"""Flags, one argument a line."""

from __future__ import annotations

from contextlib import suppress

from benchmarks.fuzz.target import Target
from gateway.flags import FlagError, HelpRequested
from gateway.settings import ALL_FLAGS, read_flags


def check(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").split("\n")
    # nothing of this machine's files is to be read
    argv = [line for line in lines if not line.lstrip().startswith(("/", "~", "."))]
    with suppress(FlagError, HelpRequested):
        read_flags(argv, {})


SEEDS = {
    "maxPricePerUnit": "0.001ETH",
    "orchAddr": "0x" + "1" * 40 + "@127.0.0.1:8935,https://o.example",
    "livePaymentInterval": "1m30s",
    "iceServers": "stun:stun.example:19302,turn:me:secret@turn.example?transport=tcp",
    "httpAddr": "[::1]:9935",
    "remoteSignerHeaders": "a:b,c:d",
    "maxSpendPerHour": "3.6ETH",
}

FLAGS = Target(
    "flags",
    check,
    limit=16 * 1024,
    seeds=[f"-{name}\n{value}".encode() for name, value in SEEDS.items()],
    words=[
        *(f"\n-{flag.name}\n".encode() for flag in ALL_FLAGS if flag.name != "config"),
        *(b"1" * 5000, b"1,", b"=", b"@", b"0x", b"[::1]", b"://"),
    ],
)
