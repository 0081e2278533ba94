from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.ice_settings import ADDRESSES, IceSettings
from gateway.webrtc.public_addresses import MAX_ADDRESSES, PublicAddresses


class Resolver:
    def __init__(self, *answers: Sequence[str] | OSError) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        answer = self._answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.mark.asyncio
async def test_a_name_follows_what_it_is_looked_up_to_and_keeps_that_over_failures() -> None:
    resolver = Resolver(["203.0.113.7"], OSError("no network"), ["203.0.113.8", "203.0.113.8", "fe80::1%1"])
    public = PublicAddresses(("192.0.2.1", "gateway.example"), look_up=resolver)
    config = WebRtcConfig(ice=IceSettings(public_ips=("192.0.2.1", "gateway.example")), public=public)
    assert config.public_ips == ("192.0.2.1",)
    await public.refresh()
    assert config.public_ips == ("192.0.2.1", "203.0.113.7")
    await public.refresh()
    assert config.public_ips == ("192.0.2.1", "203.0.113.7")
    await public.refresh()
    assert config.public_ips == ("192.0.2.1", "203.0.113.8")
    assert resolver.asked == ["gateway.example"] * 3


@pytest.mark.asyncio
async def test_a_name_with_countless_addresses_has_some_of_them() -> None:
    public = PublicAddresses(("many.example",), look_up=Resolver([f"192.0.2.{at}" for at in range(200)]))
    await public.refresh()
    assert len(public.now) == MAX_ADDRESSES


def test_addresses_and_names_are_told_apart() -> None:
    assert ADDRESSES.parse("192.0.2.1, 2001:DB8::1,Home.Example.org") == (
        "192.0.2.1",
        "2001:db8::1",
        "home.example.org",
    )
    assert PublicAddresses(("192.0.2.1", "2001:db8::1")).names == 0
    for wrong in ("300.1.1.1", "nonsense", "a..b", "-a.example", "a_b.example", "1.2.3"):
        with pytest.raises(ValueError):
            ADDRESSES.parse(wrong)
