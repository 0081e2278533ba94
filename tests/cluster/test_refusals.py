"""What JetStream refuses, and when it does not serve yet, without a NATS: nothing ends for good by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import nats.js.errors
import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.bucket import NO_SUCH_MESSAGE, Bucket, BucketEntry
from gateway.cluster.bus import Bus
from gateway.cluster.duty import Duty
from gateway.cluster.errors import ClusterAway, ClusterError, KeyTaken
from gateway.cluster.names import ClusterNames
from gateway.cluster.ownership import value_of
from gateway.cluster.presence import Identity, NodeView
from gateway.cluster.subjects import Subjects
from harness.waiting import eventually

pytestmark = pytest.mark.asyncio

STORAGE_USED_UP = nats.js.errors.ServerError(code=500, err_code=10047, description="no storage")
ACCOUNT_USED_UP = nats.js.errors.BadRequestError(code=400, err_code=10002, description="account limits")


class JetStream:
    """Refuses all with `error`, but the making and the opening of a bucket."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def jetstream(self, timeout: float) -> JetStream:
        return self

    async def add_stream(self, config: object) -> None:
        raise ACCOUNT_USED_UP

    async def key_value(self, bucket: str) -> JetStream:
        return self

    async def get(self, *args: Any, **options: Any) -> NoReturn:
        raise self.error

    put = update = delete_msg = stream_info = get


def bucket_of(error: Exception) -> Bucket:
    return Bucket(cast("Bus", SimpleNamespace(client=JetStream(error))), "refused")


@pytest.mark.parametrize("error", [STORAGE_USED_UP, ACCOUNT_USED_UP], ids=["storage", "account"])
@pytest.mark.parametrize(
    "operation",
    [
        lambda bucket: bucket.get("a"),
        lambda bucket: bucket.put("a", b""),
        lambda bucket: bucket.create("a", b""),
        lambda bucket: bucket.update("a", b"", 1),
        lambda bucket: bucket.remove(1),
        lambda bucket: bucket.keys(),
    ],
    ids=["get", "put", "create", "update", "remove", "keys"],
)
async def test_a_jetstream_that_refuses_is_away(error: Exception, operation: Callable[[Bucket], Any]) -> None:
    with pytest.raises(ClusterAway):
        await operation(bucket_of(error))


async def test_what_callers_are_told_is_no_refusal() -> None:
    assert await bucket_of(nats.js.errors.KeyNotFoundError()).get("a") is None
    with pytest.raises(KeyTaken):
        await bucket_of(nats.js.errors.KeyWrongLastSequenceError("changed")).update("a", b"", 1)
    gone = nats.js.errors.ServerError(code=500, err_code=NO_SUCH_MESSAGE)
    assert not await bucket_of(gone).remove(1)


async def test_who_cannot_be_on_duty_now_tries_again() -> None:
    claims = 0

    class Names:
        async def claim(self, names: list[str]) -> bool:
            nonlocal claims
            claims += 1
            if claims == 1:
                raise ClusterError("it cannot be claimed now")
            return False

        def release(self, names: list[str]) -> None:
            raise AssertionError("it is not lost")

        def holds(self, name: str) -> bool:
            return claims > 1

    duty = Duty(Names(), lambda: True, sleep=lambda _: asyncio.sleep(0))
    task = spawn(duty.run(), name="test duty")
    try:
        await eventually(lambda: duty.mine, every=0.001, deadline=3.0)
    finally:
        await cancel(task)


async def test_a_lost_name_is_found_though_jetstream_served_late() -> None:
    """After a reconnect the connection is there before the keys can be read."""
    own, other = Identity("a", "1"), Identity("b", "1")
    reads = 0

    class Keys:
        async def get(self, key: str) -> BucketEntry:
            nonlocal reads
            reads += 1
            if reads <= 2:
                raise ClusterAway("it reads its files yet")
            return BucketEntry(value_of(other), 7)

    class Answering:
        subjects = Subjects("check")

        def watch(self, changed: Callable[[bool], None]) -> None:
            pass

        async def ask(self, subject: str, data: bytes, timeout: float) -> bytes:
            return b""

    lost: list[str] = []
    names = ClusterNames(
        cast("Bus", Answering()),
        cast("Bucket", Keys()),
        NodeView(own),
        own,
        serve=lambda message: None,
        lost=lost.append,
        sleep=lambda _: asyncio.sleep(0),
    )
    names.restore(["taken"])
    await eventually(lambda: lost, every=0.001, deadline=3.0)
    assert lost == ["taken"] and reads == 3
    await names.close()
