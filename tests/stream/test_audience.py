"""Viewers come before their publisher and leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.media.fanout import Fanout
from gateway.media.frames import AccessUnit
from gateway.stream.admission import Admission, NotAdmitted
from gateway.stream.audience import Audience
from gateway.stream.quotas import Claim, LimitReached, Quotas
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import OfferRefused
from harness.waiting import eventually
from tests.webrtc.loopback import aiortc_client, coded_pictures, nals_of, offer_of, take_answer

BROWSER = (
    Path(__file__).parents[1] / "data" / "offers" / "chromium-recvonly-hidden-addresses.sdp"
).read_text()
ADDRESS = [Claim("-maxViewersPerAddress", 1, "here")]


class Published:
    """An audience, the names that are published, and those whose publishers were asked for a key frame."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.asked: list[str] = []
        self.quotas = Quotas()
        self.overloaded = False
        self.audience = Audience(
            WebRtcConfig(),
            self.quotas,
            Admission(lambda: self.overloaded),
            is_live=self.names.__contains__,
            request_key_frame=self.asked.append,
        )


class OtherNodes:
    """What an audience asks of other nodes."""

    def __init__(self) -> None:
        self.shared: dict[str, Fanout] = {}
        self.watched: dict[str, int] = {}
        self.outputs: list[Fanout] = []
        self.asked: list[str] = []

    def began(self, name: str, output: Fanout) -> None:
        self.shared[name] = output

    def ended(self, name: str) -> None:
        del self.shared[name]

    async def watch(self, name: str, output: Fanout) -> None:
        self.watched[name] = self.watched.get(name, 0) + 1
        self.outputs.append(output)

    def unwatch(self, name: str) -> None:
        self.watched[name] -= 1

    def watches(self, name: str) -> bool:
        return self.watched.get(name, 0) > 0

    def viewers_of(self, name: str) -> int:
        return 7 if name in self.shared else 0

    def request_key_frame(self, name: str) -> None:
        self.asked.append(name)


@asynccontextmanager
async def watching(audience: Audience, name: str, viewer_id: str = "v") -> AsyncIterator[None]:
    """A viewer that is connected."""
    client = aiortc_client()
    client.addTransceiver("video", direction="recvonly")
    before = audience.viewers_of(name)
    try:
        viewer = await audience.watch(name, viewer_id, await offer_of(client), ADDRESS)
        await take_answer(client, viewer.answer)
        await eventually(lambda: audience.viewers_of(name) > before, what="the viewer's connection")
        yield
    finally:
        await client.close()


@pytest.mark.asyncio
async def test_a_viewer_may_come_before_the_publisher_and_its_output_goes_with_it() -> None:
    one = Published()
    async with watching(one.audience, "cam"):
        output = one.audience.output("cam")
        assert one.asked == ["cam"]
        assert len(one.audience) == 1
    await eventually(lambda: len(one.audience) == 0, what="its end")
    assert one.audience.output("cam") is not output
    assert len(one.quotas) == 0


@pytest.mark.asyncio
async def test_an_output_stays_while_somebody_publishes_or_watches_it() -> None:
    one = Published()
    one.names.add("cam")
    output = one.audience.output("cam")
    async with watching(one.audience, "cam"):
        one.names.clear()
        one.audience.drop_unused("cam")
        assert one.audience.output("cam") is output
        one.names.add("cam")
    await eventually(lambda: len(one.audience) == 0, what="the viewer's end")
    assert one.audience.output("cam") is output
    one.names.clear()
    one.audience.drop_unused("cam")
    assert one.audience.output("cam") is not output


@pytest.mark.asyncio
async def test_who_is_refused_leaves_nothing_behind() -> None:
    one = Published()
    with pytest.raises(OfferRefused):
        await one.audience.watch("cam", "v", "v=1", ADDRESS)
    assert len(one.quotas) == 0
    async with watching(one.audience, "cam"):
        with pytest.raises(LimitReached):
            await one.audience.watch("cam", "w", "v=1", ADDRESS)
        assert one.audience.find("cam", "w") is None


@pytest.mark.asyncio
async def test_viewers_are_sent_away_one_by_one_or_all_together() -> None:
    one = Published()
    async with watching(one.audience, "cam"):
        await one.audience.stop("cam", "nobody")
        assert len(one.audience) == 1
        await one.audience.stop("cam", "v")
        await eventually(lambda: len(one.audience) == 0, what="its end")
    async with watching(one.audience, "cam"):
        await one.audience.close()
        await eventually(lambda: len(one.audience) == 0, what="its end")


@pytest.mark.asyncio
async def test_nobody_new_watches_while_the_gateway_is_overloaded() -> None:
    one = Published()
    one.overloaded = True
    with pytest.raises(NotAdmitted, match="watch on another one"):
        await one.audience.watch("cam", "v", "")
    assert len(one.audience) == len(one.quotas) == 0


@pytest.mark.asyncio
async def test_the_profile_of_the_pictures_is_that_of_a_later_viewers_answer() -> None:
    one = Published()
    one.names.add("cam")
    profiles = []
    for viewer_id in ("before", "after"):
        viewer = await one.audience.watch("cam", viewer_id, BROWSER)
        (line,) = (line for line in viewer.answer.splitlines() if "profile-level-id" in line)
        profiles.append(line.partition("profile-level-id=")[2][:4])
        one.audience.output("cam").push(AccessUnit(nals_of(coded_pictures(1)[0]), 0, 0, True))
        await one.audience.stop("cam", viewer_id)
    assert one.audience.output("cam").profile == "42c0", "constrained baseline"
    assert profiles == ["4200", "42e0"]
    await eventually(lambda: len(one.audience) == 0, what="the viewers' end")


@pytest.mark.asyncio
async def test_other_nodes_are_asked_for_what_is_watched_and_not_published_here() -> None:
    one, others = Published(), OtherNodes()
    one.audience.remote = others
    with pytest.raises(OfferRefused):
        await one.audience.watch("cam", "v", "v=1", ADDRESS)
    assert not others.watches("cam")
    async with watching(one.audience, "cam"):
        output = one.audience.output("cam")
        assert others.outputs[-1] is output
        assert (others.watched, others.asked, one.asked) == ({"cam": 1}, ["cam"], [])
        one.names.add("cam")
        one.audience.request_key_frame("cam")
        assert (others.asked, one.asked) == (["cam"], ["cam"])
    await eventually(lambda: len(one.audience) == 0, what="the viewer's end")
    assert not others.watches("cam")


@pytest.mark.asyncio
async def test_an_output_stays_while_a_viewer_of_another_node_s_stream_connects() -> None:
    one, others = Published(), OtherNodes()
    one.audience.remote = others
    output = one.audience.output("cam")
    others.watched["cam"] = 1
    one.audience.drop_unused("cam")
    assert one.audience.output("cam") is output
    others.watched.clear()
    one.audience.drop_unused("cam")
    assert one.audience.output("cam") is not output


def test_other_nodes_get_what_is_published_here_until_nobody_publishes_it() -> None:
    one, others = Published(), OtherNodes()
    one.audience.remote = others
    one.names.add("cam")
    one.audience.began("cam")
    assert others.shared == {"cam": one.audience.output("cam")}
    assert one.audience.viewers_of("cam") == 7
    one.audience.ended("cam")
    assert others.shared, "another publisher has taken its place"
    one.names.clear()
    one.audience.ended("cam")
    assert one.audience.viewers_of("cam") == 0
    assert not others.shared


def test_the_output_of_a_publisher_that_is_about_to_come_outlasts_a_former_ones_end() -> None:
    published = Published()
    audience = published.audience
    audience.remote = others = OtherNodes()
    published.names.add("cam")
    audience.began("cam")
    with audience.kept_output("cam") as output:
        published.names.remove("cam")
        audience.ended("cam")
        assert audience.output("cam") is output
        published.names.add("cam")
        audience.began("cam")
    assert audience.output("cam") is others.shared["cam"] is output
    published.names.remove("cam")
    audience.ended("cam")
    with audience.kept_output("cam") as refused:
        pass
    assert audience.output("cam") is not refused, "nobody came"
