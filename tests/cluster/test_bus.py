"""Messages between nodes through a real nats-server, also while it is killed, halted and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.aio.tasks import spawn
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterAway, MessageTooLarge, NoAnswerInTime, NobodyAnswers
from gateway.cluster.pieces import MAX_BYTES, PIECE_BYTES
from gateway.cluster.settings import Credentials
from gateway.cluster.subjects import Subjects
from harness.nats import NatsServer, free_port, nats_server
from harness.waiting import eventually, within

pytestmark = pytest.mark.asyncio
SUBJECTS = Subjects("test")


@pytest_asyncio.fixture
async def two(nats: NatsServer) -> AsyncIterator[tuple[Bus, Bus]]:
    async with Bus([nats.url], SUBJECTS) as one, Bus([nats.url], SUBJECTS) as other:
        yield one, other


async def echo(bus: Bus, subject: str, size: int | None = None) -> None:
    """Answer each request on a subject with its own data, or with as many bytes."""

    def take(message: BusMessage) -> None:
        data = message.data if size is None else bytes(size)
        spawn(bus.answer(message.reply, data), name="test answer", expected=(ClusterAway,))

    await bus.subscribe(subject, take)
    await bus.flush()


async def test_who_subscribes_gets_what_is_published_in_its_order(two: tuple[Bus, Bus]) -> None:
    one, other = two
    got: asyncio.Queue[BusMessage] = asyncio.Queue()
    await one.subscribe("test.order", got.put_nowait)
    await one.flush()
    for number in range(100):
        await other.publish("test.order", str(number).encode(), headers={"Kind": "x"})
    messages = [await within(got.get()) for _ in range(100)]
    assert [int(message.data) for message in messages] == list(range(100))
    assert messages[0].headers == {"Kind": "x"}


async def test_who_closed_its_subscription_gets_nothing(two: tuple[Bus, Bus]) -> None:
    one, other = two
    got: list[BusMessage] = []
    subscription = await one.subscribe("test.closed", got.append)
    await subscription.close()
    await echo(one, "test.after")
    await other.publish("test.closed", b"x")
    await within(other.ask("test.after"))
    assert got == []


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_an_answer_of_any_size_comes_whole(two: tuple[Bus, Bus], size: int) -> None:
    one, other = two
    await echo(one, "test.sizes", size)
    assert await within(other.ask("test.sizes", b"x", timeout=20.0)) == bytes(size)


async def test_nobody_is_known_at_once(two: tuple[Bus, Bus]) -> None:
    with pytest.raises(NobodyAnswers):
        await two[0].ask("test.nobody", timeout=30.0)


async def test_who_does_not_answer_is_waited_for_so_long(two: tuple[Bus, Bus]) -> None:
    one, other = two
    await one.subscribe("test.silent", lambda message: None)
    await one.flush()
    with pytest.raises(NoAnswerInTime, match="no answer within"):
        await other.ask("test.silent", timeout=0.2)


async def test_who_took_a_request_and_is_gone_is_not_waited_for(two: tuple[Bus, Bus]) -> None:
    one, other = two
    taken: list[BusMessage] = []
    subscription = await one.subscribe("test.gone", taken.append)
    await one.flush()
    asking = spawn(
        other.ask("test.gone", b"x", timeout=30.0, sign=20.0), name="asking", expected=(NobodyAnswers,)
    )
    await eventually(lambda: taken)
    await subscription.close()
    with pytest.raises(NobodyAnswers):
        await within(asking, deadline=10.0)


async def test_who_gives_no_sign_is_waited_for_so_long_though_it_is_there(two: tuple[Bus, Bus]) -> None:
    one, other = two
    await one.subscribe("test.no_sign", lambda message: None)
    await one.flush()
    with pytest.raises(NoAnswerInTime, match=r"no sign within 0\.3 s"):
        await other.ask("test.no_sign", b"x", timeout=30.0, sign=0.3)


async def test_what_is_too_large_is_not_sent(two: tuple[Bus, Bus]) -> None:
    with pytest.raises(MessageTooLarge):
        await two[0].ask("test.large", bytes(MAX_BYTES + 1))


async def test_it_starts_without_nats_and_connects_when_it_comes(nats: NatsServer) -> None:
    nats.stop()
    async with Bus([nats.url], SUBJECTS) as bus:
        assert not bus.connected
        with pytest.raises(ClusterAway):
            await bus.publish("test.away", b"x")
        with pytest.raises(ClusterAway):
            await bus.ask("test.away")
        nats.start()
        await eventually(lambda: bus.connected)


async def test_subscriptions_go_on_after_nats_was_killed(nats: NatsServer) -> None:
    async with Bus([nats.url], SUBJECTS) as one, Bus([nats.url], SUBJECTS) as other:
        changes: list[bool] = []
        one.watch(changes.append)
        await echo(one, "test.again")
        nats.kill()
        await eventually(lambda: not one.connected and not other.connected)
        nats.start()
        await eventually(lambda: one.connected and other.connected)
        assert await within(other.ask("test.again", b"hello")) == b"hello"
        assert changes == [True, False, True]


async def test_who_waits_for_an_answer_is_told_that_nats_is_gone(nats: NatsServer) -> None:
    async with Bus([nats.url], SUBJECTS) as one, Bus([nats.url], SUBJECTS) as other:
        await one.subscribe("test.lost", lambda message: None)
        await one.flush()
        asked = spawn(other.ask("test.lost", timeout=60.0), name="test ask", expected=(ClusterAway,))
        await other.flush()
        nats.kill()
        with pytest.raises(ClusterAway):
            await within(asked)
        nats.start()


async def test_a_halted_nats_counts_as_away_and_comes_back(nats: NatsServer) -> None:
    async with Bus([nats.url], SUBJECTS) as bus:
        nats.pause()
        try:
            await eventually(lambda: not bus.connected)
        finally:
            nats.go_on()
        await eventually(lambda: bus.connected)
        await bus.flush()


async def test_it_connects_to_another_server_where_the_first_is_away(nats: NatsServer) -> None:
    async with Bus([f"nats://127.0.0.1:{free_port()}", nats.url], SUBJECTS) as bus:
        await eventually(lambda: bus.connected)


@pytest.mark.parametrize(
    ("options", "credentials"),
    [
        (("--user", "gateway", "--pass", "secret"), Credentials(user="gateway", password="secret")),
        (("--auth", "secret"), Credentials(token="secret")),
    ],
)
async def test_it_says_who_it_is(options: tuple[str, ...], credentials: Credentials) -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(nats_server(*options))
        bus = await stack.enter_async_context(Bus([server.url], SUBJECTS, credentials=credentials))
        stranger = await stack.enter_async_context(Bus([server.url], SUBJECTS))
        assert (bus.connected, stranger.connected) == (True, False)
