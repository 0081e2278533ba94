"""Which hosts a stranger's outputs may go to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.outputs.hosts import HostRules
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
