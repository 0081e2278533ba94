"""Which hosts a stranger's outputs may go to."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from gateway.outputs.hosts import MAX_WAITING, HostRules, TooManyNames, system_addresses
from gateway.outputs.target import BadTarget, parse_target

NAMES = {
    "out.example": ["203.0.113.9", "2606:4700::1"],
    "in.example": ["10.0.0.1"],
    "both.example": ["1.1.1.1", "::1"],
}


async def resolve(host: str) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("unknown")
    return NAMES[host]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "host",
    [
        "in.example",
        "both.example",
        "nowhere.example",
        "127.1",
        "localhost",
        "[::1]",
        "169.254.169.254",
        "[::ffff:10.0.0.1]",
    ],
)
async def test_a_host_inside_is_refused(host: str) -> None:
    with pytest.raises(BadTarget):
        await HostRules(resolve=resolve).address_of(parse_target(f"rtmp://{host}/live/key"))


@pytest.mark.asyncio
async def test_a_public_name_is_reached_at_the_address_that_was_checked() -> None:
    NAMES["out.example"] = ["1.1.1.1"]
    assert await HostRules(resolve=resolve).address_of(parse_target("rtmp://OUT.example/a/b")) == "1.1.1.1"


@pytest.mark.asyncio
async def test_patterns_allow_what_they_name_and_nothing_else() -> None:
    rules = HostRules(["*.in.example", "localhost"], resolve)
    assert await rules.address_of(parse_target("rtmp://LOCALHOST/live/key")) is None
    assert await rules.address_of(parse_target("srt://a.in.example:9000")) is None
    with pytest.raises(BadTarget, match="outputHosts"):
        await rules.address_of(parse_target("rtmp://out.example/live/key"))


@pytest.mark.asyncio
async def test_names_that_take_long_are_bounded_and_hold_up_nobody_elses() -> None:
    release = asyncio.Event()

    async def slow(host: str) -> Sequence[str]:
        await release.wait()
        return ["1.1.1.1"]

    rules = HostRules(resolve=slow)
    target = parse_target("rtmp://slow.example/a/b")
    waiting = asyncio.gather(*(rules.address_of(target) for _ in range(MAX_WAITING)))
    await asyncio.sleep(0)
    with pytest.raises(TooManyNames):
        await rules.address_of(target)
    assert await rules.address_of(parse_target("rtmp://1.1.1.1/a/b")) == "1.1.1.1"
    release.set()
    assert await waiting == ["1.1.1.1"] * MAX_WAITING
    assert await rules.address_of(target) == "1.1.1.1"


@pytest.mark.asyncio
async def test_names_are_looked_up_in_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def look(*_: object, **__: object) -> list[tuple[object, ...]]:
        threads.append(threading.current_thread().name)
        return [(None, None, None, "", ("::1", 0)), (None, None, None, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look)
    assert await system_addresses("some.example") == ["127.0.0.1", "::1"]
    assert threads[0].startswith("output-names")
