"""Findings on this machine: its limits, its disk, its clock, the addresses that the gateway listens on."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import socket
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import aiohttp

from gateway.doctor.finding import Finding, Level
from gateway.http.server import ALL, is_without_ipv6
from gateway.webrtc.ice_settings import IceSettings
from gateway.webrtc.udp import NoFreePort, local_addresses
from gateway.webrtc.udp_mux import UdpMux

DESCRIPTORS_A_STREAM = 32
"""File descriptors that a stream with its job, its peer and some viewers takes."""
FEW_DESCRIPTORS = 4096
LITTLE_DISK = 1 << 30
"""Bytes: two months of one stream's payments, and room for the database's own files."""
MAX_CLOCK_ERROR = 2.0
"""Seconds: HTTP tells whole ones. Tickets' and tokens' lives have minutes to spare, log lines do not."""
TIMEOUT = 3.0


def descriptors() -> Finding:
    """How many file descriptors the process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return Finding("descriptors", Level.OK, "no limit")
    detail = f"{limit} files at once: enough for about {limit // DESCRIPTORS_A_STREAM} streams"
    if limit >= FEW_DESCRIPTORS:
        return Finding("descriptors", Level.OK, detail, figures={"limit": limit})
    advice = f"raise it to {FEW_DESCRIPTORS} or more: LimitNOFILE= of systemd, ulimit -n, --ulimit of docker"
    return Finding("descriptors", Level.WARNING, detail, advice, figures={"limit": limit})


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def disk(folder: Path, free_bytes: Callable[[Path], int] = free_bytes) -> Finding:
    """Whether the data directory can be written, and how much room it has."""
    if not os.access(folder, os.W_OK):
        advice = "give its owner the right to write there, or choose another -dataDir"
        return Finding("disk", Level.FAULT, f"{folder} cannot be written", advice)
    free = free_bytes(folder)
    detail = f"{free / (1 << 30):.1f} GiB are free in {folder}"
    if free >= LITTLE_DISK:
        return Finding("disk", Level.OK, detail, figures={"free_bytes": free})
    advice = "make room: a ledger that cannot be written stops all payments"
    return Finding("disk", Level.WARNING, detail, advice, figures={"free_bytes": free})


async def clock(
    http: aiohttp.ClientSession, url: str, *, name: str, now: Callable[[], float] = time.time
) -> Finding | None:
    """This machine's clock against that of a server's Date header; None where it sends none."""
    try:
        before = now()
        async with asyncio.timeout(TIMEOUT), http.get(url, allow_redirects=False) as response:
            sent = response.headers.get("Date")
        date = None if sent is None else parsedate_to_datetime(sent).timestamp()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    if date is None:
        return None
    # the header has whole seconds: the server's time was between it and a second later, during the request
    ahead = max(before - (date + 1), 0.0) or min(now() - date, 0.0)
    figures = {"ahead_s": round(ahead, 1)}
    if abs(ahead) <= MAX_CLOCK_ERROR:
        return Finding("clock", Level.OK, f"agrees with {name}'s to a second or two", figures=figures)
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {name}'s"
    advice = "have both machines set their clocks by NTP: tokens and tickets expire by them"
    return Finding("clock", Level.WARNING, detail, advice, figures=figures)


def listen(host: str, port: int) -> None:
    """Listen for a moment. Raises OSError."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((host, port))
        one.listen(1)


def listener(flag: str, address: tuple[str, int], listen: Callable[[str, int], None] = listen) -> Finding:
    """Whether a server can listen there: for `::` on IPv4, and on IPv6 where the machine has it."""
    host, port = address
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        listen("0.0.0.0" if host == ALL else host, port)
    except OSError as error:
        return _not_bound(flag, shown, error)
    if host == ALL:
        try:
            listen(ALL, port)
        except OSError as error:
            if not is_without_ipv6(error):
                return _not_bound(flag, shown, error)
    return Finding("listens", Level.OK, f"{shown} is free", name=f"-{flag}")


async def media_port(ice: IceSettings) -> Finding | None:
    """Whether the one port of all peers can be had; None where each peer gets its own."""
    if ice.mux_port is None:
        return None
    try:
        mux = await UdpMux.open(partial(local_addresses, ice.interfaces), ice.mux_port)
    except OSError as error:
        return _not_bound("iceUdpMuxPort", f"UDP port {ice.mux_port}", error)
    mux.close()
    return Finding("listens", Level.OK, f"UDP port {ice.mux_port} is free", name="-iceUdpMuxPort")


def _not_bound(flag: str, what: str, error: OSError) -> Finding:
    if isinstance(error, NoFreePort) or error.errno == errno.EADDRINUSE:
        advice = "nothing to do where a gateway runs there now; else free it, or choose another"
        return Finding("listens", Level.WARNING, f"{what} is in use", advice, name=f"-{flag}")
    detail = f"{what} cannot be used: {error.strerror or error}"
    return Finding("listens", Level.FAULT, detail, "choose an address of this machine", name=f"-{flag}")
