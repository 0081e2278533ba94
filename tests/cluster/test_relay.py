"""Pictures from the node that has a stream to viewers on others, through a real nats-server."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio

from gateway.media.frames import AccessUnit, OpusPacket
from harness.nats import NatsServer, nats_server
from harness.waiting import eventually
from tests.cluster.media_nodes import GOP, MediaNode, media_node, picture, pictures, pushed_until

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def nodes(nats: NatsServer) -> AsyncIterator[tuple[MediaNode, MediaNode, MediaNode]]:
    async with (
        media_node(nats.url, "a", 1) as a,
        media_node(nats.url, "b", 2) as b,
        media_node(nats.url, "c", 3) as c,
    ):
        yield a, b, c


async def test_viewers_on_other_nodes_get_what_the_owner_s_own_get_the_held_pictures_first(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, far = nodes
    output = await owner.publish()
    for number in range(GOP + 5):
        output.push(picture(number))
    own = await owner.watch()
    first = await near.watch()
    assert len(first.times) == 5, "there before the viewer is answered"
    for number in range(GOP + 5, 2 * GOP + 3):
        output.push(picture(number))
        output.push(OpusPacket(b"sound", number * 3_000))
    second = await far.watch()
    await eventually(lambda: len(first.times) == GOP + 3, what="the pictures")
    assert first.payloads == own.payloads
    assert first.times == own.times
    assert first.sounds == own.sounds == GOP - 2
    assert second.payloads == own.payloads[-3:]
    assert near.output().size == owner.output().size == (320, 180)
    await eventually(lambda: owner.relay.viewers_of("cam") == 2, what="the owner to count them")
    assert near.relay.counts().gaps == far.relay.counts().gaps == owner.relay.counts().dropped == 0


async def test_the_owner_sends_only_while_somebody_asks(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, far = nodes
    output = await owner.publish()
    output.push(picture(0))
    assert not output.taps
    here, there = await near.watch(), await far.watch()
    assert output.taps
    assert len(here.times) == len(there.times) == 1
    near.leave(here)
    source = pictures(1)
    await pushed_until(lambda: owner.relay.viewers_of("cam") == 1, output, source, "it to leave")
    assert output.taps
    far.leave(there)
    await pushed_until(lambda: not output.taps, output, source, "the last to leave")
    again = await near.watch()
    assert again.times
    assert owner.relay.viewers_of("cam") == 1


async def test_a_node_that_is_gone_is_sent_nothing_once_its_lease_has_ended(nats: NatsServer) -> None:
    async with media_node(nats.url, "a") as owner:
        output = await owner.publish()
        output.push(picture(0))
        async with media_node(nats.url, "b") as dies:
            await dies.watch()
            assert output.taps
            await dies.bus.__aexit__(None, None, None)
        assert owner.relay.viewers_of("cam") == 1
        await pushed_until(lambda: not output.taps, output, pictures(1), "the end of its lease")
        assert owner.relay.viewers_of("cam") == 0


async def test_a_viewer_may_come_before_there_is_a_publisher(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, _ = nodes
    viewer = await near.watch()
    output = await owner.publish()
    await pushed_until(lambda: len(viewer.times) > 3, output, pictures(), "pictures")
    assert viewer.times[0] == 0


async def test_other_nodes_know_whether_a_name_is_published_elsewhere(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, _ = nodes
    assert not await near.relay.is_elsewhere("cam")
    output = await owner.publish()
    assert await near.relay.is_elsewhere("cam")
    assert not output.taps, "who only asks is sent nothing"
    await near.watch()
    assert await near.relay.is_elsewhere("cam")
    assert owner.relay.viewers_of("cam") == 1
    owner.stop()
    await eventually(lambda: not near.output().held_bytes, what="the end there")

    async def is_gone() -> bool:
        return not await near.relay.is_elsewhere("cam")

    await eventually(is_gone, what="the owner to answer no more")


async def test_a_publish_that_ends_leaves_no_pictures_and_the_next_one_is_shown(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, _ = nodes
    output = await owner.publish()
    output.push(picture(0))
    viewer = await near.watch()
    assert near.output().held_bytes > 0
    owner.stop()
    await eventually(lambda: near.output().held_bytes == 0, what="the end there")
    owner.epoch += 5
    output = await owner.publish()
    source = pictures(GOP * 1000)
    await pushed_until(lambda: len(viewer.times) > 5, output, source, "the next publish")
    assert all(later > earlier for earlier, later in pairwise(viewer.times))
    assert near.relay.counts().gaps == 0


async def test_another_publisher_of_the_name_at_the_same_node_is_shown(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    """The former one ends only after the next has taken the name."""
    owner, near, _ = nodes
    output = await owner.publish()
    output.push(picture(0))
    viewer = await near.watch()
    await owner.publish()
    output.clear()
    source = pictures(GOP * 7)
    await pushed_until(lambda: len(viewer.times) > 5, output, source, "the next publish")


async def test_when_the_owner_dies_its_viewers_stay_and_are_shown_the_next_owner(nats: NatsServer) -> None:
    async with media_node(nats.url, "b") as near, media_node(nats.url, "c", 2) as next_owner:
        async with media_node(nats.url, "a", 1) as owner:
            output = await owner.publish()
            output.push(picture(0))
            viewer = await near.watch()
            await pushed_until(lambda: len(viewer.times) > 9, output, pictures(1), "pictures")
            await owner.bus.__aexit__(None, None, None)
        before = len(viewer.times)
        output = await next_owner.publish()
        source = pictures(GOP * 100)
        await pushed_until(lambda: len(viewer.times) > before + 5, output, source, "the next owner's")
        assert all(later > earlier for earlier, later in pairwise(viewer.times))
        assert viewer.times[-1] - viewer.times[0] < 90_000 * 20, "its clock counts on from the former one's"


async def test_an_owner_that_lost_the_name_while_it_hung_is_not_shown_again(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    hangs, near, next_owner = nodes
    former = await hangs.publish()
    former.push(picture(0))
    viewer = await near.watch()
    output = await next_owner.publish()
    source = pictures(1)
    await pushed_until(lambda: near.output().frames > 5, output, pictures(GOP * 9), "the next owner's")
    shown = near.output().frames
    former.push(next(source))
    late = await next_owner.watch()  # whoever asks is not led back either
    assert late.times
    await pushed_until(lambda: near.output().frames > shown + 20, output, pictures(GOP * 11), "more")
    former.push(next(source))
    expected = [len(one) for one in late.payloads[-5:]]
    await eventually(lambda: [len(one) for one in viewer.payloads[-5:]] == expected, what="the last ones")
    assert all(later > earlier for earlier, later in pairwise(viewer.times))


async def test_a_publisher_that_moves_to_the_viewers_own_node_is_shown_and_also_back(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, _ = nodes
    output = await owner.publish()
    output.push(picture(0))
    viewer = await near.watch()
    seen = len(viewer.times)
    own = await near.publish()
    own.new_source()
    output.push(picture(1))
    for number in range(5):
        own.push(picture(number))
    assert len(viewer.times) == seen + 5
    await eventually(lambda: owner.relay.viewers_of("cam") == 0, what="the former owner to be told")
    owner.stop()
    near.stop()
    owner.epoch = 9
    output = await owner.publish()
    source = pictures(GOP)
    await pushed_until(lambda: len(viewer.times) > seen + 9, output, source, "the way back")
    assert all(later > earlier for earlier, later in pairwise(viewer.times))


async def test_a_key_frame_larger_than_nats_takes_comes_whole(
    nodes: tuple[MediaNode, MediaNode, MediaNode],
) -> None:
    owner, near, _ = nodes
    output = await owner.publish()
    large = AccessUnit([*picture(0).nals, b"\x06" + bytes(range(1, 256)) * 9_000], 0, 0, True)
    output.push(large)
    viewer = await near.watch()
    large = AccessUnit(large.nals, 3_000, 3_000, True)
    output.push(large)
    own = await owner.watch()
    await eventually(lambda: len(viewer.payloads) == 2, what="both")
    assert viewer.payloads == own.payloads * 2
    assert sum(map(len, viewer.payloads[1])) > 2 << 20


async def test_viewers_get_pictures_again_after_nats_was_away() -> None:
    with nats_server() as server:
        async with media_node(server.url, "a") as owner, media_node(server.url, "b") as near:
            output = await owner.publish()
            source = pictures()
            output.push(next(source))
            viewer = await near.watch()
            own = await owner.watch()
            server.kill()
            await pushed_until(
                lambda: not (owner.bus.connected or near.bus.connected), output, source, "it to be away"
            )
            before, unseen = len(own.times), len(viewer.times)
            await pushed_until(lambda: len(own.times) > before + GOP, output, source, "the owner's own")
            assert len(viewer.times) == unseen
            server.start()
            await pushed_until(lambda: len(viewer.times) > unseen + 5, output, source, "it to be back")
            assert all(later > earlier for earlier, later in pairwise(viewer.times))


async def test_nothing_of_it_waits_for_the_garbage_collector(
    nodes: tuple[MediaNode, MediaNode, MediaNode], without_collector: None
) -> None:
    owner, near, _ = nodes
    output = await owner.publish()
    output.push(picture(0))
    viewer = await near.watch()
    outputs = [weakref.ref(owner.outputs["cam"]), weakref.ref(near.outputs["cam"])]
    near.leave(viewer)
    owner.stop()
    del output, owner.outputs["cam"], near.outputs["cam"]
    await eventually(lambda: [ref() for ref in outputs] == [None, None], what="both outputs to be freed")
    assert not gc.isenabled()
