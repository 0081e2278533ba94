"""One session's calls to its orchestrator: each payment is sent until answered, each outcome written down."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.payments.actions import Deliver
from gateway.payments.alarms import Alarms
from gateway.payments.figures import json_seconds
from gateway.payments.journal import Journal
from gateway.payments.payee import Payee
from gateway.payments.payment import Payment
from gateway.payments.session import PaymentSession


class Delivery:
    """Sends the payments that a session asks for, and tells the session each result.

    The first payment is part of the job's start request, which the caller sends. `clock` is monotonic
    nanoseconds. Every method raises Ended where the ledger cannot be written.
    """

    def __init__(
        self,
        orchestrator: Payee,
        session: PaymentSession,
        journal: Journal,
        alarms: Alarms,
        *,
        clock: Callable[[], int],
        log: FilteringBoundLogger,
    ) -> None:
        self._orchestrator = orchestrator
        self._session = session
        self._journal = journal
        self._alarms = alarms
        self._clock = clock
        self._log = log
        self._with_start: Payment | None = None
        """The first payment, until the job's start is answered."""

    async def starting(self, payment: Payment) -> None:
        """The job's start request is about to be sent with this payment."""
        await self._journal.delivered("job start")
        self._with_start = payment

    async def started(self, detail: str) -> None:
        """The job started: its payment is credited. The session was told so before."""
        payment, self._with_start = self._with_start, None
        assert payment is not None
        await self._credited(payment, detail)

    async def start_failed(self, error: OrchestratorError) -> None:
        """The job did not start; the error tells whether its payment may have been credited."""
        self._with_start = None
        unknown = isinstance(error, UnknownOutcome | BadAnswer | AlreadySeen)
        await (self._journal.unknown if unknown else self._journal.handed_out)(error.full)

    async def deliver(self, deliver: Deliver) -> None:
        """Send the payment once; without an answer the session asks for the next attempt."""
        session, payment = self._session, deliver.payment
        await self._journal.delivered("" if deliver.attempt == 1 else f"attempt {deliver.attempt}")
        try:
            info = await self._orchestrator.deliver_payment(
                session.info, payment=payment.live.payment, seg_creds=payment.live.seg_creds
            )
        except AlreadySeen:
            session.already_seen(self._clock())
            await self._credited(payment, "already seen")
        except BadAnswer as error:
            session.delivered(None, self._clock())
            await self._credited(payment, error.full)
        except (UnknownOutcome, Unreachable) as error:
            session.delivery_unknown(str(error), self._clock())
            self._log.warning("no answer to a payment", error=error.full, attempt=deliver.attempt)
            self._watch_credit()
            if isinstance(error, UnknownOutcome):
                await self._journal.unknown(error.full)
        except (Refused, NoCapacity) as error:
            session.delivery_refused(str(error))
            self._log.error("orchestrator refused a payment", error=error.full, attempt=deliver.attempt)
            self._alarms.events.failed("orchestrator", "orchestrator refused a payment", str(error))
            await self._journal.refused(error.full)
        else:
            session.delivered(info, self._clock())
            await self._credited(payment, "")

    async def settle(self) -> None:
        """After the session's end: find out, if possible, whether the last payment was credited."""
        while isinstance(action := self._session.next(self._clock()), Deliver):
            await self.deliver(action)
        if self._with_start is not None:
            await self._journal.unknown("the stream ended before the job's start was answered")

    async def _credited(self, payment: Payment, detail: str) -> None:
        await self._journal.credited(detail)
        self._alarms.events.credited()
        self._log.info(
            "payment credited",
            number=self._journal.number,
            tickets=payment.tickets,
            wei=money.whole_wei(payment.value),
            credit_left_s=json_seconds(self._credit_left()),
            **({"detail": detail} if detail else {}),
        )
        self._watch_credit()

    def _watch_credit(self) -> None:
        self._alarms.watch_credit(self._credit_left(), self._session.schedule.interval)

    def _credit_left(self) -> Fraction | None:
        return self._session.balance.seconds_left(self._clock())
