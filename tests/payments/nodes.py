"""Nodes of a cluster on one ledger, with a clock that tests set."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from gateway.payments.ledger import Clocks, Ledger
from gateway.payments.ledger_writer import WriterTiming
from gateway.payments.payment import Payment
from gateway.payments.saved_jobs import JobDetails, SavedJob
from gateway.payments.saved_session import save
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.spending import PublisherBudget, SpendLimits
from tests.payments.ledgers import payment, record
from tests.payments.sessions import S, new_session, sign_and_start

START = 1_780_000_000 * 10**9
EV = payment(1, 1, 1).value
"""Wei of one of the tests' tickets."""


class Clock:
    """The wall clock of all nodes, and their machines' monotonic one."""

    def __init__(self) -> None:
        self.ns = START
        self.monotonic_from = START

    def pass_seconds(self, seconds: int) -> None:
        self.ns += seconds * 10**9

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.ns, lambda: self.ns - self.monotonic_from)


async def open_node(where: str, name: str, clock: Clock) -> Ledger:
    return await Ledger.open(where, WriterTiming(write_timeout=0), node=name, clocks=clock.clocks)


def limit(tickets: int) -> int:
    """A limit in wei into which so many of the tests' tickets fit, and no more."""
    return -(-tickets * EV // 1)


def request(
    tickets: int,
    *,
    publisher: str = "",
    request_id: str = "r1",
    hour: int | None = None,
    publisher_hour: int | None = None,
    starts: int | None = None,
) -> HoldRequest:
    """At most so many tickets, within limits that are numbers of tickets."""
    budget = PublisherBudget(
        publisher, None if publisher_hour is None else limit(publisher_hour), None, starts
    )
    limits = SpendLimits(hour=None if hour is None else limit(hour))
    return HoldRequest(tickets * EV, request_id, budget, limits)


async def open_session(ledger: Ledger, *, publisher: str = "", request_id: str = "r1") -> str:
    made = record("one")
    return await ledger.open_session(
        replace(made, job=replace(made.job, request_id=request_id), publisher=publisher)
    )


def made_of(tickets: int, rand: int) -> Payment:
    return payment(rand, 1, tickets)


async def sign(
    ledger: Ledger, session: str, number: int, made: Payment, request: HoldRequest | None = None
) -> None:
    """The signing that was asked for, with a job that another node can go on with."""
    running = new_session()
    sign_and_start(running, S)
    saved = SavedJob.of(JobDetails({}), save(running))
    await ledger.signed(
        session, number, made, manifest_id="", price=Fraction(10**15), saved=saved, request=request
    )
