"""Histories of a ledger, with crashes, failing statements and old payments removed, against a plain model.

HISTORIES in the environment sets how many are tried on SQLite; a tenth of them on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from gateway.payments.errors import LedgerError, LedgerUnavailable
from gateway.payments.ledger import Clocks, Ledger
from gateway.payments.ledger_rows import Call, Grouping
from gateway.payments.ledger_writer import WriterTiming
from gateway.payments.payment import Payment
from gateway.payments.ticket import MAX_WIN_PROB
from gateway.payments.verify import verify
from gateway.reason import EndReason
from harness.payment_models import orchestrator_info, signed_payment
from harness.postgresql import PostgresqlServer
from tests.payments.ledger_model import PATHS, LedgerModel, ModelPayment, ModelSession
from tests.payments.ledgers import record

HISTORIES = int(os.environ.get("HISTORIES", "2000")) // 50
pytestmark = pytest.mark.timeout(max(180, HISTORIES))
DAY = 86_400 * 10**9
START = 1_780_000_000 * 10**9
KEEP = 2 * DAY
AMOUNTS = re.compile("preload|were due|price")
"""What is found of the model's payments, which are worth anything."""
PUBLISHERS = ("", "token 1", "customer 2")
"""Of each stream."""
SECONDS = st.sampled_from([0, 1, 59, 3600, 5 * 3600, 26 * 3600])

Operation = tuple[Any, ...]
OPERATIONS = st.one_of(
    st.tuples(st.just("open"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 2)),
    st.tuples(
        st.just("pay"),
        st.integers(0, 9),
        st.sampled_from([1, 2, 60]),
        st.sampled_from([10**15, 7, 10**21]),
        st.sampled_from(PATHS),
        SECONDS,
    ),
    st.tuples(st.just("lose"), st.integers(0, 9)),
    st.tuples(st.just("close"), st.integers(0, 9)),
    st.tuples(st.just("pass"), SECONDS),
    st.tuples(st.just("fail"), st.integers(1, 6)),
    st.tuples(st.just("remove")),
    st.tuples(st.just("crash")),
)


class Failing:
    """Makes the statement of a transaction that changes something fail, so many from now."""

    def __init__(self) -> None:
        self.after = 0

    def statement(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if self.after and statement.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE"):
            self.after -= 1
            if not self.after:
                raise OperationalError(statement, None, Exception("a failing statement"))


@dataclass
class History:
    """One ledger, and the model that it is held against."""

    where: str
    failing: Failing
    node: str | None = None
    wall: int = START
    monotonic: int = 10**12
    model: LedgerModel = field(default_factory=LedgerModel)
    rand: int = 0

    async def run(self, operations: list[Operation]) -> None:
        self.ledger = await self.open()
        try:
            for name, *arguments in operations:
                await getattr(self, f"do_{name}")(*arguments)
            self.failing.after = 0
            await self.check()
            self.model.restart()
        finally:
            await self.ledger.close()
        self.ledger = await self.open()
        try:
            await self.check()
        finally:
            await self.ledger.close()

    async def open(self) -> Ledger:
        clocks = Clocks(lambda: self.wall, lambda: self.monotonic)
        timing = WriterTiming(write_timeout=0, probe_interval=3600 * 10**9)
        return await Ledger.open(self.where, timing, node=self.node, clocks=clocks)

    async def written(self, line: Coroutine[Any, Any, Any]) -> Any:
        """What a line gives, False where it failed; whoever pays would give up then."""
        try:
            return await line or True
        except LedgerUnavailable:
            return False

    def session(self, index: int) -> ModelSession | None:
        live = [session for session in self.model.sessions if session.closed is None]
        return live[index % len(live)] if live else None

    async def do_open(self, stream: int, orchestrator: int) -> None:
        address, publisher = f"0x{orchestrator}", PUBLISHERS[stream]
        made = replace(record(f"stream{stream}"), orchestrator_address=address, publisher=publisher)
        if session_id := await self.written(self.ledger.open_session(made)):
            self.model.sessions.append(ModelSession(session_id, f"stream{stream}", address, publisher))

    async def do_move(self, index: int, stream: int) -> None:
        """The first payment of a session starts the job of another stream."""
        session = self.session(index)
        if session is None or session.asked or len(session.payments) > 1:
            return
        job = replace(record("").job, stream_id=f"stream{stream}")
        if await self.written(self.ledger.move_session(session.id, job, PUBLISHERS[stream])):
            session.stream_id, session.publisher = f"stream{stream}", PUBLISHERS[stream]

    async def do_pay(self, index: int, tickets: int, ev: int, path: tuple[str, ...], seconds: int) -> None:
        session = self.session(index)
        if session is None:
            return
        self.rand += 1
        made = Payment.read(signed_payment(orchestrator_info(price=ev, rand=self.rand), 1, tickets))
        number, ledger, asked_ns = len(session.payments) + 1, self.ledger, self.wall
        if not await self.written(ledger.intended(session.id, number)):
            return
        session.asked = True
        self.do_pass_seconds(1)
        price = Fraction(10**15)
        signed = ledger.signed(session.id, number, made, manifest_id="m", price=price)
        if not await self.written(signed):
            return
        session.asked = False
        one = ModelPayment(made, asked_ns, self.wall, ["signed"])
        session.payments.append(one)
        lines: dict[str, Callable[[str, int], Coroutine[Any, Any, None]]] = {
            "withheld": lambda *of: ledger.withheld(*of, "why"),
            "delivered": ledger.delivered,
            "unknown": lambda *of: ledger.unknown(*of, "no\nanswer\0 \ud800"),
            "credited": ledger.credited,
            "handed_out": lambda *of: ledger.handed_out(*of, "503"),
            "refused": lambda *of: ledger.refused(*of, "400"),
        }
        for step in path[1:]:
            self.do_pass_seconds(seconds)
            if not await self.written(lines[step](session.id, number)):
                return
            if step != one.state or step != "credited":
                one.steps.append(step)

    async def do_lose(self, index: int) -> None:
        session = self.session(index)
        if session is not None:
            number = len(session.payments) + 1
            lost = self.ledger.lost(session.id, number, Fraction(10**16, 3), "reset")
            session.lost += await self.written(lost)

    async def do_close(self, index: int) -> None:
        session = self.session(index)
        if session is not None:
            closing = self.ledger.close_session(session.id, EndReason.DELETED, owed=Fraction(1, 3))
            if await self.written(closing):
                session.closed = "deleted"

    async def do_pass(self, seconds: int) -> None:
        self.do_pass_seconds(seconds)

    def do_pass_seconds(self, seconds: int) -> None:
        self.wall += seconds * 10**9
        self.monotonic += seconds * 10**9

    async def do_fail(self, after: int) -> None:
        self.failing.after = after

    async def do_remove(self) -> None:
        self.failing.after = 0
        removed = await self.ledger.retention.remove(KEEP)
        assert removed == self.model.remove(self.wall - KEEP)

    async def do_crash(self) -> None:
        self.failing.after = 0
        await self.ledger.close()  # closes no session: what is on disk is what a crash leaves
        self.model.restart()
        self.ledger = await self.open()

    async def check(self) -> None:
        model, reader = self.model, self.ledger.reader
        for by in Grouping:
            assert {total.key: total.wei for total in await reader.totals(by)} == model.totals(by)
        found = [session async for session in reader.sessions(payments=True)]
        assert [session.row["id"] for session in found] == [session.id for session in model.sessions]
        for session, expected in zip(found, model.sessions, strict=True):
            assert session.total.wei == model.sums(expected)
            assert (session.closed and session.closed["reason"]) == expected.closed
            kept = {
                payment.row["number"]: [step["step"] for step in payment.steps]
                async for payment in reader.payments_of(session)
            }
            assert kept == {
                number: ["intended", *one.steps]
                for number, one in enumerate(expected.payments, 1)
                if not one.removed
            }
        for ago in (3600, 24 * 3600):
            since = self.wall - ago * 10**9
            sums: dict[str, Fraction] = {}
            for _, wei, publisher in await reader.signed_since(since):
                sums[publisher] = sums.get(publisher, Fraction(0)) + wei
            assert {name: wei for name, wei in sums.items() if wei} == model.signed_since(since)
        await self.check_luck()
        await self.check_calls()
        verification = await verify(reader)
        assert [finding for _, finding in verification.findings if not AMOUNTS.search(finding)] == []

    async def check_luck(self) -> None:
        sums: dict[tuple[str, str], tuple[int, Fraction]] = {}
        for some in await self.ledger.redemptions.handed_out():
            tickets, value = sums.get((some.day, some.orchestrator), (0, Fraction(0)))
            sums[some.day, some.orchestrator] = (
                tickets + some.tickets,
                value + Fraction(some.value, MAX_WIN_PROB),
            )
        assert sums == self.model.handed_out()

    async def check_calls(self) -> None:
        calls = [call async for call in self.ledger.reader.signer_calls()]
        lost = sum(call.call is Call.LOST for call in calls)
        kept = [one for session in self.model.sessions for one in session.payments if not one.removed]
        assert len(calls) - lost == len(kept)
        assert sum(call.call is Call.WITHHELD for call in calls) == sum(
            one.state == "withheld" for one in kept
        )
        assert lost <= sum(session.lost for session in self.model.sessions)


def check(where: str, operations: list[Operation], node: str | None = None) -> None:
    failing = Failing()
    event.listen(Engine, "before_cursor_execute", failing.statement)
    try:
        asyncio.run(History(where, failing, node).run(operations))
    finally:
        event.remove(Engine, "before_cursor_execute", failing.statement)


HISTORY = st.lists(OPERATIONS, min_size=1, max_size=25).map(lambda some: [("open", 0, 0), *some])
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@given(HISTORY)
@settings(max_examples=HISTORIES, suppress_health_check=SUPPRESSED)
def test_a_file_says_what_happened_to_the_wei(operations: list[Operation]) -> None:
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        check(str(Path(folder) / "ledger.sqlite3"), operations)


@given(HISTORY)
@settings(max_examples=max(1, HISTORIES // 5), suppress_health_check=SUPPRESSED)
def test_a_server_says_what_happened_to_the_wei(
    postgresql: PostgresqlServer, operations: list[Operation]
) -> None:
    check(postgresql.database(), operations)


@given(HISTORY)
@settings(max_examples=max(1, HISTORIES // 5), suppress_health_check=SUPPRESSED)
def test_a_node_of_a_cluster_says_what_happened_to_the_wei(
    postgresql: PostgresqlServer, operations: list[Operation]
) -> None:
    check(postgresql.database(), operations, "one")


@pytest.mark.asyncio
async def test_a_step_that_cannot_follow_is_refused_and_changes_nothing(where: str) -> None:
    ledger = await Ledger.open(where)
    session = await ledger.open_session(record("one"))
    made = Payment.read(signed_payment(orchestrator_info(), 1, 60))
    with pytest.raises(LedgerError, match="not asked for"):
        await ledger.signed(session, 1, made, manifest_id="", price=made.ticket_ev)
    with pytest.raises(LedgerError, match="unknown"):
        await ledger.credited(session, 1)
    await ledger.intended(session, 1)
    await ledger.signed(session, 1, made, manifest_id="", price=made.ticket_ev)
    with pytest.raises(LedgerError, match="credited after signed"):
        await ledger.credited(session, 1)
    with pytest.raises(LedgerError, match="signed before"):
        await ledger.signed(session, 1, made, manifest_id="", price=made.ticket_ev)
    await ledger.close_session(session, EndReason.DELETED)
    with pytest.raises(LedgerError, match="closed before"):
        await ledger.close_session(session, EndReason.DELETED)
    assert (await verify(ledger.reader)).findings == []
    await ledger.close()
