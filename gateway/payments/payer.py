"""The loop around one payment session: what it asks for is done, written down and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from fractions import Fraction
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Deliver, Leave, Refresh, RefreshKind, Sign, Start, Wait
from gateway.payments.figures import json_seconds, seconds_between
from gateway.payments.ledger import Ledger, LedgerError, SessionRecord
from gateway.payments.payment import Payment, PaymentMismatch
from gateway.payments.session import NANOSECONDS, PRELOAD, PaymentSession, wants_payment
from gateway.payments.spending import Hold, Spending, SpendLimitReached
from gateway.payments.timebase import now_ns
from gateway.reason import Ended, EndReason
from gateway.tasks import spawn
from signer_client import (
    BadRequest,
    LivePayment,
    MaxPrice,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerBadAnswer,
    SignerClient,
    SignerUnavailable,
    SignerUnreachable,
)

VERIFIED_ON_THE_LOOP = 5
"""Payments of more tickets than this have their signatures checked in a thread."""


class Payer:
    """Pays one orchestrator for one job.

    `first_payment` buys the first credit, the caller starts the job with it and says how that went
    (`job_started`, `job_refused`), `run` pays until it is cancelled or raises Ended, and `close` follows in
    every case. `info` must ask to be paid (ValueError otherwise). `interval` is nanoseconds between
    payments, `ceiling` wei per second, `limit` wei that this stream may cost, `sender` the signer's address
    (0x..), `clock` monotonic nanoseconds that go on while the machine sleeps.
    """

    def __init__(
        self,
        *,
        signer: SignerClient,
        orchestrator: OrchestratorClient,
        ledger: Ledger,
        info: OrchestratorInfo,
        addr: str,
        ceiling: Fraction | None,
        interval: int,
        capabilities: bytes,
        sender: str,
        stream: str,
        stream_id: str,
        request_id: str,
        spending: Spending,
        limit: int | None = None,
        clock: Callable[[], int] = now_ns,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        if not wants_payment(info):
            raise ValueError("this orchestrator takes no payments")
        self._signer = signer
        self._orchestrator = orchestrator
        self._ledger = ledger
        self._addr = addr
        self._capabilities = capabilities
        self._sender = sender
        self._sender_bytes = bytes.fromhex(sender.removeprefix("0x"))
        self._clock = clock
        self._log = log if log is not None else structlog.get_logger("payments")
        self._spending = spending
        self._limit = limit
        self._max_price = None if ceiling is None else MaxPrice.of(money.wei_per_pixel(ceiling))
        self._session = PaymentSession(info, interval=interval, ceiling=ceiling)
        self._record = SessionRecord(
            stream=stream,
            stream_id=stream_id,
            request_id=request_id,
            sender=sender,
            orchestrator_address=info.address,
            orchestrator_url=info.url,
            orchestrator_addr=addr,
            price=info.price or Fraction(0),
            ceiling=ceiling,
            interval_ns=self._session.interval,
        )
        self._ledger_id = ""
        self._intended = 0
        self._number = 0
        self._handed_out = False
        self._under_way: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._credit_was_low = False
        self._alarms = 0

    # the job's side

    async def first_payment(self) -> LivePayment:
        """Open the session and sign what the job's start has to carry. Raises Ended where that cannot be."""
        action = self._session.next(self._clock())
        if isinstance(action, Leave):
            raise Ended(action.reason, action.detail)
        self._announce_cadence()
        await self._finish(self._open())
        while not isinstance(action, Start):
            await self._do(action)
            action = self._session.next(self._clock())
        await self._finish(self._note(self._ledger.delivered(self._ledger_id, self._number, "job start")))
        self._handed_out = True
        return action.payment.live

    async def job_started(self, manifest_id: str) -> None:
        """The job runs under this id: its first payment is credited, and the fee counts from now."""
        payment = self._session.pending
        self._session.started(manifest_id, self._clock())
        await self._finish(self._credited(payment, f"job started, manifest id {manifest_id or 'missing'}"))

    async def job_refused(self, error: OrchestratorError) -> None:
        """The job did not start, and whether its payment may have been credited shows in the error."""
        self._session.start_failed(str(error))
        unknown = isinstance(error, UnknownOutcome | BadAnswer)
        write = self._ledger.unknown if unknown else self._ledger.refused
        await self._finish(self._note(write(self._ledger_id, self._number, str(error))))

    async def run(self) -> None:
        """Pay until cancelled. Raises Ended with the reason to leave the orchestrator."""
        while True:
            await self._do(self._session.next(self._clock()))

    async def close(self, reason: EndReason) -> None:
        """End the session: what is under way is finished and written down, and nothing more is signed.

        Goes on in the background where the caller does not wait for its end.
        """
        if self._closing is None:
            self._session.end(self._clock())
            self._closing = spawn(self._settle(reason), name=f"payment-settling {self._record.request_id}")
        await asyncio.shield(self._closing)

    # what others may look at

    @property
    def info(self) -> OrchestratorInfo:
        """The newest OrchestratorInfo that is paid on."""
        return self._session.info

    @property
    def credited(self) -> Fraction:
        """Wei that were credited, exactly."""
        return self._session.credited

    @property
    def owed(self) -> Fraction:
        """Wei that the time since the job's start costs, exactly."""
        return self._session.owed(self._clock())

    def out_of_credit(self) -> bool:
        """Whether the estimate says that all that was paid for is used up."""
        return self._session.credit(self._clock()) < 0

    def status(self) -> dict[str, Any]:
        """The account of this job's payments, as the status route shows it."""
        session, now = self._session, self._clock()
        return {
            "accepted": session.accepted,
            "tickets": session.tickets,
            "credited_wei": money.whole_wei(session.credited),
            "owed_wei": money.whole_wei(session.owed(now)),
            "last_accepted_age_s": seconds_between(session.last_accepted_at, now),
            "next_due_in_s": seconds_between(now, session.due_at),
            "credit_left_s": json_seconds(session.credit_seconds(now)),
            "state": self._state(),
            "alarms": self._alarms,
        }

    def _state(self) -> str:
        if self._session.failures:
            return "failing"
        return "waiting" if self._session.idle or self._session.started_at is None else "ok"

    # what the session asks for

    async def _do(self, action: Any) -> None:
        match action:
            case Wait(until):
                await asyncio.sleep(max(0, until - self._clock()) / NANOSECONDS)
            case Leave(reason, detail):
                raise Ended(reason, detail)
            case Sign():
                await self._finish(self._sign(action))
            case Deliver():
                await self._finish(self._deliver(action))
            case Refresh(kind):
                await self._finish(self._refresh(kind))

    async def _finish(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step to its end even if this caller is cancelled: what it does must be written down."""
        self._under_way = spawn(step, name=f"payment {self._record.request_id}", expected=(Ended,))
        await asyncio.shield(self._under_way)

    async def _open(self) -> None:
        async def write() -> None:
            self._ledger_id = await self._ledger.open_session(self._record)

        await self._note(write())

    async def _sign(self, sign: Sign) -> None:
        """Ask for a payment, if the worst that it can cost is within every limit."""
        session = self._session
        try:
            hold = self._spending.hold(
                self._record.request_id, session.due_at_most(self._clock()), self._limit
            )
        except SpendLimitReached as limit:
            self._log.warning("spend limit reached", detail=str(limit))
            session.withheld(EndReason.SPEND_LIMIT, str(limit))
            return
        before = session.signed_count
        try:
            await self._sign_within(hold, sign)
        finally:
            if session.signed_count == before:
                hold.settle(Fraction(0))

    async def _sign_within(self, hold: Hold, sign: Sign) -> None:
        session = self._session
        if self._intended != sign.number:
            await self._note(self._ledger.intended(self._ledger_id, sign.number))
            self._intended = sign.number
        if session.ended:
            session.withheld(EndReason.PAYMENT_REFUSED, "the job ended before the signer was asked")
            return
        try:
            live = await self._signer.generate_live_payment(
                orchestrator=sign.info.raw,
                state=sign.state,
                manifest_id=sign.manifest_id,
                capabilities=self._capabilities,
                max_price=self._max_price,
                retries=0,  # the session decides when to try again
            )
        except RefreshNeeded:
            self._log.info("signer wants newer ticket params")
            session.refresh_needed()
        except NoTicketsNeeded:
            session.no_tickets_needed(self._clock())
            self._watch_credit()
        except PriceExceeded as error:
            self._log.warning("signer finds the price too high", error=str(error))
            session.price_exceeded(str(error))
        except BadRequest as error:
            self._log.error("signer refused to pay", error=str(error))
            session.signing_refused(str(error))
        except Rejected as error:
            self._log.error("signer rejected this gateway", error=str(error))
            session.signer_rejected(str(error))
        except (SignerUnavailable, SignerBadAnswer, SignerUnreachable) as error:
            answered = not isinstance(error, SignerUnreachable)
            session.signer_failed(str(error), self._clock(), answered=answered)
            self._log.warning("signer failed", error=str(error), tries=session.failures)
            self._watch_credit()
        else:
            await self._take(hold, sign, live)

    async def _take(self, hold: Hold, sign: Sign, live: LivePayment) -> None:
        """Check what the signer made, and write it down before it can be spent."""
        try:
            payment = Payment.read(live)
        except PaymentMismatch as mismatch:
            await self._mistrust(sign, mismatch)
            return
        await self._note(
            self._ledger.signed(
                self._ledger_id,
                sign.number,
                payment,
                manifest_id=sign.manifest_id,
                price=sign.info.price or Fraction(0),
            )
        )
        try:
            self._session.check(payment, self._clock())
            if payment.tickets > VERIFIED_ON_THE_LOOP:
                await asyncio.to_thread(payment.verify, self._sender_bytes)
            else:
                payment.verify(self._sender_bytes)
        except PaymentMismatch as mismatch:
            await self._mistrust(sign, mismatch)
            return
        try:
            hold.cover(payment.value, self._limit)
        except SpendLimitReached as limit:
            self._session.withheld(EndReason.SPEND_LIMIT, str(limit))
            await self._note(self._ledger.refused(self._ledger_id, sign.number, str(limit)))
            return
        self._number = sign.number
        self._session.signed(payment)

    async def _mistrust(self, sign: Sign, mismatch: PaymentMismatch) -> None:
        self._alarms += 1
        self._log.error("payment is not what was asked for", error=str(mismatch))
        self._session.mistrusted(str(mismatch))
        await self._note(self._ledger.refused(self._ledger_id, sign.number, str(mismatch)))

    async def _deliver(self, deliver: Deliver) -> None:
        session, payment = self._session, deliver.payment
        attempt = "" if deliver.attempt == 1 else f"attempt {deliver.attempt}"
        await self._note(self._ledger.delivered(self._ledger_id, self._number, attempt))
        try:
            info = await self._orchestrator.deliver_payment(
                session.info, payment=payment.live.payment, seg_creds=payment.live.seg_creds
            )
        except AlreadySeen:
            session.already_seen(self._clock())
            await self._credited(payment, "already seen")
        except BadAnswer as error:
            session.delivered(None, self._clock())
            await self._credited(payment, str(error))
        except (UnknownOutcome, Unreachable) as error:
            session.delivery_unknown(str(error), self._clock())
            self._log.warning("payment delivery unknown", error=str(error), attempt=deliver.attempt)
            self._watch_credit()
            if isinstance(error, UnknownOutcome):
                await self._note(self._ledger.unknown(self._ledger_id, self._number, str(error)))
        except (Refused, NoCapacity) as error:
            session.delivery_refused(str(error))
            self._log.error("orchestrator refused a payment", error=str(error), attempt=deliver.attempt)
            await self._note(self._ledger.refused(self._ledger_id, self._number, str(error)))
        else:
            session.delivered(info, self._clock())
            await self._credited(payment, "")

    async def _refresh(self, kind: RefreshKind) -> None:
        session = self._session
        try:
            if kind is RefreshKind.INFO:
                info = await self._orchestrator.get_info(self._addr, ignore_capacity=True)
            else:
                info = await self._orchestrator.refresh_payment(
                    session.info, sender=self._sender, manifest_id=session.manifest_id
                )
        except OrchestratorError as error:
            self._log.warning("refresh failed", kind=kind.name.lower(), error=str(error))
            session.refresh_failed(str(error), self._clock(), refused=isinstance(error, Refused))
        else:
            self._log.info("ticket params refreshed", kind=kind.name.lower())
            session.refreshed(info)

    async def _credited(self, payment: Payment | None, detail: str) -> None:
        assert payment is not None
        await self._note(self._ledger.credited(self._ledger_id, self._number, detail))
        self._log.info(
            "payment credited",
            number=self._number,
            tickets=payment.tickets,
            wei=money.whole_wei(payment.value),
            credit_left_s=json_seconds(self._session.credit_seconds(self._clock())),
            **({"detail": detail} if detail else {}),
        )
        self._watch_credit()

    async def _settle(self, reason: EndReason) -> None:
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        if not self._ledger_id:
            return
        session = self._session
        try:
            while isinstance(action := session.next(self._clock()), Deliver):
                await self._deliver(action)
            if session.pending is not None and self._handed_out and session.started_at is None:
                detail = "nobody waited for the answer to the job's start"
                await self._ledger.unknown(self._ledger_id, self._number, detail)
            owed = session.owed(self._clock())
            await self._ledger.close_session(self._ledger_id, reason, _account(session, owed), owed=owed)
        except (Ended, LedgerError) as error:
            self._log.error("payment session could not be closed in the ledger", error=str(error))
        self._log.info(
            "payments ended",
            reason=str(reason),
            credited_wei=money.whole_wei(session.credited),
            owed_wei=money.whole_wei(session.owed(self._clock())),
            payments=session.accepted,
        )

    # what people should know

    async def _note(self, write: Coroutine[Any, Any, None]) -> None:
        """Write to the ledger; where that fails no more is spent."""
        try:
            await write
        except LedgerError as error:
            raise Ended(
                EndReason.INTERNAL_ERROR, f"nothing is paid that cannot be written down: {error}"
            ) from error

    def _announce_cadence(self) -> None:
        info, interval = self._session.info, Fraction(self._session.interval, NANOSECONDS)
        price, worth = info.price, info.ticket_ev
        assert price and worth
        ticket_seconds = worth / price
        self._log.info(
            "payment cadence",
            price_wei_per_second=money.text(price),
            ticket_wei=money.whole_wei(worth),
            ticket_seconds=json_seconds(ticket_seconds),
            interval_s=json_seconds(interval),
            first_tickets=-(-PRELOAD * price // worth),
            tickets_per_payment=json_seconds(max(Fraction(1), interval / ticket_seconds)),
            payment_every_s=json_seconds(max(interval, ticket_seconds)),
        )
        if ticket_seconds > PRELOAD:
            self._log.warning(
                "one ticket is worth more than the preload: payments come rarely, and each one matters",
                ticket_seconds=json_seconds(ticket_seconds),
                preload_s=PRELOAD,
            )

    def _watch_credit(self) -> None:
        """Warn once each time that the credit falls below what one interval uses."""
        left = self._session.credit_seconds(self._clock())
        if left is None:
            return
        low = left < Fraction(self._session.interval, NANOSECONDS)
        if low and not self._credit_was_low:
            self._alarms += 1
            self._log.warning("credit is low", credit_left_s=json_seconds(left))
        self._credit_was_low = low


def _account(session: PaymentSession, owed: Fraction) -> str:
    """What a closed session leaves behind, for people."""
    left = money.whole_wei(max(Fraction(0), session.credited - owed))
    return f"{money.whole_wei(session.credited)} wei credited, {left} of them not used"
