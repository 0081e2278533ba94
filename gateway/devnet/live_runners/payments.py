"""What both dialects' payments share: challenges, reserving against tickets, debits."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.devnet.live_runners.challenge import ChallengeMaker
from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.price import RunnerPrice
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.registry import MAX_SESSIONS, RunnerRegistry
from gateway.devnet.live_runners.runner import RegisteredRunner
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.orchestrator.conduct import HONEST, Conduct
from gateway.devnet.orchestrator.session import Session, Sessions
from gateway.devnet.orchestrator.ticket_receiver import TicketReceiver

TIMER_SLACK = 0.005
"""Seconds that a debit comes late, so that the event loop's rounding never makes it early."""

Json = dict[str, Any]


@dataclass(slots=True)
class Debits:
    """How fast sessions are debited, against their price; may be changed while they run."""

    rate: Fraction
    interval: float


class Payments(ABC):
    """Takes payments for sessions. The subclasses are the dialects."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        registry: RunnerRegistry,
        challenges: ChallengeMaker,
        receiver: TicketReceiver,
        accounts: Sessions,
        debits: Debits,
        monotonic_ns: Callable[[], int],
        conduct: Conduct = HONEST,
    ) -> None:
        self.dialect = dialect
        self._conduct = conduct
        self._registry = registry
        self._challenges = challenges
        self._receiver = receiver
        self._accounts = accounts
        self._debits = debits
        self._now_ns = monotonic_ns
        self._timers: dict[LiveSession, asyncio.TimerHandle] = {}

    @abstractmethod
    def challenge(self, runner: RegisteredRunner, payer: bytes) -> Json:
        """The body of a 402: what `payer` (20 bytes) needs to pay for a session. Reserves nothing."""

    @abstractmethod
    async def reserve(self, runner: RegisteredRunner, payment: str, segment: str) -> Json:
        """Reserve a session for the two headers; returns the answer. Raises an OrchestratorRefusal."""

    @abstractmethod
    async def pay(
        self, runner: RegisteredRunner, session: LiveSession, payment: str, segment: str
    ) -> bytes | Json:
        """Credit a payment to a session; returns the answer's body. Raises an OrchestratorRefusal."""

    @abstractmethod
    def refresh(self, payer: bytes, manifest_id: str) -> Json:
        """New ticket params at the session's price. Raises an OrchestratorRefusal."""

    def payment_url(self, runner: RegisteredRunner, session_id: str) -> str:
        return f"{self._registry.session_url(runner)}/{session_id}/payment"

    def forget(self, session: LiveSession) -> None:
        """A session was released: stop debiting it."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()
        if session.account is not None:
            session.account.ended = True

    @contextmanager
    def _slot(self, runner: RegisteredRunner, session_id: str, *, full_status: int) -> Iterator[None]:
        """Hold a slot while tickets are checked. Raises RequestRefused where there is none."""
        if runner.holds(session_id):
            raise RequestRefused(409, "session exists")
        if runner.full:
            raise RequestRefused(full_status, "runner is at capacity")
        if self._registry.session_count >= MAX_SESSIONS:
            raise RequestRefused(503, "too many sessions")
        runner.pending.add(session_id)
        try:
            yield
        except BaseException:
            self._accounts.end(session_id)
            raise
        finally:
            runner.pending.discard(session_id)

    def _cheat(self, full_status: int) -> None:
        """Raise RequestRefused where this orchestrator is one that takes tickets for nothing."""
        if self._conduct.refuses_paid:
            raise RequestRefused(full_status, "runner is at capacity")

    def _begin(self, runner: RegisteredRunner, session_id: str, price: RunnerPrice, account: Session) -> Json:
        """Reserve a paid session and start its clock. Raises RequestRefused where the runner has gone."""
        if self._registry.runners.get(runner.route) is not runner:
            self._accounts.end(session_id)
            raise RequestRefused(404, "session ended during payment")
        if self._conduct.moves:
            self._challenges.move()
        account.ended = False
        session = LiveSession(session_id, price, account, self._now_ns())
        account.price = price.per_second
        answer = self._registry.reserve(runner, session)
        if session.metered:
            self._debit_later(runner, session, asyncio.get_running_loop().time())
        return answer

    def _debit_later(self, runner: RegisteredRunner, session: LiveSession, after: float) -> None:
        at = after + self._debits.interval
        self._timers[session] = asyncio.get_running_loop().call_at(
            at + TIMER_SLACK, self._debit, runner, session, at
        )

    def _debit(self, runner: RegisteredRunner, session: LiveSession, at: float) -> None:
        units = session.due(self._now_ns(), self._debits.rate)
        debit = session.charge if self.dialect.rounds_up else session.debit
        if not units or debit(units):
            self._debit_later(runner, session, at)
        else:
            self._registry.release(runner, session, "the balance does not cover it")
