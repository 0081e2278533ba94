"""Histories of three nodes that share limits and take sessions over, against a plain model.

Messages are doubled, late and lost, nodes are restarted, and time passes between a question and its answer.
HISTORIES in the environment sets how many are tried, a hundred times as many elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.payments.errors import LedgerError, SessionTakenOver
from gateway.payments.holds import HELD_NS, MINUTE, SKEW, WINDOW_NS
from gateway.payments.ledger import Ledger
from gateway.payments.payment import Payment
from gateway.payments.shared_limits import Counted, refusal
from gateway.payments.spending import HOUR, SpendLimitReached
from gateway.payments.verify import verify
from gateway.reason import EndReason
from harness.postgresql import PostgresqlServer
from tests.payments.nodes import EV, Clock, made_of, open_node, open_session, request, sign

HISTORIES = int(os.environ.get("HISTORIES", "2000")) // 100
pytestmark = pytest.mark.timeout(max(180, 10 * HISTORIES))
NAMES = ("one", "two", "three")
PUBLISHERS = ("a", "b")
ALL, OWN, STARTS = 12, 8, 3
"""Tickets that all may cost in an hour, tickets of one publisher, and its paid starts in a minute."""
AFTER = 3 * 24 * 3600
"""Seconds between two histories on one ledger, which know nothing of each other."""

NODE, SESSION = st.integers(0, 2), st.integers(0, 5)
Operation = tuple[Any, ...]
OPERATIONS = st.one_of(
    st.tuples(st.just("open"), NODE, st.integers(0, 1)),
    st.tuples(st.just("ask"), SESSION, st.integers(1, 6)),
    st.tuples(st.just("sign"), SESSION, st.integers(1, 7)),
    st.tuples(st.just("pay"), SESSION, st.integers(1, 4)),
    st.tuples(st.just("release"), SESSION),
    st.tuples(st.just("late"), SESSION),
    st.tuples(st.just("take_over"), NODE, SESSION),
    st.tuples(st.just("close"), SESSION),
    st.tuples(st.just("restart"), NODE),
    st.tuples(st.just("pass"), st.sampled_from([1, 30, 61, 121, 1800, 3700])),
)


@dataclass
class Session:
    """One that is open. `former` are keys that may write no more, with the node that has them."""

    key: str
    node: int
    publisher: str
    request_id: str
    signed: int = 0
    asked: int = 0
    most: int = 0
    held_until: int = 0
    started: int | None = None
    former: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Cluster:
    """Three nodes, and what they are held against: tickets that count, by the minute of their signing."""

    where: str
    clock: Clock
    nodes: list[Ledger]
    sessions: list[Session] = field(default_factory=list)
    over: list[Session] = field(default_factory=list)
    counted: list[tuple[int, str, int]] = field(default_factory=list)
    rand: int = 0
    opened: int = 0

    async def run(self, operations: list[Operation]) -> None:
        self.clock.pass_seconds(AFTER)
        self.sessions, self.over, self.counted = [], [], []
        for name, *arguments in operations:
            await getattr(self, f"do_{name}")(*arguments)
            assert await self.spent(None) == self.tickets(None) <= ALL
            for publisher in PUBLISHERS:
                assert await self.spent(publisher) == self.tickets(publisher) <= OWN
        for session in self.sessions:
            await self.nodes[session.node].close_session(session.key, EndReason.DELETED)

    def chosen(self, index: int) -> Session | None:
        return self.sessions[index % len(self.sessions)] if self.sessions else None

    # the model

    def tickets(self, publisher: str | None) -> int:
        since = self.clock.ns // MINUTE - HOUR - SKEW
        return sum(
            tickets for minute, of, tickets in self.counted if minute >= since and publisher in (None, of)
        )

    def held(self, publisher: str | None, session: Session) -> int:
        """What others hold."""
        return sum(
            one.most
            for one in [*self.sessions, *self.over]
            if one is not session and one.held_until > self.clock.ns and publisher in (None, one.publisher)
        )

    def fits(self, session: Session, tickets: int) -> bool:
        publisher = session.publisher
        return (
            self.tickets(None) + self.held(None, session) + tickets <= ALL
            and self.tickets(publisher) + self.held(publisher, session) + tickets <= OWN
        )

    def starts(self, session: Session) -> int:
        others = {
            one.request_id
            for one in [*self.sessions, *self.over]
            if one.started is not None
            and one.started > self.clock.ns - WINDOW_NS
            and one.publisher == session.publisher
        }
        return len(others - {session.request_id})

    # what happens

    async def spent(self, publisher: str | None) -> Fraction:
        since = (self.clock.ns // MINUTE - HOUR - SKEW) * MINUTE
        signed = await self.nodes[0].reader.signed_since(since)
        return sum((wei for _, wei, of in signed if publisher in (None, of)), Fraction(0)) / EV

    async def allowed(self, line: Coroutine[Any, Any, None]) -> bool:
        try:
            await line
        except SpendLimitReached:
            return False
        return True

    def asks(self, session: Session, tickets: int) -> Any:
        limits = {"hour": ALL, "publisher_hour": OWN, "starts": STARTS}
        return request(tickets, publisher=session.publisher, request_id=session.request_id, **limits)

    async def do_open(self, node: int, publisher: int) -> None:
        self.opened += 1
        made = Session("", node, PUBLISHERS[publisher], f"r{self.opened}")
        made.key = await open_session(self.nodes[node], publisher=made.publisher, request_id=made.request_id)
        self.sessions.append(made)

    async def do_ask(self, index: int, tickets: int) -> None:
        """Also once more for the same payment: the signer's answer was lost, or the ledger's."""
        session = self.chosen(index)
        if session is None:
            return
        number = session.signed + 1
        expected = self.fits(session, tickets) and (number > 1 or self.starts(session) < STARTS)
        line = self.nodes[session.node].intended(session.key, number, self.asks(session, tickets))
        assert await self.allowed(line) is expected
        if expected:
            session.asked, session.most, session.held_until = number, tickets, self.clock.ns + HELD_NS
            if number == 1 and session.started is None:
                session.started = self.clock.ns

    async def do_sign(self, index: int, tickets: int) -> None:
        session = self.chosen(index)
        if session is None or session.asked != session.signed + 1:
            return
        self.rand += 1
        held = session.most if session.held_until > self.clock.ns else 0
        expected = tickets <= held or self.fits(session, tickets)
        made = made_of(tickets, self.rand)
        line = sign(self.nodes[session.node], session.key, session.asked, made, self.asks(session, tickets))
        assert await self.allowed(line) is expected
        session.signed, session.most = session.asked, 0
        if expected:
            self.counted.append((self.clock.ns // MINUTE, session.publisher, tickets))
        with pytest.raises(LedgerError, match="signed before"):  # the same once more
            await sign(self.nodes[session.node], session.key, session.asked, made)

    async def do_pay(self, index: int, tickets: int) -> None:
        await self.do_ask(index, tickets)
        await self.do_sign(index, tickets)

    async def do_release(self, index: int) -> None:
        session = self.chosen(index)
        if session is not None and session.asked > session.signed:
            await self.nodes[session.node].release(session.key, session.asked)
            session.most = 0
            if session.asked == 1:
                session.started = None

    async def do_late(self, index: int) -> None:
        """What former owners still wanted to write."""
        session = self.chosen(index)
        for node, key in () if session is None else session.former:
            assert session is not None
            for line in (
                self.nodes[node].intended(key, session.signed + 1, self.asks(session, 1)),
                sign(self.nodes[node], key, session.signed + 1, self.payment()),
                self.nodes[node].release(key, session.asked),
                self.nodes[node].close_session(key, EndReason.DELETED),
            ):
                with pytest.raises(SessionTakenOver):
                    await line

    def payment(self) -> Payment:
        self.rand += 1
        return made_of(1, self.rand)

    async def do_take_over(self, node: int, index: int) -> None:
        session = self.chosen(index)
        if session is None or not session.signed:
            return
        (left,) = [one for one in await self.nodes[node].left_jobs("cam") if one.session_id == session.key]
        former = await self.nodes[node].take_over(left.session_id)
        assert former.signed == session.signed
        assert former.unanswered == (session.asked if session.asked > session.signed else None)
        with pytest.raises(SessionTakenOver):
            await self.nodes[(node + 1) % 3].take_over(left.session_id)
        session.former.append((session.node, session.key))
        session.node, session.key = node, former.session_id
        session.asked = session.asked if session.asked > session.signed else 0

    async def do_close(self, index: int) -> None:
        session = self.chosen(index)
        if session is not None:
            await self.nodes[session.node].close_session(session.key, EndReason.DELETED)
            self.end(session)

    async def do_restart(self, node: int) -> None:
        """Jobs that paid are kept, the others' sessions are closed."""
        await self.nodes[node].close()
        self.nodes[node] = await open_node(self.where, NAMES[node], self.clock)
        kept = {str(one.session_id): one.session_id for one in await self.nodes[node].former_jobs()}
        for session in [one for one in self.sessions if one.node == node]:
            if str(session.key) in kept:
                session.former.append((node, session.key))
                session.key = kept[str(session.key)]
            else:
                assert not session.signed
                self.end(session)

    def end(self, session: Session) -> None:
        session.most = 0
        self.sessions.remove(session)
        self.over.append(session)

    async def do_pass(self, seconds: int) -> None:
        self.clock.pass_seconds(seconds)


def test_three_nodes_never_exceed_a_limit_and_refuse_nothing_that_fits(postgresql: PostgresqlServer) -> None:
    where, clock = postgresql.database(), Clock()
    histories = st.lists(OPERATIONS, min_size=1, max_size=30)
    with asyncio.Runner() as runner:
        nodes = [runner.run(open_node(where, name, clock)) for name in NAMES]
        cluster = Cluster(where, clock, nodes)

        @given(histories.map(lambda some: [("open", 0, 0), ("open", 1, 0), ("open", 2, 1), *some]))
        @settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def check(operations: list[Operation]) -> None:
            runner.run(cluster.run(operations))

        try:
            check()
            assert runner.run(verify(cluster.nodes[0].reader)).findings == []
        finally:
            for ledger in cluster.nodes:
                runner.run(ledger.close())


UNITS = 2**256 - 1


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_what_fits_to_the_last_unit_is_allowed(spent: int, most: int, wei: int) -> None:
    asks = request(0, publisher="a", hour=None)
    limited = type(asks)(Fraction(most), "r1", type(asks.budget)("a", wei, None), asks.limits)
    allowed = not refusal(limited, Counted(publisher_hour=spent * UNITS), most * UNITS, starts=False)
    assert allowed == (spent + most <= wei)
    above = refusal(limited, Counted(publisher_hour=spent * UNITS + 1), most * UNITS, starts=False)
    assert bool(above) == (spent + most >= wei)


def test_a_fraction_of_a_unit_is_held_as_a_whole_one() -> None:
    asks = request(1)
    assert type(asks)(Fraction(1, 3 * UNITS), "r1", asks.budget, asks.limits).units == 1
    assert type(asks)(Fraction(7), "r1", asks.budget, asks.limits).units == 7 * UNITS
