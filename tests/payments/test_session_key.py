"""Who may write to a session: its epoch, in a ledger on either database and between nodes of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from fractions import Fraction

import pytest
import pytest_asyncio
from sqlalchemy import text

from gateway.payments.database import Database
from gateway.payments.errors import LedgerBusy, LedgerError, SessionTakenOver
from gateway.payments.ledger import Ledger
from gateway.payments.session_key import FIRST_EPOCH, SessionKey, epoch_of
from gateway.payments.steps import Step
from gateway.payments.verify import verify
from gateway.reason import EndReason
from harness.postgresql import PostgresqlServer
from tests.payments.ledgers import history, record
from tests.payments.nodes import Clock, made_of, open_node, open_session, request, sign

pytestmark = pytest.mark.asyncio


class Nodes:
    """Opens nodes on one ledger, and closes them at the end."""

    def __init__(self, where: str, stack: AsyncExitStack) -> None:
        self.where, self.clock, self._stack = where, Clock(), stack

    async def open(self, name: str) -> Ledger:
        ledger = await open_node(self.where, name, self.clock)
        self._stack.push_async_callback(ledger.close)
        return ledger


@pytest_asyncio.fixture
async def nodes(postgresql: PostgresqlServer) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(postgresql.database(), stack)


async def paid(ledger: Ledger, rand: int = 1) -> str:
    """A session that another node can go on with."""
    session = await open_session(ledger)
    await ledger.intended(session, 1)
    await sign(ledger, session, 1, made_of(1, rand))
    await ledger.delivered(session, 1)
    return session


def every_line(ledger: Ledger, session: str) -> list[Callable[[], Awaitable[None]]]:
    return [
        lambda: ledger.intended(session, 2),
        lambda: ledger.intended(session, 2, request(1, hour=100)),
        lambda: sign(ledger, session, 2, made_of(1, 99)),
        lambda: ledger.delivered(session, 1),
        lambda: ledger.unknown(session, 1, "why"),
        lambda: ledger.credited(session, 1),
        lambda: ledger.refused(session, 1, "why"),
        lambda: ledger.lost(session, 2, Fraction(1), "why"),
        lambda: ledger.release(session, 2),
        lambda: ledger.forget_job(session),
        lambda: ledger.move_session(session, record("two").job, "b"),
        lambda: ledger.close_session(session, EndReason.DELETED),
    ]


async def test_the_id_of_a_session_is_its_key_until_somebody_takes_it_over() -> None:
    assert (epoch_of("a"), epoch_of(SessionKey("a", 3))) == (FIRST_EPOCH, 3)
    assert SessionKey("a", 3) == "a"


async def test_a_former_owner_can_write_no_line_more(nodes: Nodes) -> None:
    one, other = await nodes.open("one"), await nodes.open("other")
    session = await paid(one)
    (left,) = await other.left_jobs("cam")
    former = await other.take_over(left.session_id)
    assert (former.session_id, former.number, former.payment) == (session, left.number, Step.DELIVERED)
    for line in every_line(one, session):
        with pytest.raises(SessionTakenOver):
            await line()
    assert await history(other) == ["intended", "signed", "delivered"]
    await other.intended(former.session_id, 2)
    await sign(other, former.session_id, 2, made_of(1, 2))
    await other.close_session(former.session_id, EndReason.DELETED)
    assert (await verify(other.reader)).findings == []


async def test_one_of_two_who_take_a_session_over_gets_it(nodes: Nodes) -> None:
    one, other, third = [await nodes.open(name) for name in ("one", "other", "third")]
    await paid(one)
    (left,) = await other.left_jobs("cam")
    await other.take_over(left.session_id)
    with pytest.raises(SessionTakenOver):
        await third.take_over(left.session_id)


async def test_who_gets_a_session_back_goes_on_from_what_others_wrote_and_its_former_job_does_not(
    nodes: Nodes,
) -> None:
    one, other = await nodes.open("one"), await nodes.open("other")
    session = await paid(one)
    away = await other.take_over((await other.left_jobs("cam"))[0].session_id)
    await other.credited(away.session_id, 1)
    await other.intended(away.session_id, 2)
    await sign(other, away.session_id, 2, made_of(1, 2))
    back = await one.take_over((await one.left_jobs("cam"))[0].session_id)
    assert (back.signed, back.payment, epoch_of(back.session_id)) == (2, Step.SIGNED, 3)
    for line in every_line(one, session) + every_line(other, away.session_id):
        with pytest.raises(SessionTakenOver):
            await line()
    await one.delivered(back.session_id, 2)
    assert await history(one) == [
        *("intended", "signed", "delivered", "credited"),
        "intended",
        "signed",
        "delivered",
    ]


async def test_what_is_over_or_not_kept_is_not_taken_over(nodes: Nodes) -> None:
    one, other = await nodes.open("one"), await nodes.open("other")
    session = await open_session(one)
    with pytest.raises(LedgerError, match="cannot be gone on with"):
        await other.take_over(session)
    session = await paid(one)
    (left,) = await other.left_jobs("cam")
    await one.close_session(session, EndReason.DELETED)
    with pytest.raises(LedgerError, match="cannot be gone on with"):
        await other.take_over(left.session_id)
    await one.intended(await open_session(one), 1)


async def test_a_job_that_its_node_is_about_to_end_is_not_taken_over(nodes: Nodes) -> None:
    one, other = await nodes.open("one"), await nodes.open("other")
    session = await paid(one)
    (left,) = await other.left_jobs("cam")
    await one.forget_job(session)
    with pytest.raises(LedgerError, match="cannot be gone on with"):
        await other.take_over(left.session_id)
    assert await other.left_jobs("cam") == []
    await one.close_session(session, EndReason.DELETED)


async def test_a_node_that_starts_takes_its_own_sessions_and_leaves_the_others(nodes: Nodes) -> None:
    one, other = await nodes.open("one"), await nodes.open("other")
    kept, lost = await paid(one), await open_session(one)
    living, theirs = await open_session(other), await paid(other, 2)
    await one.close()
    again = await nodes.open("one")
    assert [former.session_id for former in await again.former_jobs()] == [kept]
    closed = {one.row["id"]: one.closed is not None async for one in again.reader.sessions()}
    assert closed == {kept: False, lost: True, living: False, theirs: False}
    await other.intended(living, 1)
    await other.credited(theirs, 1)


async def test_a_run_that_lost_its_place_to_the_next_one_can_write_no_line_more(where: str) -> None:
    """Its connection broke, so that its lock was free, and it comes back when the next run is over."""
    former = await Ledger.open(where)
    session = await paid(former)
    await former.close()
    again = await Ledger.open(where)
    for line in every_line(again, session):
        with pytest.raises(SessionTakenOver):
            await line()
    (job,) = await again.former_jobs()
    await again.credited(job.session_id, 1)
    await again.close()


async def test_a_single_gateway_takes_what_the_nodes_of_a_cluster_left(nodes: Nodes) -> None:
    one = await nodes.open("one")
    session = await paid(one)
    await one.close()
    alone = await Ledger.open(nodes.where)
    (job,) = await alone.former_jobs()
    await alone.credited(job.session_id, 1)
    assert job.session_id == session
    await alone.close()
    node = await nodes.open("two")
    assert [former.session_id for former in await node.former_jobs()] == [session], "nobody else has them"


async def test_a_job_that_another_machine_saved_is_timed_by_the_wall_clock(nodes: Nodes) -> None:
    one = await nodes.open("one")
    await paid(one)
    nodes.clock.pass_seconds(7)
    other = await nodes.open("other")
    before = (await other.left_jobs("cam"))[0].saved_at.monotonic_ns
    nodes.clock.monotonic_from += 10**15  # this machine has run for longer
    (later,) = await other.left_jobs("cam")
    assert later.saved_at.monotonic_ns == before - 10**15
    assert later.later == -(10**15)


async def test_nodes_have_names_of_their_own_and_no_single_gateway_beside_them(nodes: Nodes) -> None:
    one = await nodes.open("one")
    await nodes.open("other")
    with pytest.raises(LedgerBusy, match="another node named one"):
        await nodes.open("one")
    with pytest.raises(LedgerBusy, match="in use by another gateway"):
        await Ledger.open(nodes.where)
    await one.close()
    with pytest.raises(LedgerBusy):
        await Ledger.open(nodes.where)
    await nodes.open("one")


async def test_no_node_runs_beside_a_single_gateway(postgresql: PostgresqlServer) -> None:
    where = postgresql.database()
    alone = await Ledger.open(where)
    with pytest.raises(LedgerBusy, match="a gateway without -cluster"):
        await open_node(where, "one", Clock())
    await alone.close()


async def test_a_file_is_no_cluster_s_ledger() -> None:
    with pytest.raises(LedgerError, match="PostgreSQL"):
        await Database.open("sqlite:///ledger.sqlite3", node="one")


async def test_a_connection_that_breaks_within_a_line_loses_nothing(nodes: Nodes) -> None:
    """What was added is added once, and what is known of sessions is read anew."""
    one, other = await nodes.open("one"), await nodes.open("other")
    session = await paid(one)
    pids = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    await other.left_jobs("cam")
    await other.execute(text(pids))
    with pytest.raises(LedgerError):
        await one.credited(session, 1)
    await one.credited(session, 1)
    await one.intended(session, 2)
    with pytest.raises(LedgerBusy):
        await nodes.open("one")
    ((_, signed, _),) = await one.reader.signed_since(0)
    assert signed == made_of(1, 1).value
