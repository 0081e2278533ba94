"""Keys of JetStream on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.cluster.bucket import Bucket, BucketEntry
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterAway, KeyTaken
from gateway.cluster.subjects import Subjects
from harness.nats import NatsServer
from harness.waiting import eventually, within

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with Bus([nats.url], Subjects("test")) as bus:
        yield bus


async def test_a_key_is_created_once(bus: Bus) -> None:
    bucket = Bucket(bus, "once")
    revision = await bucket.create("a", b"1")
    with pytest.raises(KeyTaken):
        await bucket.create("a", b"2")
    assert await bucket.get("a") == BucketEntry(b"1", revision)


async def test_of_many_who_create_one_key_at_once_one_succeeds(bus: Bus, nats: NatsServer) -> None:
    async with Bus([nats.url], Subjects("test")) as second:
        buckets = [Bucket(bus, "race"), Bucket(second, "race")] * 5
        done = await asyncio.gather(
            *(bucket.create("a", str(n).encode()) for n, bucket in enumerate(buckets)), return_exceptions=True
        )
    assert sorted(type(result) for result in done if not isinstance(result, KeyTaken)) == [int]
    assert sum(isinstance(result, KeyTaken) for result in done) == 9


async def test_who_knows_an_old_revision_changes_nothing(bus: Bus) -> None:
    bucket = Bucket(bus, "old")
    first = await bucket.create("a", b"1")
    second = await bucket.update("a", b"2", first)
    with pytest.raises(KeyTaken):
        await bucket.update("a", b"3", first)
    assert not await bucket.remove(first)
    assert await bucket.get("a") == BucketEntry(b"2", second)


async def test_a_removed_key_can_be_created_again_and_leaves_nothing_behind(bus: Bus) -> None:
    bucket = Bucket(bus, "removed")
    for _ in range(3):
        revision = await bucket.create("a", b"1")
        assert await bucket.keys() == ["a"]
        assert await bucket.remove(revision)
        assert not await bucket.remove(revision)
        assert await bucket.get("a") is None
        assert await bucket.keys() == []


async def test_a_key_that_is_not_written_again_goes_after_its_time(bus: Bus) -> None:
    bucket = Bucket(bus, "brief", ttl=0.5, in_memory=True)
    await bucket.put("a", b"1")
    assert await bucket.get("a")

    async def gone() -> bool:
        return await bucket.get("a") is None

    await eventually(gone)


async def test_who_watches_sees_each_write(bus: Bus) -> None:
    bucket = Bucket(bus, "watched")
    seen: asyncio.Queue[BusMessage] = asyncio.Queue()
    await bus.subscribe(f"{bucket.subject}*", seen.put_nowait)
    await bucket.put("a", b"1")
    message = await within(seen.get())
    assert (message.subject.removeprefix(bucket.subject), message.data) == ("a", b"1")


async def test_keys_outlast_a_crash_of_nats(bus: Bus, nats: NatsServer) -> None:
    bucket = Bucket(bus, "lasting")
    revision = await bucket.create("a", b"1")
    gone = await bucket.create("b", b"1")
    await bucket.remove(gone)
    nats.kill()
    await eventually(lambda: not bus.connected)
    with pytest.raises(ClusterAway):
        await bucket.get("a")
    nats.start()
    await eventually(lambda: bus.connected)

    async def served() -> BucketEntry | None:
        try:
            return await bucket.get("a")
        except ClusterAway:  # JetStream reads its files yet
            return None

    assert await eventually(served) == BucketEntry(b"1", revision)
    assert await bucket.get("b") is None
    with pytest.raises(KeyTaken):
        await bucket.create("a", b"2")
    assert await bucket.create("b", b"2") > gone


async def test_without_jetstream_the_cluster_is_away() -> None:
    async with Bus(["nats://127.0.0.1:9"], Subjects("test")) as bus:
        with pytest.raises(ClusterAway):
            await Bucket(bus, "away").put("a", b"1")


async def test_several_nodes_may_make_a_bucket_at_once(nats: NatsServer) -> None:
    async with AsyncExitStack() as stack:
        buses = [
            await stack.enter_async_context(Bus([nats.url], Subjects("at-once"), name=name))
            for name in "abcd"
        ]
        for number in range(50):
            buckets = [Bucket(bus, f"at-once-{number}") for bus in buses]
            writes = [bucket.create(f"key-{which}", b"") for which, bucket in enumerate(buckets)]
            assert sorted(await within(asyncio.gather(*writes))) == [1, 2, 3, 4]
