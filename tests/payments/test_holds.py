"""Limits that the nodes of a cluster share, in a ledger on a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from typing import cast

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from gateway.payments.errors import LedgerError
from gateway.payments.holds import HELD_NS, WINDOW_NS, Holds
from gateway.payments.ledger import Ledger
from gateway.payments.spending import SpendLimitReached, SpendLimits
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from harness.postgresql import PostgresqlServer
from tests.payments.ledgers import record
from tests.payments.nodes import EV, START, Clock, limit, made_of, open_node, open_session, request, sign

pytestmark = pytest.mark.asyncio
HELD = HELD_NS // NANOSECONDS


class Two:
    """Two nodes on one ledger."""

    def __init__(self, where: str, clock: Clock, one: Ledger, other: Ledger) -> None:
        self.where, self.clock, self.one, self.other = where, clock, one, other

    async def signed(self) -> Fraction:
        """All that counts, in tickets."""
        return sum((wei for _, wei, _ in await self.one.reader.signed_since(0)), Fraction(0)) / EV


@pytest_asyncio.fixture
async def two(postgresql: PostgresqlServer) -> AsyncIterator[Two]:
    where, clock = postgresql.database(), Clock()
    async with AsyncExitStack() as stack:
        nodes = []
        for name in ("one", "other"):
            nodes.append(await open_node(where, name, clock))
            stack.push_async_callback(nodes[-1].close)
        yield Two(where, clock, *nodes)


async def test_two_nodes_race_for_the_last_wei(two: Two) -> None:
    """Twenty sessions ask at once, for one or two tickets each, and twelve tickets are left."""
    sessions = [
        (node, await open_session(node), 1 + index % 2)
        for node in (two.one, two.other)
        for index in range(10)
    ]

    async def pay(node: Ledger, session: str, tickets: int, rand: int) -> int:
        try:
            await node.intended(session, 1, request(tickets, hour=12))
        except SpendLimitReached:
            return 0
        await sign(node, session, 1, made_of(tickets, rand), request(tickets, hour=12))
        return tickets

    paid = await asyncio.gather(*(pay(*one, rand) for rand, one in enumerate(sessions, 1)))
    assert sum(paid) in (11, 12), "no more fit, or one where two were asked for"
    assert await two.signed() == sum(paid)
    left = 12 - sum(paid)
    session = await open_session(two.one)
    with pytest.raises(SpendLimitReached, match="the last hour"):
        await two.one.intended(session, 1, request(left + 1, hour=12))
    await two.one.intended(session, 1, request(left, hour=12))


async def test_questions_of_one_transaction_are_counted_together(two: Two) -> None:
    """They come at once at one node, some of sessions that hold something already, of several publishers."""
    again = await open_session(two.one, publisher="a")
    await two.one.intended(again, 1, request(4, publisher="a", hour=12, publisher_hour=6))
    others = [await open_session(two.one, publisher=name, request_id=name) for name in "aabbb"]
    asks = [
        (again, request(3, publisher="a", hour=12, publisher_hour=6)),  # instead of what it holds
        *(
            (one, request(2, publisher=name, hour=12, publisher_hour=6))
            for one, name in zip(others, "aabbb", strict=True)
        ),
    ]
    answers = await asyncio.gather(
        *(two.one.intended(session, 1, asked) for session, asked in asks), return_exceptions=True
    )
    # 3 + 2 of a's 6, and a's next 2 are too many; then b's 6 of the 7 that are left
    assert [isinstance(one, SpendLimitReached) for one in answers] == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    last = await open_session(two.other, publisher="c")
    with pytest.raises(SpendLimitReached, match="the last hour"):
        await two.other.intended(last, 1, request(2, publisher="c", hour=12))
    await two.other.intended(last, 1, request(1, publisher="c", hour=12))


async def test_what_a_refused_session_holds_counts_for_the_questions_of_its_transaction(two: Two) -> None:
    greedy, second = await open_session(two.one), await open_session(two.one)
    await two.one.intended(greedy, 1, request(4, hour=6))
    answers = await asyncio.gather(
        two.one.intended(greedy, 1, request(7, hour=6)),
        two.one.intended(second, 1, request(3, hour=6)),
        return_exceptions=True,
    )
    assert [isinstance(one, SpendLimitReached) for one in answers] == [True, True]
    await two.one.intended(second, 1, request(2, hour=6))


class Answers:
    """A connection on which each count gives the next sum of all, in tickets."""

    def __init__(self, *tickets: int) -> None:
        self.left = [limit(one) * MAX_WIN_PROB for one in tickets]

    def execute(self, _: object) -> Answers:
        return self

    def mappings(self) -> Answers:
        return self

    def one(self) -> dict[str, int]:
        return {"hour": self.left.pop(0)}


async def test_after_a_payment_above_its_hold_everything_is_counted_anew() -> None:
    holds = Holds()
    holds.begin(cast(Connection, Answers(0, 5)))
    five = request(5, hour=6)
    assert not holds.excess(1, five, five.units, START)
    assert "the last hour" in str(holds.request(2, 1, request(2, hour=6), START)), "5 and 2 are above 6"


async def test_starts_of_one_transaction_count_together(two: Two) -> None:
    sessions = [await open_session(two.one, publisher="a", request_id=f"r{index}") for index in range(4)]
    answers = await asyncio.gather(
        *(
            two.one.intended(session, 1, request(1, publisher="a", request_id=f"r{index % 3}", starts=2))
            for index, session in enumerate(sessions)
        ),
        return_exceptions=True,
    )  # the last one is of the first one's publish
    assert [isinstance(one, SpendLimitReached) for one in answers] == [False, False, True, False]


async def test_a_wei_above_the_limit_is_refused(two: Two) -> None:
    session, asks = await open_session(two.one), request(3)
    exact = replace(asks, most=Fraction(10), limits=SpendLimits(hour=10))
    await two.one.intended(session, 1, exact)
    other = await open_session(two.other)
    for most in (Fraction(1), Fraction(1, 10**70)):
        with pytest.raises(SpendLimitReached, match="the last hour") as refused:
            await two.other.intended(other, 1, replace(exact, most=most))
        assert refused.value.amounts.endswith("the limit is 10")
    await two.other.intended(other, 1, replace(exact, most=Fraction(0)))


async def test_what_is_refused_is_not_asked_for(two: Two) -> None:
    session = await open_session(two.one)
    with pytest.raises(SpendLimitReached):
        await two.one.intended(session, 1, request(2, hour=1))
    with pytest.raises(LedgerError, match="not asked for"):
        await sign(two.one, session, 1, made_of(1, 1))


async def test_what_was_held_and_not_signed_is_free_when_the_call_failed_or_after_its_time(two: Two) -> None:
    first, second = await open_session(two.one), await open_session(two.other)
    await two.one.intended(first, 1, request(5, hour=6))
    with pytest.raises(SpendLimitReached):
        await two.other.intended(second, 1, request(2, hour=6))
    await two.one.release(first, 1)
    await two.other.intended(second, 1, request(2, hour=6))
    await two.one.intended(first, 1, request(4, hour=6))  # and then its node dies
    with pytest.raises(SpendLimitReached):
        await two.other.intended(second, 1, request(3, hour=6))
    two.clock.pass_seconds(HELD + 1)
    await two.other.intended(second, 1, request(6, hour=6))


async def test_a_session_that_is_closed_holds_nothing(two: Two) -> None:
    first, second = await open_session(two.one), await open_session(two.other)
    await two.one.intended(first, 1, request(5, hour=5))
    await two.one.close_session(first, EndReason.DELETED)
    await two.other.intended(second, 1, request(5, hour=5))


async def test_an_answer_that_comes_when_its_hold_is_free_counts_only_where_it_fits(two: Two) -> None:
    """A node that stood still signs after others have spent what it held."""
    late, second, third = [await open_session(node) for node in (two.one, two.other, two.other)]
    await two.one.intended(late, 1, request(5, hour=6))
    two.clock.pass_seconds(HELD + 1)
    await two.other.intended(second, 1, request(2, hour=6))
    await sign(two.other, second, 1, made_of(2, 1), request(2, hour=6))
    with pytest.raises(SpendLimitReached):
        await sign(two.one, late, 1, made_of(5, 2), request(5, hour=6))
    assert await two.signed() == 2
    with pytest.raises(LedgerError, match="delivered after withheld"):
        await two.one.delivered(late, 1)
    await two.other.intended(third, 1, request(4, hour=6))


async def test_a_signer_that_bills_more_than_was_held_is_within_the_limit_too(two: Two) -> None:
    one, other = await open_session(two.one), await open_session(two.other)
    await two.one.intended(one, 1, request(2, hour=6))
    await two.other.intended(other, 1, request(2, hour=6))
    await sign(two.one, one, 1, made_of(4, 1), request(2, hour=6))
    with pytest.raises(SpendLimitReached, match="the last hour"):
        await sign(two.other, other, 1, made_of(3, 2), request(2, hour=6))
    assert await two.signed() == 4


async def test_limits_of_a_publisher_are_its_own_and_those_of_a_day_outlast_the_hour(two: Two) -> None:
    one = await open_session(two.one, publisher="a")
    await two.one.intended(one, 1, request(3, publisher="a", publisher_hour=3))
    await sign(two.one, one, 1, made_of(3, 1), request(3, publisher="a", publisher_hour=3))
    same, free = await open_session(two.other, publisher="a"), await open_session(two.other, publisher="b")
    with pytest.raises(SpendLimitReached, match="this publisher's last hour"):
        await two.other.intended(same, 1, request(1, publisher="a", publisher_hour=3))
    await two.other.intended(free, 1, request(3, publisher="b", publisher_hour=3))
    two.clock.pass_seconds(3600 + 180)
    await two.other.intended(same, 1, request(3, publisher="a", publisher_hour=3))
    await two.other.release(same, 1)
    a_day = replace(request(1), limits=SpendLimits(day=limit(3)))
    with pytest.raises(SpendLimitReached, match="the last day"):
        await two.other.intended(same, 1, a_day)


async def test_paid_starts_of_a_publisher_count_over_all_nodes(two: Two) -> None:
    asks = {"publisher": "a", "starts": 2}
    for index, node in enumerate((two.one, two.other, two.one)):
        session = await open_session(node, publisher="a", request_id=f"r{index}")
        await node.intended(session, 1, request(1, request_id=f"r{index}", **asks)) if index < 2 else None
    again = await open_session(two.other, publisher="a", request_id="r0")
    two.clock.pass_seconds(7)
    assert await two.one.recent_starts("a") == {"r0": 7 * NANOSECONDS, "r1": 7 * NANOSECONDS}
    assert await two.one.recent_starts("b") == {}
    await two.other.intended(again, 1, request(1, request_id="r0", **asks))  # the same publish, elsewhere
    with pytest.raises(SpendLimitReached, match="2 paid streams were started within a minute"):
        await two.one.intended(session, 1, request(1, request_id="r2", **asks))
    await two.other.release(again, 1)
    two.clock.pass_seconds(WINDOW_NS // NANOSECONDS + 1)
    await two.one.intended(session, 1, request(1, request_id="r2", **asks))


async def test_a_start_that_paid_nothing_does_not_count(two: Two) -> None:
    asks = {"publisher": "a", "starts": 1}
    one, other = [await open_session(node, publisher="a") for node in (two.one, two.other)]
    await two.one.intended(one, 1, request(1, request_id="r1", **asks))
    await two.one.release(one, 1)
    await two.other.intended(other, 1, request(1, request_id="r2", **asks))


async def test_a_first_payment_that_serves_another_publisher_has_to_fit_there(two: Two) -> None:
    moved, spent = await open_session(two.one, publisher="a"), await open_session(two.other, publisher="b")
    await two.one.intended(moved, 1, request(2, publisher="a"))
    await sign(two.one, moved, 1, made_of(2, 1), request(2, publisher="a"))
    await two.other.intended(spent, 1, request(3, publisher="b"))
    await sign(two.other, spent, 1, made_of(3, 2), request(3, publisher="b"))
    job = record("two").job
    with pytest.raises(SpendLimitReached, match="this publisher's last hour"):
        await two.one.move_session(moved, job, "b", "", request(2, publisher="b", publisher_hour=4))
    await two.one.move_session(moved, job, "b", "", request(2, publisher="b", publisher_hour=5, hour=5))
    sums = {publisher: wei / EV for _, wei, publisher in await two.one.reader.signed_since(0) if wei}
    assert sums == {"b": 5}


async def test_wei_are_added_by_both_nodes_and_taken_back(two: Two) -> None:
    """Caches of what others write too would lose one's wei."""
    for index, node in enumerate((two.one, two.other) * 3):
        session = await open_session(node)
        await node.intended(session, 1)
        await sign(node, session, 1, made_of(index + 1, index + 1))
        await (node.withheld(session, 1, "why") if index == 2 else node.delivered(session, 1))
    assert await two.signed() == 1 + 2 + 4 + 5 + 6
    (handed_out,) = await two.other.redemptions.handed_out()
    assert (handed_out.tickets, handed_out.value) == (18, 18 * made_of(1, 1).value * (2**256 - 1))


STOPPED = """
import asyncio, sys
from sqlalchemy import func, select
from gateway.payments.database import Database
from gateway.payments.holds import LOCK

async def stop():
    database = await Database.open(sys.argv[1], node="stopped")
    def work(connection):
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        print("locked", flush=True)
        sys.stdin.readline()
    await database.write(work)

asyncio.run(stop())
"""


async def test_a_node_that_stands_still_in_its_transaction_keeps_nobody_waiting_for_long(two: Two) -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED, two.where], stdin=-1, stdout=-1, stderr=-3)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"locked\n"
        os.kill(process.pid, signal.SIGSTOP)
        session = await open_session(two.one)
        async with asyncio.timeout(25):
            await two.one.intended(session, 1, request(1, hour=1))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


async def test_times_are_those_of_the_server_whatever_the_nodes_clocks_say(
    postgresql: PostgresqlServer,
) -> None:
    ledger = await Ledger.open(postgresql.database(), node="one")
    session = await open_session(ledger)
    await ledger.intended(session, 1, request(1, hour=1))
    await sign(ledger, session, 1, made_of(1, 1), request(1, hour=1))
    (signed,) = await ledger.reader.signed_since(0)
    assert signed[0] > START
    await ledger.close()
