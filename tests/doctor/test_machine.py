"""What the doctor says of this machine."""

from __future__ import annotations

import errno
import socket
from email.utils import formatdate
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.doctor.finding import Level
from gateway.doctor.machine import clock, descriptors, disk, listener, media_port
from gateway.webrtc.ice_settings import IceSettings
from harness.serving import serving

NOW = 1_800_000_000.0


def test_descriptors_are_counted_in_streams() -> None:
    assert "files at once" in descriptors().detail or descriptors().detail == "no limit"


def test_a_full_disk_is_a_warning(tmp_path: Path) -> None:
    assert disk(tmp_path, lambda _: 1 << 20).level is Level.WARNING
    assert disk(tmp_path, lambda _: 1 << 40).level is Level.OK


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [(0.4, Level.OK, "agrees"), (9.0, Level.WARNING, "8 s ahead of"), (-9.0, Level.WARNING, "9 s behind")],
)
@pytest.mark.asyncio
async def test_the_clock_is_held_against_a_server(ahead: float, level: Level, words: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(headers={"Date": formatdate(NOW, usegmt=True)})

    async with serving(web.get("/", answer)) as url, aiohttp.ClientSession() as http:
        found = await clock(http, url, name="the signer", now=lambda: NOW + ahead)
    assert found is not None
    assert found.level is level
    assert words in found.detail


@pytest.mark.asyncio
async def test_a_server_that_is_away_tells_nothing_of_the_clock() -> None:
    async with aiohttp.ClientSession() as http:
        assert await clock(http, "http://127.0.0.1:9/", name="the signer") is None


def test_an_address_that_is_in_use_is_a_warning_and_a_foreign_one_a_fault() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(1)
        assert listener("httpAddr", one.getsockname()).level is Level.WARNING
    assert listener("httpAddr", ("127.0.0.1", 0)).level is Level.OK
    assert listener("httpAddr", ("192.0.2.77", 80)).level is Level.FAULT


@pytest.mark.parametrize(
    ("failure", "level"),
    [(errno.EAFNOSUPPORT, Level.OK), (errno.EADDRNOTAVAIL, Level.OK), (errno.EACCES, Level.FAULT)],
)
def test_all_addresses_are_ipv4s_where_the_machine_has_no_ipv6(failure: int, level: Level) -> None:
    tried: list[str] = []

    def listen(host: str, port: int) -> None:
        tried.append(host)
        if ":" in host:
            raise OSError(failure, "as the kernel says")

    assert listener("httpAddr", ("::", 80), listen).level is level
    assert tried == ["0.0.0.0", "::"]


@pytest.mark.asyncio
async def test_the_media_port_is_tried() -> None:
    assert await media_port(IceSettings()) is None
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        taken = await media_port(IceSettings(interfaces=("127.0.0.1",), mux_port=port))
    free = await media_port(IceSettings(interfaces=("127.0.0.1",), mux_port=port))
    assert taken is not None
    assert free is not None
    assert (taken.level, free.level) == (Level.WARNING, Level.OK)
